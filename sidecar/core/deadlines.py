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
    samples: float = inf
    """How many requests that were; above 0."""


WELL_KNOWN: Final = 8.0
"""Fewer samples tell little of the slowest of a hundred: the fewer, the more they are multiplied."""
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
    unknown_s = max(policy.unknown_s, policy.factor * prompt_tokens / policy.slowest_tokens_per_s)
    if usual is None:
        limit_s = unknown_s
    else:
        scale = max(prompt_tokens / usual.tokens, _LEAST_SCALE) if usual.tokens > 0 else 1.0
        limit_s = policy.factor * usual.p99_s * scale
        if usual.samples < WELL_KNOWN:
            limit_s = max(limit_s, min(limit_s * WELL_KNOWN / usual.samples, unknown_s))
    return min(max(limit_s, policy.floor_s), policy.hard_s)
