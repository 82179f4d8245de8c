"""Whether a model fits: what it will take, against what is free."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

from sidecar.engines.command import Shape
from swarmplane.gguf import Facts, kv_cache_bytes
from swarmplane.hardware.memory import memory_here
from swarmplane.ids import BackendName

_GIB: Final = 1024**3
_MIB: Final = 1024**2
_PROCESS_BYTES: Final = 60 * _MIB


@dataclass(frozen=True, slots=True)
class Estimate:
    """Memory of one engine in bytes; checked against llama.cpp's own figures to within a tenth."""

    weights: int
    context: int
    """Keys and values of all slots."""
    work: int
    """Buffers of the computation, and the process itself."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.context + self.work


def estimate(facts: Facts, shape: Shape) -> Estimate:
    """What serving ``facts`` in ``shape`` takes."""
    tokens = shape.context * shape.slots
    rows = facts.vocabulary + 2 * facts.feed_forward_length + 6 * facts.embedding_length
    work = shape.ubatch * 4 * rows + shape.ubatch * tokens * 2
    return Estimate(
        weights=facts.weights_bytes,
        context=kv_cache_bytes(facts, shape.context, shape.slots),
        work=work + _PROCESS_BYTES,
    )


def refusal(needed: Estimate, shape: Shape, free_bytes: int, headroom_ratio: float) -> str:
    """Why it can't be started, with the figures and what would help; empty where it fits."""
    wanted = needed.total * (1.0 + headroom_ratio)
    if wanted <= free_bytes:
        return ""
    smaller = needed.weights + needed.work < free_bytes
    advice = "lower engine.context_length or engine.slots" if smaller else "take a smaller model"
    return (
        f"not enough memory: it needs {_size(needed.total)} (weights {_size(needed.weights)}, "
        f"context {_size(needed.context)} for {shape.slots} x {shape.context:,} tokens, "
        f"work space {_size(needed.work)}) and {headroom_ratio:.0%} more must stay free, "
        f"but {_size(free_bytes)} is free; {advice}, or free memory"
    )


def _size(count: float) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{max(count, 0) / _MIB:.0f} MiB"


def free_bytes() -> int:
    """Memory that programs may still take on this machine, and in this container."""
    return memory_here().free


class Reservations:
    """Memory that engines have been promised and that the system does not show as taken."""

    def __init__(self) -> None:
        self._reserved: dict[BackendName, int] = {}

    def promise(self, name: BackendName, needed: Estimate) -> None:
        """``name`` is starting and will take all of it."""
        self._reserved[name] = needed.total

    def settle(self, name: BackendName, needed: Estimate) -> None:
        """``name`` has started. Linux goes on counting its mapped weights as cache that could be dropped."""
        self._reserved[name] = needed.weights if sys.platform == "linux" else 0

    def release(self, name: BackendName) -> None:
        """``name`` has ended."""
        self._reserved.pop(name, None)

    def besides(self, name: BackendName) -> int:
        """Bytes promised to all but ``name``."""
        return sum(count for other, count in self._reserved.items() if other != name)
