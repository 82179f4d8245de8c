"""What a backend's answers say: pure readers of JSON that nobody vouches for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from swarmplane.ids import ModelName
from swarmplane.inventory import BackendModel, ModelState

GENERIC: Final = "openai"
LLAMA_SERVER: Final = "llama-server"
LLAMA_CPP_PYTHON: Final = "llama-cpp-python"
"""Listing its models cuts off the stream it is generating (measured): it must not be polled that way."""
_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {"llamacpp": LLAMA_SERVER, "me": LLAMA_CPP_PYTHON, "vllm": "vllm", "sglang": "sglang"}
)
_STATES: Final[Mapping[str, ModelState]] = MappingProxyType(
    {"loading": ModelState.LOADING, "unloaded": ModelState.COLD, "failed": ModelState.FAILED}
)
WITH_HEALTH: Final = frozenset({LLAMA_SERVER, "vllm", "sglang"})
"""Kinds that answer ``GET /health``."""
WITH_METRICS: Final = frozenset({"vllm", "sglang"})
"""Kinds that tell at ``GET /metrics`` how full they are."""
_KV_USED: Final = frozenset({"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"})
MOST_MODELS: Final = 10_000
MOST_NAME: Final = 256
_MAX_FIGURE: Final = 1 << 53


class ListingError(ValueError):
    """The answer is no list of models; the message is for people."""


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
    entries = read_json(body).get("data")
    if not isinstance(entries, list):
        raise ListingError("its /v1/models has no list of models")
    if len(entries) > MOST_MODELS:
        raise ListingError(f"it lists {len(entries):,} models; at most {MOST_MODELS:,} are read")
    kind = GENERIC
    models: dict[str, BackendModel] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        owner = entry.get("owned_by")
        kind = _KINDS.get(owner, kind) if isinstance(owner, str) else kind
        name = entry.get("id")
        if isinstance(name, str) and 0 < len(name) <= MOST_NAME and name.isprintable():
            models.setdefault(name, _model(name, entry))
    return kind, tuple(models.values())


def read_props(body: bytes) -> tuple[int, int, str]:
    """Context of a slot in tokens, slots, and quantisation, from ``GET /props`` of llama-server.

    What it does not tell is 0, or empty.

    Raises:
        ListingError: It is no JSON object.
    """
    document = read_json(body)
    defaults = document.get("default_generation_settings")
    context = _figure(defaults, "n_ctx") if isinstance(defaults, dict) else 0
    return context, _figure(document, "total_slots"), _text(document, "model_ftype")


def read_kv_used(text: str) -> float | None:
    """Share of the context memory in use, 0 to 1, from ``GET /metrics`` of vLLM or SGLang; None: not told.

    Of several engines behind one server, the fullest.
    """
    shares = []
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.partition("{")[0] in _KV_USED:
            with contextlib.suppress(ValueError):
                shares.append(float(value))
    known = [share for share in shares if 0.0 <= share <= 1.0]
    return max(known, default=None)


def _model(name: str, entry: Mapping[str, Any]) -> BackendModel:
    meta = entry.get("meta")
    told = meta if isinstance(meta, dict) else {}
    return BackendModel(
        name=name,
        canonical=_canonical(name),
        state=_state(entry),
        context_length=_figure(told, "n_ctx") or _figure(entry, "max_model_len"),
        size_bytes=_figure(told, "size"),
        quantization=_text(told, "ftype"),
    )


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


def _figure(document: Mapping[str, Any], key: str) -> int:
    value = document.get(key)
    return value if type(value) is int and 0 < value < _MAX_FIGURE else 0


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) and len(value) <= 32 and value.isprintable() else ""  # noqa: PLR2004
