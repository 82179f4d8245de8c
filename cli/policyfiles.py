"""Policies as people write them in TOML or JSON."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any, Final

from swarmplane.client.values import Policy
from swarmplane.errors import InvalidRequestError
from swarmplane.fallbacks import FallbackPolicy, FallbackRule

SWARM: Final = "swarm"
_GB: Final = 1e9
_OF_A_MODEL: Final = {"strategy": str, "fallbacks": list, "context_protection": str}
_OF_THE_SWARM: Final = {**_OF_A_MODEL, "substitute_loaded": bool, "auto_pull": list}
_OF_A_RULE: Final = {
    "match": str, "category": str, "from_gb": (int, float), "below_gb": (int, float), "models": list,
}  # fmt: skip


def read_policies(text: str) -> list[Policy]:
    """The policies in a document: the swarm's (without a model) and those of models.

    Raises:
        InvalidRequestError: It is none, or has more in it than is known here.
    """
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except ValueError as error:
        raise InvalidRequestError(f"the file is neither TOML nor JSON: {error}") from None
    models = found.pop("models", {})
    swarm = [_of_the_swarm(found.pop(SWARM))] if SWARM in found else []
    if found or not isinstance(models, dict):
        raise InvalidRequestError('the file may hold [swarm] and [models."NAME"] only')
    wanted = swarm + [_of_a_model(name, entry) for name, entry in models.items()]
    if not wanted:
        raise InvalidRequestError("the file names no policy")
    return wanted


def _of_a_model(name: str, entry: object) -> Policy:
    fields = _checked(name, entry, _OF_A_MODEL)
    chain = _names(name, fields.get("fallbacks", ()))
    return Policy(name, fields.get("strategy", ""), chain=chain, context=fields.get("context_protection", ""))


def _of_the_swarm(entry: object) -> Policy:
    fields = _checked(SWARM, entry, _OF_THE_SWARM)
    fallbacks = FallbackPolicy(
        tuple(_rule(one) for one in fields.get("fallbacks", ())),
        fields.get("substitute_loaded", False),
        _names("auto_pull", fields.get("auto_pull", ())),
    )
    return Policy(
        "", fields.get("strategy", ""), fallbacks=fallbacks, context=fields.get("context_protection", "")
    )


def _rule(entry: object) -> FallbackRule:
    fields = _checked("a rule of swarm.fallbacks", entry, _OF_A_RULE)
    return FallbackRule(
        _names("a rule of swarm.fallbacks", fields.get("models", ())),
        fields.get("match", ""),
        fields.get("category", ""),
        int(fields.get("from_gb", 0) * _GB),
        int(fields.get("below_gb", 0) * _GB),
    )


def _checked(what: str, entry: object, known: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(entry, dict) or not entry:
        raise InvalidRequestError(f"{what}: give it {', '.join(known)}")
    for key, value in entry.items():
        if key not in known:
            raise InvalidRequestError(f"{what}: {key!r} is not known; there are {', '.join(known)}")
        if not isinstance(value, known[key]) or (isinstance(value, bool) and known[key] is not bool):
            raise InvalidRequestError(f"{what}: {key} is of the wrong type")
    return entry


def _names(what: str, value: Any) -> tuple[str, ...]:  # noqa: ANN401
    if not all(isinstance(one, str) for one in value):
        raise InvalidRequestError(f"{what}: names of models are text")
    return tuple(value)
