"""How busy a backend says it is: pure readers of metrics in Prometheus' text format, and of slots."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from sidecar.core.identify import LLAMA_SERVER, SGLANG, VLLM


@dataclass(frozen=True, slots=True)
class Figures:
    """At one moment, whoever's requests they are. None and 0.0: it does not tell."""

    kv_used: float | None = None
    """Share of its context memory in use, 0 to 1; of several engines behind one server the fullest."""
    running: int | None = None
    """Requests being answered."""
    waiting: int | None = None
    """Requests that wait for a slot there."""
    tokens_per_s: float = 0.0
    """Of one answer, on average."""


@dataclass(frozen=True, slots=True)
class _Names:
    """What a kind calls its figures."""

    kv_used: tuple[str, ...]
    running: str
    waiting: str
    each: str = ""
    """Tokens per second of one answer."""
    together: str = ""
    """Tokens per second of all answers."""


_NAMES: Final[Mapping[str, _Names]] = MappingProxyType(
    {
        VLLM: _Names(
            ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            together="vllm:avg_generation_throughput_toks_per_s",
        ),
        SGLANG: _Names(
            ("sglang:token_usage",),
            "sglang:num_running_reqs",
            "sglang:num_queue_reqs",
            together="sglang:gen_throughput",
        ),
        LLAMA_SERVER: _Names(
            ("llamacpp:kv_cache_usage_ratio",),
            "llamacpp:requests_processing",
            "llamacpp:requests_deferred",
            each="llamacpp:predicted_tokens_seconds",
        ),
    }
)
WITH_METRICS: Final = frozenset(_NAMES)
"""Kinds that tell at ``GET /metrics`` how full they are."""
_MOST: Final = 1_000_000
_LINE: Final = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?\s+(\S+)")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_COPIES: Final = frozenset({"tp_rank", "pp_rank", "moe_ep_rank"})
"""Labels of parts of one engine: each tells of the same requests."""


def read_metrics(kind: str, text: str) -> Figures:
    """The figures in a ``GET /metrics`` of a backend of this ``kind``. O(length)."""
    names = _NAMES.get(kind)
    if names is None:
        return Figures()
    found = _samples(text, {*names.kv_used, names.running, names.waiting, names.each, names.together})
    shares = [value for name in names.kv_used for value in found.get(name, ()) if 0.0 <= value <= 1.0]
    running = _count(found.get(names.running))
    together = sum(value for value in found.get(names.together, ()) if 0.0 < value < _MOST)
    each = next((value for value in found.get(names.each, ()) if 0.0 < value < _MOST), 0.0)
    return Figures(
        max(shares, default=None),
        running,
        _count(found.get(names.waiting)),
        together / running if together and running else each,
    )


def with_slots(figures: Figures, body: bytes) -> Figures:
    """``figures``, with what ``GET /slots`` of llama-server adds where metrics do not tell."""
    try:
        slots = json.loads(body)
    except (ValueError, RecursionError):
        return figures
    if not isinstance(slots, list) or not all(isinstance(one, dict) for one in slots):
        return figures
    busy = [one for one in slots if one.get("is_processing") is True]
    kv_used = figures.kv_used
    if kv_used is None:
        kv_used = _slots_used(slots)
    running = len(busy) if figures.running is None else figures.running
    return replace(figures, kv_used=kv_used, running=running)


def _slots_used(slots: Iterable[Mapping[str, Any]]) -> float | None:
    """Share of all slots' contexts that busy ones fill; what idle ones still hold makes room when needed."""
    used = room = 0
    for one in slots:
        context = one.get("n_ctx")
        if type(context) is not int or context <= 0:
            return None
        room += context
        if one.get("is_processing") is not True:
            continue
        prompt = one.get("n_prompt_tokens")
        if type(prompt) is not int or prompt < 0:
            return None
        used += min(prompt, context)
    return used / room if room else None


def _samples(text: str, wanted: set[str]) -> Mapping[str, tuple[float, ...]]:
    """Values by name; of parts of one engine, the greatest."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or match[1] not in wanted:
            continue
        labels = dict(_LABEL.findall(match[2] or ""))
        if labels.get("priority"):  # a part of the one without
            continue
        with contextlib.suppress(ValueError):
            key = tuple(sorted((k, v) for k, v in labels.items() if k not in _COPIES))
            values = found.setdefault(match[1], {})
            values[key] = max(float(match[3]), values.get(key, float("-inf")))
    return {name: tuple(values.values()) for name, values in found.items()}


def _count(values: Iterable[float] | None) -> int | None:
    if values is None:
        return None
    known = [value for value in values if 0.0 <= value < _MOST]
    return round(sum(known)) if known else None
