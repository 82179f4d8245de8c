"""What a backend's answers say: pure readers of JSON that nobody vouches for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from sidecar.core.identify import GENERIC, entries_of, signature
from swarmplane.ids import ModelName
from swarmplane.inventory import BackendModel, ModelState

_STATES: Final[Mapping[str, ModelState]] = MappingProxyType(
    {"loading": ModelState.LOADING, "unloaded": ModelState.COLD, "failed": ModelState.FAILED}
)
MOST_MODELS: Final = 10_000
MOST_NAME: Final = 256
_MAX_FIGURE: Final = 1 << 53


class ListingError(ValueError):
    """The answer is no list of models; the message is for people."""


def loaded_first(models: tuple[BackendModel, ...], most: int) -> tuple[BackendModel, ...]:
    """At most so many of ``models``: those that are loaded first, else as they are listed."""
    return tuple(sorted(models, key=lambda model: model.state is ModelState.COLD)[:most])


def read_json(body: bytes) -> Mapping[str, Any]:
    """The JSON object in ``body``.

    Raises:
        ListingError: It is none.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ListingError("it answered something that is not JSON") from error
    if not isinstance(document, dict):
        raise ListingError("it answered JSON that is not an object")
    return document


def read_models(body: bytes) -> tuple[str, tuple[BackendModel, ...]]:
    """Kind of the backend and its models, from ``GET /v1/models``. Entries that make no sense are left out.

    Raises:
        ListingError: It is no such answer.
    """
    entries = entries_of(read_json(body), "data")
    if entries is None:
        raise ListingError("its /v1/models has no list of models")
    if len(entries) > MOST_MODELS:
        raise ListingError(f"it lists {len(entries):,} models; at most {MOST_MODELS:,} are read")
    models: dict[str, BackendModel] = {}
    for entry in entries:
        name = entry.get("id")
        if isinstance(name, str) and 0 < len(name) <= MOST_NAME and name.isprintable():
            models.setdefault(name, _model(name, entry))
    return signature(entries) or GENERIC, tuple(models.values())


def read_props(body: bytes) -> tuple[int, int, str]:
    """Context of a slot in tokens, slots, and quantisation, from ``GET /props`` of llama-server.

    What it does not tell is 0, or empty.

    Raises:
        ListingError: It is no JSON object.
    """
    document = read_json(body)
    defaults = document.get("default_generation_settings")
    context = figure(defaults, "n_ctx") if isinstance(defaults, dict) else 0
    return context, figure(document, "total_slots"), text(document, "model_ftype")


def _model(name: str, entry: Mapping[str, Any]) -> BackendModel:
    meta = entry.get("meta")
    told = meta if isinstance(meta, dict) else {}
    return BackendModel(
        name=name,
        canonical=_canonical(name),
        state=_state(entry),
        context_length=figure(told, "n_ctx") or figure(entry, "max_model_len"),
        size_bytes=figure(told, "size"),
        quantization=text(told, "ftype"),
        format="gguf" if "n_ctx_train" in told else "",
        parameter_size=_parameters(figure(told, "n_params")),
        trained_context=figure(told, "n_ctx_train"),
    )


def _parameters(count: int) -> str:
    """As people write it: ``8.0B``; empty where unknown."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return ""


def _canonical(name: str) -> ModelName | None:
    """llama-server without an alias lists its file: users ask for the stem, and the folder is private."""
    if not name.lower().endswith(".gguf"):
        return None
    return ModelName(PurePosixPath(name.replace("\\", "/")).stem)


def _state(entry: Mapping[str, Any]) -> ModelState:
    """A router of several models tells which it has loaded; the others load when asked."""
    status = entry.get("status")
    value = status.get("value") if isinstance(status, dict) else None
    return _STATES.get(value, ModelState.LOADED) if isinstance(value, str) else ModelState.LOADED


def figure(document: Mapping[str, Any], key: str) -> int:
    """A whole number above 0; 0 where it does not tell one."""
    value = document.get(key)
    return value if type(value) is int and 0 < value < _MAX_FIGURE else 0


def text(document: Mapping[str, Any], key: str) -> str:
    """A word; empty where it does not tell one."""
    value = document.get(key)
    return value if isinstance(value, str) and len(value) <= 32 and value.isprintable() else ""  # noqa: PLR2004
