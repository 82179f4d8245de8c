"""Which fallbacks may be set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from controlplane.core.names import is_model_name
from swarmplane.aliases import MOST_WILD, WILD
from swarmplane.errors import InvalidRequestError
from swarmplane.fallbacks import CATEGORIES, MOST_MODELS, MOST_RULES, NO_FALLBACKS, FallbackPolicy

MOST_PULLED: Final = 64
"""Names and patterns of models that may be pulled."""


def check_fallbacks(model: str, chain: tuple[str, ...], fallbacks: FallbackPolicy) -> None:
    """That they make sense for ``model``, or for the swarm where that is empty.

    Raises:
        InvalidRequestError: They don't; says why.
    """
    if model and fallbacks != NO_FALLBACKS:
        raise InvalidRequestError(f"{model}: rules, substitution and auto-pull are set for the swarm only")
    if chain and not model:
        raise InvalidRequestError(
            "fallbacks are set for a model; for the swarm give rules", param="fallbacks"
        )
    if len(fallbacks.rules) > MOST_RULES:
        raise InvalidRequestError(f"at most {MOST_RULES} rules", param="fallback_rules")
    _check_models(chain)
    for rule in fallbacks.rules:
        _check_models(rule.models)
        if not rule.models:
            raise InvalidRequestError("a rule names no models", param="fallback_rules")
        if rule.category and rule.category not in CATEGORIES:
            known = ", ".join(CATEGORIES)
            raise InvalidRequestError(
                f"{rule.category[:64]!r} is no category; use one of {known}", param="category"
            )
        if rule.below_bytes and rule.below_bytes <= rule.from_bytes:
            raise InvalidRequestError("a rule's sizes fit no model", param="below_bytes")
        if rule.match:
            _check_patterns((rule.match,))
    if len(fallbacks.auto_pull) > MOST_PULLED:
        raise InvalidRequestError(f"at most {MOST_PULLED} names of models to pull", param="auto_pull")
    _check_patterns(fallbacks.auto_pull)


def _check_models(models: tuple[str, ...]) -> None:
    if len(models) > MOST_MODELS:
        raise InvalidRequestError(f"at most {MOST_MODELS} models in a chain", param="models")
    _check_names(models)


def _check_patterns(patterns: tuple[str, ...]) -> None:
    _check_names(patterns)
    if any(pattern.count(WILD) > MOST_WILD for pattern in patterns):
        raise InvalidRequestError(f"a pattern has at most {MOST_WILD} stars")


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if not is_model_name(name):
            raise InvalidRequestError(f"{name[:64]!r} is no name of a model")
