"""The attempts of one request: planned, made, repeated elsewhere or given up.

Callbacks only: the one thing that needs a task is a new connection. Every path ends in
:meth:`Attempts._let_go`.
"""

from __future__ import annotations

import asyncio
import math
import time
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sidecar.core.answers import Answer
from sidecar.core.attempts import Act, Context, Decision, Outcome, Progress, decide
from sidecar.core.candidate import Candidate
from sidecar.dataplane.budget import end_retry, retry_free
from sidecar.dataplane.hop import queued_line
from sidecar.dataplane.plan import Plan
from sidecar.dataplane.recording import context_lines, status_of
from sidecar.dataplane.refusals import exhausted
from sidecar.dataplane.staking import ended
from sidecar.dataplane.state import State
from sidecar.dialects.translate import COUNT_TOKENS
from sidecar.telemetry.record import REJECTED
from swarmplane.errors import SwarmError

if TYPE_CHECKING:
    from sidecar.dataplane.owner_line import Line
    from sidecar.dataplane.pool import Destination
    from sidecar.dataplane.upstream import Upstream

_NOT_STATELESS: Final = Progress(stateless=False)
_NEVER: Final = math.inf
_BUDGET_WAIT_S: Final = 10.0
"""How long a request waits until the retry budget lets it be sent again."""


