"""Whether an endpoint is asked: one state machine per endpoint, and one per node for its connections.

Consecutive failures or a low rate of success eject an endpoint for a time that doubles with every ejection;
then one real request probes it. What a group of endpoints makes of its breakers is in
:mod:`sidecar.core.breaker_group`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from math import inf
from typing import Final

from sidecar.core.backoff import doubling_s

NO_STAKE: Final = -1
"""The era of a request that was sent to an endpoint which did not admit it: how it ends changes nothing."""


class Phase(Enum):
    """What a breaker does with requests."""

    ADMITTING = "admitting"
    EJECTED = "ejected"
    """Admits nothing before ``retry_at_s``, one request after it."""
    PROBING = "probing"
    """That request is out; admits nothing, but for a new probe once this one is overdue."""


class Signal(Enum):
    """What the shell saw. A client that left, and a model that loads, are no failures."""

    DISPATCHED = auto()
    """A request is sent."""
    SUCCEEDED = auto()
    """The first byte of an answer that is the client's came; 4xx are the client's."""
    FAILED = auto()
    """An answer with a status that is a failure (``Verdict.FAILURE``)."""
    BROKEN = auto()
    """Local origin: reset, truncated (also after SUCCEEDED of the same request), or silent for too long."""
    UNCONNECTED = auto()
    """Local origin: no connection could be made. Certain enough to eject at once."""
    BUSY = auto()
    """Full, loading or draining: alive, and nothing else was learned."""
    ABANDONED = auto()
    """The client left, or the attempt was withdrawn, before anything was learned."""


_FAILURES: Final = frozenset({Signal.FAILED, Signal.BROKEN, Signal.UNCONNECTED})


@dataclass(frozen=True, slots=True)
class Policy:
    """Constants of :func:`step`."""

    max_failures: int = 5
    """Failing statuses in a row that eject."""
    max_local_failures: int = 5
    """Breaks in a row that eject; counted apart, so that neither kind hides the other."""
    min_success_rate: float = 0.8
    """Less than this, in the window, ejects."""
    min_requests: int = 5
    """Requests in the window below which its rate says nothing."""
    window_s: int = 10
    base_backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    jitter: float = 0.5
    """An ejection lasts up to this share longer, so that senders do not probe together."""
    probe_limit_s: float = 60.0
    """A probe of which nothing was heard for so long does not keep others from probing."""
    forget_s: float = 60.0
    """So long after a return, earlier ejections are forgotten."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """State of one endpoint. The default is one of which nothing is known."""

    phase: Phase = Phase.ADMITTING
    era: int = 0
    """Raised by every ejection and by every probe; a request's ending counts in the era it was sent in."""
    failures: int = 0
    """Failing statuses in a row."""
    local_failures: int = 0
    """Breaks in a row."""
    ejections: int = 0
    """In a row, without good time between."""
    retry_at_s: float = 0.0
    """EJECTED: when a probe may go. PROBING: when the probe is overdue."""
    since_s: float = -inf
    """When it last returned, for slow start and forgetting; -inf: never ejected."""
    window: tuple[tuple[int, int, int], ...] = ()
    """Second, successes, failures; oldest first."""

    def admits(self, now_s: float) -> bool:
        """Whether a request sent now would be a normal one, or the probe."""
        return self.phase is Phase.ADMITTING or now_s >= self.retry_at_s


def enter(breaker: Breaker, now_s: float, policy: Policy) -> tuple[Breaker, int]:
    """The state after a request is sent, and the era that comes back with the request's signals.

    Requests may be sent without being admitted (panic, last candidate): those have no stake. 0.2 µs while
    admitting.
    """
    if breaker.phase is Phase.ADMITTING:
        return breaker, breaker.era
    if not breaker.admits(now_s):
        return breaker, NO_STAKE
    after = step(breaker, Signal.DISPATCHED, now_s, era=breaker.era, draw=0.0, policy=policy)
    return after, after.era


