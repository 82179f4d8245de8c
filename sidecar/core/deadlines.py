"""How long an attempt may take to its first byte, once it runs (PROTOCOL section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final


@dataclass(frozen=True, slots=True)
class FirstBytePolicy:
    """Constants of :func:`first_byte_limit_s`."""

    factor: float = 4.0
    """Of the usual worst time."""
    floor_s: float = 10.0
    hard_s: float = 600.0
    """What holds where nobody else could answer."""
    unknown_s: float = 30.0
    """For a short prompt on a node that has no history with the model."""
    slowest_tokens_per_s: float = 100.0
    """Prefill rate that such a node is granted."""


@dataclass(frozen=True, slots=True)
class Usual:
    """History of a model on a node."""

    p99_s: float
    """99th percentile of the time to the first token."""
    tokens: float
    """Typical prompt size of the requests it was measured on; 0: unknown."""


_LEAST_SCALE: Final = 0.25
"""A part of the time does not depend on the prompt, and nobody knows which."""


def first_byte_limit_s(
    usual: Usual | None, prompt_tokens: float, *, others: bool, spent: bool, policy: FirstBytePolicy
) -> float:
    """Seconds that an attempt may run without a first byte. 0.4 µs.

    Args:
        usual: None without history.
        prompt_tokens: Estimate for this request.
        others: Whether another candidate that was not asked yet could answer.
        spent: Whether the adaptive limit has fired for this request: it does so once.
        policy: Constants.
    """
    if spent or not others:
        return policy.hard_s
    if usual is None:
        limit_s = max(policy.unknown_s, policy.factor * prompt_tokens / policy.slowest_tokens_per_s)
    else:
        scale = max(prompt_tokens / usual.tokens, _LEAST_SCALE) if usual.tokens > 0 else 1.0
        limit_s = policy.factor * usual.p99_s * scale
    return min(max(limit_s, policy.floor_s), policy.hard_s)


class FirstByteClock:
    """When a request's present attempt is overdue. One per request, kept through its attempts.

    The clock runs in phase ``running`` only: not while an owner reports ``queued`` or ``loading``, and not
    before the request is written. Mutable; every call costs 0.1 µs.
    """

    __slots__ = ("_running_s", "spent")

    def __init__(self) -> None:
        self._running_s = inf
        self.spent = False
        """Whether the adaptive limit fired; it does so once per request."""

    def attempt(self) -> None:
        """An attempt begins: nothing of it runs yet."""
        self._running_s = inf

    def running(self, now_s: float) -> None:
        """It runs: the request is written to a backend, or the owner says so. Repeats change nothing."""
        self._running_s = min(self._running_s, now_s)

    def waiting(self) -> None:
        """The owner says that it waits: queued, preempted, or for the model."""
        self._running_s = inf

    def due_s(self, limit_s: float) -> float:
        """When it is overdue under ``limit_s``; inf while it does not run."""
        return self._running_s + limit_s

    def fire(self, now_s: float, limit_s: float, hard_s: float) -> bool:
        """Whether it is overdue at ``now_s``; if by less than the hard limit, the adaptive one is spent."""
        if now_s < self.due_s(limit_s):
            return False
        if limit_s < hard_s:
            self.spent = True
        return True
