"""What Ollama's answers say: pure readers of JSON that nobody vouches for."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

from sidecar.backends.listing import MOST_MODELS, MOST_NAME, ListingError, read_json
from sidecar.core.residents import Resident
from sidecar.core.shown import Fact, Shown
from swarmplane.inventory import BackendModel, ModelState
from swarmplane.traits import MOST_CAPABILITIES, MOST_DIGEST, MOST_TOKENS, MOST_WORD

_MOST_BYTES: Final = 1 << 53
_NEVER_S: Final = 4_102_444_800
"""The year 2100: what is unloaded later than that is never unloaded."""


def read_tags(body: bytes, loaded: Container[str] = ()) -> tuple[BackendModel, ...]:
    """The models of ``GET /api/tags``, cold but for ``loaded`` ones; entries without sense are left out.

    Raises:
        ListingError: It is no such answer.
    """
    models: dict[str, BackendModel] = {}
    for entry in _entries(body, "/api/tags"):
        name = _name(entry)
        if name:
            state = ModelState.LOADED if name in loaded else ModelState.COLD
            models.setdefault(name, _model(name, entry, state))
    return tuple(models.values())


def read_residents(body: bytes) -> Mapping[str, Resident]:
    """What is loaded, by name, from ``GET /api/ps``.

    Raises:
        ListingError: It is no such answer.
    """
    found = {
        name: Resident(
            _figure(entry, "context_length", MOST_TOKENS),
            _expiry(entry),
            _figure(entry, "size_vram", _MOST_BYTES),
        )
        for entry in _entries(body, "/api/ps")
        if (name := _name(entry))
    }
    return MappingProxyType(found)


def read_show(body: bytes) -> Shown:
    """What ``POST /api/show`` tells. Of what it says of the file, single values alone: vocabularies are long.

    Raises:
        ListingError: It is no JSON object.
    """
    document = read_json(body)
    information = document.get("model_info")
    told = information if isinstance(information, dict) else {}
    architecture = told.get("general.architecture")
    capabilities = document.get("capabilities")
    return Shown(
        _capabilities(capabilities if isinstance(capabilities, list) else []),
        _figure(told, f"{architecture}.context_length", MOST_TOKENS),
        _long_text(document, "template"),
        _long_text(document, "parameters"),
        _long_text(document, "system"),
        _long_text(document, "license"),
        MappingProxyType(dict(islice(_facts(told), _MOST_FACTS))),
    )


def _facts(told: Mapping[str, Any]) -> Iterator[tuple[str, Fact]]:
    for name, value in told.items():
        short = len(name) <= MOST_NAME and not (isinstance(value, str) and len(value) > MOST_NAME)
        if short and isinstance(value, str | int | float):
            yield name, value


def completed(models: tuple[BackendModel, ...], shown: Mapping[str, Shown]) -> tuple[BackendModel, ...]:
    """``models`` with what was ``shown`` of them, by :func:`shown_key`."""
    return tuple(
        replace(
            model,
            context_length=told.trained_context,
            trained_context=told.trained_context,
            capabilities=told.capabilities,
        )
        for model in models
        for told in (shown.get(shown_key(model), _NOTHING),)
    )


def shown_key(model: BackendModel) -> str:
    """What everything that is shown of ``model`` follows from."""
    return model.digest or f"{model.name}@{model.modified_s}"


_NOTHING: Final = Shown()


def _entries(body: bytes, path: str) -> list[Mapping[str, Any]]:
    entries = read_json(body).get("models")
    if not isinstance(entries, list):
        raise ListingError(f"its {path} has no list of models")
    if len(entries) > MOST_MODELS:
        raise ListingError(f"it lists {len(entries):,} models; at most {MOST_MODELS:,} are read")
    return [entry for entry in entries if isinstance(entry, dict)]


def _name(entry: Mapping[str, Any]) -> str:
    name = entry.get("name") or entry.get("model")
    return name if isinstance(name, str) and 0 < len(name) <= MOST_NAME and name.isprintable() else ""


def _model(name: str, entry: Mapping[str, Any], state: ModelState) -> BackendModel:
    details = entry.get("details")
    told = details if isinstance(details, dict) else {}
    digest = _text(entry, "digest", MOST_DIGEST - len("sha256:"))
    return BackendModel(
        name=name,
        state=state,
        size_bytes=_figure(entry, "size", _MOST_BYTES),
        digest=digest if ":" in digest or not digest else f"sha256:{digest}",
        quantization=_text(told, "quantization_level"),
        family=_text(told, "family"),
        format=_text(told, "format"),
        parameter_size=_text(told, "parameter_size"),
        modified_s=_seconds(entry, "modified_at"),
    )


def _capabilities(told: list[Any]) -> tuple[str, ...]:
    """In our words: what completes text there takes conversations too."""
    words = [word for word in told if isinstance(word, str) and 0 < len(word) <= MOST_WORD]
    if "completion" in words:
        words.insert(0, "chat")
    return tuple(dict.fromkeys(words[:MOST_CAPABILITIES]))


def _expiry(entry: Mapping[str, Any]) -> int:
    seconds = _seconds(entry, "expires_at")
    return seconds if seconds < _NEVER_S else 0


def _seconds(document: Mapping[str, Any], key: str) -> int:
    value = document.get(key)
    if isinstance(value, str):
        with contextlib.suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(value)
            return max(int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()), 0)
    return 0


def _figure(document: Mapping[str, Any], key: str, most: int) -> int:
    value = document.get(key)
    return value if type(value) is int and 0 < value < most else 0


def _text(document: Mapping[str, Any], key: str, most: int = MOST_WORD) -> str:
    value = document.get(key)
    return value if isinstance(value, str) and len(value) <= most and value.isprintable() else ""


_MOST_TEXT: Final = 64 * 1024
_MOST_FACTS: Final = 256


def _long_text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) and len(value) <= _MOST_TEXT else ""
