"""A new or returned endpoint gets its share little by little: its caches are cold, and it may fail again."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class SlowStart:
    """Constants of :func:`weight`."""

    window_s: float = 30.0
    """Full weight is reached after this; 0: no slow start."""
    least: float = 0.1
    aggression: float = 1.0
    """1: linear; more: faster at first."""


def weight(since_s: float, now_s: float, policy: SlowStart) -> float:
    """Share of its normal weight that an endpoint has at ``now_s``, from ``policy.least`` to 1. 0.3 µs.

    Args:
        since_s: When it appeared or returned (``Breaker.since_s``); -inf: it was always there.
        now_s: Not before ``since_s``.
        policy: Constants.
    """
    age_s = now_s - since_s
    if age_s >= policy.window_s:
        return 1.0
    share: float = max(age_s / policy.window_s, 0.0) ** (1.0 / policy.aggression)
    return max(policy.least, share)


def usable_slots(slots: int, share: float) -> int:
    """How many of ``slots`` count as free for the choice while the weight is ``share``; at least 1.

    Expressed in slots, slow start needs no term of its own in a cost in seconds: requests beyond them look
    queued, so that an idle newcomer still gets its first request at once.
    """
    return max(1, ceil(slots * share))