def step(  # noqa: PLR0911 - every transition stands here
    breaker: Breaker, signal: Signal, now_s: float, *, era: int, draw: float, policy: Policy
) -> Breaker:
    """The state after ``signal`` at monotonic time ``now_s``. A success costs 2 µs.

    Total: an answer to a request that was sent before an ejection, or while another one probed, changes
    nothing, however late it comes and whatever the phase is by then.

    Args:
        breaker: Before.
        signal: What happened.
        now_s: Never less than at the step before.
        era: From :func:`enter`; with DISPATCHED it is ignored.
        draw: Uniform in [0, 1), for the jitter of an ejection.
        policy: Constants.
    """
    if signal is not Signal.DISPATCHED and era != breaker.era:
        return breaker
    match breaker.phase, signal:
        case Phase.ADMITTING, Signal.SUCCEEDED:
            return _counted(breaker, now_s, policy, good=1)
        case Phase.ADMITTING, Signal.UNCONNECTED:
            return _ejected(breaker, now_s, draw, policy)
        case Phase.ADMITTING, (Signal.FAILED | Signal.BROKEN):
            counted = _counted(breaker, now_s, policy, failed=1, local=signal is Signal.BROKEN)
            return _ejected(counted, now_s, draw, policy) if _trips(counted, policy) else counted
        case Phase.ADMITTING, Signal.BUSY if breaker.local_failures:
            return replace(breaker, local_failures=0)
        case ((Phase.EJECTED | Phase.PROBING), Signal.DISPATCHED) if breaker.admits(now_s):
            overdue_s = now_s + policy.probe_limit_s
            return replace(breaker, phase=Phase.PROBING, era=breaker.era + 1, retry_at_s=overdue_s)
        case Phase.PROBING, Signal.SUCCEEDED:
            # The era stays: should the probe's stream break later, that counts.
            return Breaker(era=breaker.era, ejections=breaker.ejections, since_s=now_s)
        case Phase.PROBING, (Signal.BUSY | Signal.ABANDONED):
            return replace(breaker, phase=Phase.EJECTED, retry_at_s=now_s)
        case Phase.PROBING, _ if signal in _FAILURES:
            return _ejected(breaker, now_s, draw, policy)
        case _:
            return breaker


def succeeded(breaker: Breaker, now_s: float, policy: Policy, times: int) -> Breaker:
    """What as many SUCCEEDED of one second make of a ``breaker`` that admits; :func:`step` of each."""
    return _counted(breaker, now_s, policy, good=times)


def _counted(
    breaker: Breaker, now_s: float, policy: Policy, *, good: int = 0, failed: int = 0, local: bool = False
) -> Breaker:
    window, second = breaker.window, int(now_s)
    if window and window[-1][0] == second:
        _, before, bad = window[-1]
        window = (*window[:-1], (second, before + good, bad + failed))
    else:
        oldest = second - policy.window_s
        window = (*(b for b in window if b[0] > oldest), (second, good, failed))
    # A status, even a bad one, came over a connection that works.
    failures = breaker.failures + (not local) if failed else 0
    local_failures = breaker.local_failures + 1 if local else 0
    return Breaker(
        Phase.ADMITTING,
        breaker.era,
        failures,
        local_failures,
        breaker.ejections,
        breaker.retry_at_s,
        breaker.since_s,
        window,
    )


def _trips(breaker: Breaker, policy: Policy) -> bool:
    if breaker.failures >= policy.max_failures or breaker.local_failures >= policy.max_local_failures:
        return True
    good = sum(bucket[1] for bucket in breaker.window)
    requests = good + sum(bucket[2] for bucket in breaker.window)
    return requests >= policy.min_requests and good < policy.min_success_rate * requests


def _ejected(breaker: Breaker, now_s: float, draw: float, policy: Policy) -> Breaker:
    good_time = breaker.phase is Phase.ADMITTING and now_s - breaker.since_s >= policy.forget_s
    times = 0 if good_time else breaker.ejections
    wait_s = doubling_s(times, base_s=policy.base_backoff_s, cap_s=policy.max_backoff_s)
    return Breaker(
        Phase.EJECTED,
        era=breaker.era + 1,
        ejections=times + 1,
        retry_at_s=now_s + wait_s * (1.0 + policy.jitter * draw),
        since_s=breaker.since_s,
    )
