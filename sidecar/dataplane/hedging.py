"""Late requests get a second copy elsewhere, where that is wanted: looked for by the ticks, not by timers."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sidecar.core.attempts import Outcome
from sidecar.core.hedging import Hedgeable, hedge_at_s, may_hedge
from sidecar.dataplane.budget import retry_free
from sidecar.dataplane.waiting import Waits
from swarmplane.providers import use_of

if TYPE_CHECKING:
    from sidecar.core.candidate import Candidate
    from sidecar.dataplane.second_copy import SecondCopy
    from sidecar.dataplane.server import DataPlane

_LEAST_SAMPLES: Final = 8.0
"""Fewer first tokens tell nothing about the slowest of twenty."""


class Hedges(Waits):
    """A request that may be sent twice. Whoever answers first is its upstream; the other one is cancelled."""

    __slots__ = ()

    def hedge_if_late(self, now_s: float) -> None:
        """Send a second copy, if one is due and permitted."""
        plane, plan, stake = self._plane, self._plan, self._stake
        if (
            stake is None
            or plan.ask is None
            or plan.hop is not None
            or self._upstream is None
            or self._first_byte_by_s == math.inf
            or self._copied
        ):
            return
        policy = plane.policy.hedge
        latency = plane.routes.balancer.history.of(plan.model).by_endpoint.get(stake.endpoint)
        usual_s = 0.0
        if latency is not None and latency.samples >= _LEAST_SAMPLES:
            usual_s = latency.p95_s(plan.ask.prompt_tokens)
        ran_s = plane.clock_s() - stake.sent_s
        if now_s < hedge_at_s(now_s - ran_s, usual_s, policy):
            return
        to = self._free_candidate()
        request = Hedgeable(
            stateless=plan.stateless,
            paid=to is not None and (self._paid(self._candidate) or self._paid(to)),
            answering=False,
            running=True,
            hedged=self._progress.failures > 0,
        )
        if to is not None and may_hedge(
            request,
            free_elsewhere=True,
            hedging=plane.hedging.running,
            retry_budget_free=not plane.retry_line and retry_free(plane),
            active=len(plane.active),
            policy=policy,
        ):
            self._hedge_to(to)

    def _free_candidate(self) -> Candidate | None:
        """The next one not asked yet that has a free slot, by fresh knowledge."""
        plane = self._plane
        known = {
            one.endpoint.id: one for one in plane.routes.resolve(self._plan.model, plane.clock_s()).candidates
        }
        for one in reversed(self._left()):
            fresh = known.get(one.endpoint.id)
            if fresh is not None and fresh.has_room and fresh.load_known:
                return fresh
        return None

    def _paid(self, candidate: Candidate | None) -> bool:
        """Whether it may cost money per request: whoever wants a key is taken to."""
        if candidate is None or not candidate.local:
            return candidate is not None and bool(use_of(candidate.endpoint.kind))
        target = self._plane.backends.targets.get(candidate.endpoint.backend)
        return target is not None and bool(target.headers)

    def _hedge_to(self, to: Candidate) -> None:
        from sidecar.dataplane.second_copy import SecondCopy

        plan = self._plan
        if plan.ask is None:
            return
        self._copied = True
        copy = SecondCopy(self._plane, self, plan, plan.ask, to)
        if copy.start():
            plan.left = [one for one in self._left() if one.endpoint.id != to.endpoint.id]
            self._copy = copy
            self.noted.asked += 1
            self.noted.hedges += 1

    # -- what becomes of it -------------------------------------------------------------------------------

    def copy_over(self) -> None:
        """It is of no use; the first attempt goes on."""
        self._copy = None

    def copy_wins(self, copy: SecondCopy) -> None:
        """Its answer begins: whoever was asked first is cancelled."""
        self._plane.moving.discard(self)
        self._cut_off()
        self._asked += 1
        self._relay = None
        self._end_attempt()
        self._progress = replace(self._progress, attempts=self._progress.attempts + 1)
        self._take_over(copy)

    def _after_failure(self) -> bool:
        """See :class:`sidecar.dataplane.attempting.Attempts`."""
        copy = self._copy
        if copy is None:
            return False
        self._take_over(copy)
        copy.replay()
        return True

    def _take_over(self, copy: SecondCopy) -> None:
        copy.take()
        self._copy = None
        self._budgeted = True
        self._candidate, self._upstream, self._stake = copy.candidate, copy.upstream, copy.stake
        self._counting, self._place = copy.counting, copy.place
        self.rename, self.outgoing = copy.rename, copy.outgoing
        if copy.place is not None:
            copy.place.guest = self
        self._dispatched_s, self._heard_s = copy.sent_s, math.inf
        self._first_byte_by_s = time.monotonic() + self._first_byte_limit_s()

    def copy_sent(self, copy: SecondCopy) -> None:
        """It was taken over before it had a connection, and now has one."""
        self._upstream, self._dispatched_s = copy.upstream, copy.sent_s
        self.rename = copy.rename

    def copy_failed(self, outcome: Outcome) -> None:
        """It was taken over before it had a connection, and none was made."""
        if not self._finished:
            self._outcome(outcome, written=False)

    def _drop_copy(self) -> None:
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.cancel()


class Hedging:
    """Looks at everything in flight, while second copies are wanted; else a look costs 0.1 µs."""

    __slots__ = ("_plane", "running")

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self.running = 0
        """Copies that nobody took over yet."""

    def look(self, now_s: float) -> None:
        """Send the copies that are due; call it at every tick."""
        plane = self._plane
        if plane.policy.hedge.enabled:
            for request in tuple(plane.active):
                if isinstance(request, Hedges):
                    request.hedge_if_late(now_s)
