"""Slots: how many requests a replica serves at a time, who holds them, and when one is free again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto


class Ending(Enum):
    """How the exchange with a backend ended, seen from here."""

    COMPLETED = auto()
    """Its whole answer came: it is idle."""
    BROKEN = auto()
    """It closed or reset the connection: whatever it did for us is over."""
    CANCELLED = auto()
    """We closed the connection; it notices at its next token, or only when it is done."""


@dataclass(frozen=True, slots=True)
class Settling:
    """When a slot is free after a cancellation, where the backend does not tell (``/slots``)."""

    notices_s: float = 0.25
    """For backends that watch their client: llama.cpp, vLLM, Ollama while they generate."""
    prefill_s: float = 2.0
    """Before the first token they look up less often."""
    longest_s: float = 60.0
    """For backends that run to the end: the expected rest, at most this."""


def free_at_s(
    ending: Ending, now_s: float, *, answering: bool, notices: bool, rest_s: float, policy: Settling
) -> float:
    """When to release the lease, unless the backend says sooner that it is idle.

    Args:
        ending: How it ended.
        now_s: When it ended.
        answering: Whether it had begun to answer.
        notices: Whether this kind of backend stops when its client leaves.
        rest_s: How long the request would still have run, by the usual service time.
        policy: Constants.
    """
    if ending is not Ending.CANCELLED:
        return now_s
    if notices:
        return now_s + (policy.notices_s if answering else policy.prefill_s)
    return now_s + min(max(rest_s, 0.0), policy.longest_s)


class Seats:
    """Slots of the local replicas of one model. Mutable; O(replicas), 0.3 µs for one.

    A limit may fall below what is in use: nobody is sent away, and nobody is let in until it is met.
    """

    __slots__ = ("_limits", "_used")

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}
        self._used: dict[str, int] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._limits)

    @property
    def total(self) -> int:
        """Slots of all replicas."""
        return sum(self._limits.values())

    def limit(self, endpoint: str) -> int:
        """Slots of ``endpoint``; 0 if it has none."""
        return self._limits.get(endpoint, 0)

    def used(self, endpoint: str) -> int:
        """Slots of ``endpoint`` that are taken; may exceed its limit after that fell."""
        return self._used.get(endpoint, 0)

    def free(self, endpoint: str) -> int:
        """Slots of ``endpoint`` that are free; never negative."""
        return max(self._limits.get(endpoint, 0) - self._used.get(endpoint, 0), 0)

    @property
    def any_free(self) -> bool:
        """Whether a slot is free anywhere."""
        used = self._used
        return any(used.get(endpoint, 0) < limit for endpoint, limit in self._limits.items())

    def set_limit(self, endpoint: str, limit: int) -> None:
        """``endpoint`` has ``limit`` slots; 0 or less: it is gone."""
        if limit > 0:
            self._limits[endpoint] = limit
        else:
            self._limits.pop(endpoint, None)

    def place(self, *, preferred: str = "", only: str = "") -> str:
        """The endpoint to take: ``only``, ``preferred``, or the one with the largest free share; "": none."""
        if only:
            return only if self.free(only) else ""
        if preferred and self.free(preferred):
            return preferred
        best, best_share = "", 0.0
        used = self._used
        for endpoint, limit in self._limits.items():
            share = (limit - used.get(endpoint, 0)) / limit
            if share > best_share:
                best, best_share = endpoint, share
        return best

    def take(self, endpoint: str) -> None:
        """One more in use."""
        self._used[endpoint] = self._used.get(endpoint, 0) + 1

    def give(self, endpoint: str) -> None:
        """One fewer; never below zero."""
        left = self._used.get(endpoint, 0) - 1
        if left > 0:
            self._used[endpoint] = left
        else:
            self._used.pop(endpoint, None)
