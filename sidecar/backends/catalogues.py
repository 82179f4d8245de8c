"""What servers tell of their models in lists of their own: pure readers of JSON that nobody vouches for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from sidecar.backends.listing import MOST_NAME, ListingError, figure, read_json, text
from sidecar.core.identify import entries_of
from swarmplane.inventory import BackendModel, ModelState

_STATES: Final[Mapping[str, ModelState]] = MappingProxyType(
    {"loaded": ModelState.LOADED, "loading": ModelState.LOADING, "not-loaded": ModelState.COLD}
)
_TYPES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "llm": ("chat", "completion"),
        "vlm": ("chat", "completion", "vision"),
        "embeddings": ("embedding",),
        "embedding": ("embedding",),
    }
)


def read_lm_studio(body: bytes) -> tuple[BackendModel, ...]:
    """The models of LM Studio's ``GET /api/v0/models``: loaded ones, and those it loads when asked.

    Raises:
        ListingError: It is no such answer.
    """
    models: dict[str, BackendModel] = {}
    for entry in _entries(body, "data", "/api/v0/models"):
        name = _name(entry)
        if name:
            trained = figure(entry, "max_context_length")
            models.setdefault(
                name,
                BackendModel(
                    name=name,
                    state=_STATES.get(text(entry, "state"), ModelState.COLD),
                    context_length=figure(entry, "loaded_context_length") or trained,
                    capabilities=_capabilities(entry),
                    quantization=text(entry, "quantization"),
                    family=text(entry, "arch"),
                    format=text(entry, "compatibility_type"),
                    trained_context=trained,
                ),
            )
    return tuple(models.values())


def with_omlx(listed: tuple[BackendModel, ...], body: bytes) -> tuple[BackendModel, ...]:
    """``listed``, with what ``GET /v1/models/status`` of oMLX tells of each.

    Raises:
        ListingError: It is no such answer.
    """
    told = {_name(entry): entry for entry in _entries(body, "models", "/v1/models/status")}
    return tuple(_with_status(model, told[model.name]) if model.name in told else model for model in listed)


def with_localai(listed: tuple[BackendModel, ...], body: bytes) -> tuple[BackendModel, ...]:
    """``listed``, cold but for those that LocalAI's ``GET /system`` has loaded.

    Raises:
        ListingError: It is no such answer.
    """
    loaded = {_name(entry) for entry in _entries(body, "loaded_models", "/system")}
    return tuple(
        replace(model, state=ModelState.LOADED if model.name in loaded else ModelState.COLD)
        for model in listed
    )


def _with_status(model: BackendModel, entry: Mapping[str, Any]) -> BackendModel:
    state = ModelState.LOADED if entry.get("loaded") is True else ModelState.COLD
    if entry.get("is_loading") is True:
        state = ModelState.LOADING
    size = figure(entry, "actual_size") or figure(entry, "estimated_size")
    return replace(
        model,
        state=state,
        size_bytes=size or model.size_bytes,
        context_length=figure(entry, "max_context_window") or model.context_length,
        capabilities=_TYPES.get(text(entry, "model_type"), model.capabilities),
    )


def _capabilities(entry: Mapping[str, Any]) -> tuple[str, ...]:
    found = _TYPES.get(text(entry, "type"), ())
    told = entry.get("capabilities")
    return (*found, "tools") if isinstance(told, list) and "tool_use" in told else found


def _entries(body: bytes, name: str, path: str) -> tuple[Mapping[str, Any], ...]:
    entries = entries_of(read_json(body), name)
    if entries is None:
        raise ListingError(f"its {path} has no list of models")
    return entries


def _name(entry: Mapping[str, Any]) -> str:
    name = entry.get("id")
    return name if isinstance(name, str) and 0 < len(name) <= MOST_NAME and name.isprintable() else ""