class Attempts(State):
    """Who is asked, in which order, and what follows when it fails before the client got anything."""

    __slots__ = ()

    # -- begin --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Plan and make the first attempt."""
        plane = self._plane
        # Begun again after a wait for its model, it has no more time than before.
        self._started_s = now_s = self._started_s or time.monotonic()
        try:
            self.plan = self._plan = plan = self._planned(now_s)
        except SwarmError as error:
            self._refuse(error)
            return
        plane.active.add(self)
        if not plan.stateless:
            self._progress = _NOT_STATELESS
        self._planned_s = time.monotonic()
        if self.connection.peer is not None:
            self._next_phase_s = self._planned_s + plane.policy.phase_after_s
        self._next()

    @abstractmethod
    def _planned(self, now_s: float) -> Plan:
        """Who may serve it.

        Raises:
            SwarmError: Nobody does.
        """

    def _next(self) -> None:
        self._retry = None
        plan = self._plan
        self._candidate = candidate = plan.left.pop()
        self.noted.asked += 1
        if plan.ask is not None:
            self._begin_stake(candidate)
        if candidate.local:
            line = self._plane.owner.lines.get(candidate.endpoint.id)
            # What is only counted takes no slot.
            if line is not None and self.request.head.path != COUNT_TOKENS:
                self._enter(line, candidate)
                return
        self._attempt(candidate, fresh=False)

    def _learn(self, candidate: Candidate, decision: Decision, answer: Answer | None) -> None:
        self._plane.upstreams.learn(candidate, decision)
        if decision.full_hold_s and candidate.local and answer is not None and not answer.retry_after_s:
            self._plane.owner.learn_full(candidate.endpoint.id)

    def _begin_stake(self, candidate: Candidate) -> None:
        plane, ask = self._plane, self._plan.ask
        if ask is not None:
            self._stake = plane.routes.balancer.begin(ask, candidate.endpoint, plane.clock_s(), plane.draw)

    @abstractmethod
    def _enter(self, line: Line, candidate: Candidate) -> None:
        """Take a slot of an own endpoint and make the attempt, or wait for one, or be refused."""

    @abstractmethod
    def _waited_s(self) -> float:
        """Seconds in queues, of a request that was in one."""

    @abstractmethod
    def _after_failure(self) -> bool:
        """Whether a second copy takes the place of the attempt that ended."""

    @abstractmethod
    def _is_translated(self, candidate: Candidate, *, fresh: bool) -> bool:
        """Whether the request is put into another dialect for ``candidate``, and sent then, or refused."""

    def _attempt(self, candidate: Candidate, *, fresh: bool, translated: bool = False) -> None:
        plane = self._plane
        if not translated:
            self.outgoing = None
            if candidate.local:
                # Most backends speak the dialect of what they were asked before, by the same head.
                target = plane.backends.targets.get(candidate.endpoint.backend)
                if target is not self.request.head.understood and self._is_translated(candidate, fresh=fresh):
                    return
        plane.counters.attempts += 1
        self._asked += 1
        if not self._counting and self._place is None:
            plane.routes.begin(candidate.endpoint.id, self._plan.origin)
            self._counting = True
        noted = self.noted
        if noted.trace is not None or self.request.traceparent:
            noted.context = context_lines(self.request, noted.trace, candidate, plane.node_name)
        destination = plane.upstreams.destination(candidate)
        if destination is None:
            self._outcome(Outcome.CONNECT_FAILED, written=False)
            return
        upstream = None if fresh else destination.take()
        if upstream is None:
            plane.spawn(self._connect(destination, candidate, self._asked))
        else:
            self._dispatch(upstream)

    async def _connect(self, destination: Destination, candidate: Candidate, asked: int) -> None:
        plane = self._plane
        begun_s = time.monotonic()
        try:
            upstream = await destination.connect(plane.policy.connect_timeout_s)
        except OSError:
            if not self._finished and self._asked == asked:
                self._outcome(Outcome.CONNECT_FAILED, written=False)
            return
        plane.counters.upstream_connections += 1
        plane.upstreams.reached(candidate, time.monotonic() - begun_s)
        if self._finished or self._asked != asked:
            destination.put(upstream)
            return
        self._dispatch(upstream)

    def _dispatch(self, upstream: Upstream) -> None:
        plane, candidate = self._plane, self._candidate
        if candidate is None:
            raise RuntimeError("no candidate")
        self._upstream = upstream
        if self._stake is not None:
            self._stake.runs(plane.clock_s())
        if plane.owner.learned.wanted:
            self._sampled = plane.owner.take_sample(candidate.endpoint.id)
        self._dispatched_s = now_s = time.monotonic()
        self._heard_s = _NEVER
        # A model is pulled for hours, and a client may want to hear of its end only.
        self._first_byte_by_s = _NEVER if self._plan.final else now_s + plane.policy.first_byte_least_s
        outgoing = self.outgoing
        body, self.rename = plane.writer.body(self.request, self._plan, candidate, outgoing)
        attempt = self._progress.attempts + 1
        queued = b"" if self._queued_since_s == _NEVER else queued_line(now_s - self._queued_since_s)
        head = plane.writer.head(
            self.request,
            self._plan,
            candidate,
            len(body),
            attempt,
            now_s,
            self.noted.context,
            queued,
            outgoing,
        )
        withhold = not candidate.local and len(body) > plane.policy.expect_bytes
        upstream.send(self, head, body, withhold=withhold)

    # -- what follows -------------------------------------------------------------------------------------

    def _outcome(
        self, outcome: Outcome, answer: Answer | None = None, *, written: bool = True, own: bool = False
    ) -> bool:
        """Act on the end of an attempt; False: its answer is the client's. ``own``: our queue's answer."""
        plane, plan, candidate = self._plane, self._plan, self._candidate
        if candidate is None:
            return False
        free = retry_free(plane)
        full = plane.upstreams.full.get(candidate.endpoint.id, 0)
        context = Context(len(plan.left), free, plane.draw(), written, full)
        before = self._progress
        decision = decide(before, outcome, context, answer)
        if self._stake is not None:
            ended(self._stake, candidate, outcome, answer, before, decision, plane.clock_s())
        self._progress = decision.progress
        if decision.act is Act.ANSWER:
            return False
        self._relay = None
        self._sampled = 0
        noted = self.noted
        noted.attempt_over(outcome, answer)
        if not own:
            self._learn(candidate, decision, answer)
        if decision.act is Act.REPLAY:
            plane.counters.replays += 1
            noted.replays += 1
            self._attempt(candidate, fresh=True)
            return True
        self._end_attempt()
        if self._copy is not None and self._after_failure():
            return True
        if decision.act is Act.FAIL:
            status = answer.status if answer is not None else None
            owner = plan.hop is not None
            error = exhausted(plan.asked, decision, last=candidate.node_name, status=status, owner=owner)
            if (
                not free
                and decide(before, outcome, replace(context, budget_free=True), answer).act is Act.RETRY
            ):
                self._await_budget(error)
            else:
                self._refuse(error)
        elif decision.act is Act.RETRY:
            self._again(decision.delay_s)
        else:
            plane.counters.moves += 1
            noted.moves += 1
            self._next()
        return True

    def _again(self, delay_s: float) -> None:
        plane = self._plane
        plane.counters.retries += 1
        self.noted.retries += 1
        self._budgeted = True
        plane.retrying += 1
        self._retry = asyncio.get_running_loop().call_later(delay_s, self._next)

    def _await_budget(self, error: SwarmError) -> None:
        """Be sent again once another retry has ended; ``error`` if none ends in time.

        A backend that dies takes more requests with it than may be sent again at once.
        """
        if not self._plane.retrying:
            self._refuse(error)
            return
        self._plane.retry_line[self] = None
        self._retry = asyncio.get_running_loop().call_later(_BUDGET_WAIT_S, self._refuse, error)

    def resume(self) -> None:
        """The budget has room: be sent again."""
        del self._plane.retry_line[self]
        if self._retry is not None:
            self._retry.cancel()
        self._again(0.0)

    def _refuse(self, error: SwarmError) -> None:
        answer = self._plane.refuse(self.connection, self.request, error, attempts=self._progress.attempts)
        self.noted.status = status_of(answer)
        self._tell(REJECTED, error)
        self._finish(close=self.request.closes or self._plane.draining)

    @property
    def runs(self) -> bool:
        """Whether somebody works on it now."""
        return self._upstream is not None

    @abstractmethod
    def cut_short(self) -> None:
        """End it now, because the process stops; the client is told so."""

    @abstractmethod
    def cancel(self) -> None:
        """The client left: stop everything for it, now."""

    @abstractmethod
    def check(self, now_s: float) -> None:
        """Housekeeping: act on what took too long."""

    @abstractmethod
    def describe(self, now_s: float) -> dict[str, object]:
        """For the admin listener: no content, no addresses."""

    # -- ends ------------------------------------------------------------------------------------------------

    def _end_attempt(self) -> None:
        cut, self._cut = self._cut, False
        place = self._place
        if place is not None:
            self._place = None
            self._plane.owner.leave(place, cut=cut, answering=self._relay is not None)
        if self._counting and self._candidate is not None:
            self._counting = False
            self._plane.routes.end(self._candidate.endpoint.id, self._plan.origin)
        if self._stake is not None:
            self._stake.over(self._plane.clock_s())
            self._stake = None
        plan, candidate = self.plan, self._candidate
        if (
            plan is not None
            and (plan.suit is not None or plan.final)
            and candidate is not None
            and candidate.local
        ):
            self._ended_here(plan, candidate)
        if self._budgeted:
            self._budgeted = False
            end_retry(self._plane)

    def _ended_here(self, plan: Plan, candidate: Candidate) -> None:
        if plan.suit is not None:
            self._plane.contexts.ended(plan.suit, candidate.endpoint)
        if plan.final:
            self._plane.backends.look(candidate.endpoint.backend)

    def _tell(self, outcome: str, error: SwarmError | None = None) -> None:
        times_s = (self._started_s, self._planned_s, self._dispatched_s)
        self._plane.recorder.ended(self, outcome, self._candidate, times_s, error)

    def _let_go(self) -> None:
        plane = self._plane
        self._finished = True
        if plane.retry_line:
            plane.retry_line.pop(self, None)
        if self._queued_since_s != _NEVER:
            plane.moving.discard(self)
            plane.recorder.waited(self.request, self._waited_s())
        self._end_attempt()
        self._relay = None
        if self._copy is not None:
            self._copy.cancel()
            self._copy = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self.request.size:
            plane.release_body(self.request)
        if self.request.key is not None:
            plane.keys.release(self.request.key)
        plane.active.discard(self)
        if plane.draining:
            plane.ended(self)

    def _finish(self, *, close: bool) -> None:
        if self._finished:
            return
        self._let_go()
        self.connection.done(close=close)
