"""Whether a request that waits for its first byte is sent to a second endpoint as well."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """Constants of :func:`hedge_at_s` and :func:`may_hedge`."""

    enabled: bool = False
    factor: float = 1.0
    """Of the usual time to the first token (95th percentile)."""
    floor_s: float = 0.5
    unknown_s: float = 10.0
    """Without history."""
    max_share: float = 0.05
    """Hedges that run at a time, as a share of active requests; one may always run."""


@dataclass(frozen=True, slots=True)
class Hedgeable:
    """What of a request forbids a second copy."""

    stateless: bool
    """Generation that leaves nothing behind; see ``Progress.stateless``."""
    paid: bool
    """Whether the endpoint asked, or the one to be asked, costs money per request."""
    answering: bool
    """Whether any byte of an answer came."""
    running: bool
    """Whether it runs: a queued one is moved, not doubled."""
    hedged: bool
    """Whether it was hedged, or retried: then it has had its chance."""


def hedge_at_s(running_s: float, p95_s: float, policy: HedgePolicy) -> float:
    """When to look whether to hedge an attempt that runs since ``running_s``; inf: never.

    ``p95_s`` is the 95th percentile of the time to the first token, scaled to the prompt; 0: unknown.
    """
    if not policy.enabled:
        return inf
    wait_s = max(policy.factor * p95_s, policy.floor_s) if p95_s > 0.0 else policy.unknown_s
    return running_s + wait_s


def may_hedge(
    request: Hedgeable,
    *,
    free_elsewhere: bool,
    hedging: int,
    retry_budget_free: bool,
    active: int,
    policy: HedgePolicy,
) -> bool:
    """Whether to send a second copy now. 0.3 µs; where it is off, 0.1 µs.

    The shell takes the first answer that is the client's, cancels the other attempt (ABANDONED to its
    breaker) and keeps the body until then.

    Args:
        request: What of it forbids.
        free_elsewhere: Whether another permitted candidate has a free slot, by fresh knowledge: a hedge never
            queues.
        hedging: Hedges that run now.
        retry_budget_free: See ``attempts.budget_free``; a hedge holds a unit of it while it runs.
        active: Requests in progress.
        policy: Constants.
    """
    if not policy.enabled:
        return False
    permitted = request.stateless and request.running
    spoiled = request.paid or request.answering or request.hedged
    room = hedging < max(1, int(active * policy.max_share))
    return permitted and not spoiled and room and free_elsewhere and retry_budget_free
