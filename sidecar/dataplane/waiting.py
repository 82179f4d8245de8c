"""A request's wait for a slot, here or at another owner that says so (PROTOCOL section 4)."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from dataclasses import replace
from typing import Final

from sidecar.core.answers import Answer, Refusal
from sidecar.core.attempts import Outcome
from sidecar.core.candidate import Candidate
from sidecar.core.deadlines import Usual, first_byte_limit_s
from sidecar.core.queue_moves import QueuedAttempt
from sidecar.core.queue_values import Asking, Priority, Refused, Waiting, Why
from sidecar.dataplane import hop as hops
from sidecar.dataplane.budget import retry_free
from sidecar.dataplane.owner_line import Line, Place
from sidecar.dataplane.translation import Translates

_BYTES_PER_TOKEN: Final = 4


class Waits(Translates):
    """Takes a place in the line of an own endpoint, and leaves a queue where it would wait longer."""

    __slots__ = ()

    # -- here ---------------------------------------------------------------------------------------------

    def _enter(self, line: Line, candidate: Candidate) -> None:
        """See :class:`Attempts`."""
        now_s, owner, endpoint = time.monotonic(), self._plane.owner, candidate.endpoint.id
        self._place = place = Place(line, self, self._plan.origin)
        if owner.sit(place, endpoint, now_s):
            self._attempt(candidate, fresh=False)
            return
        here = {endpoint}
        if len(line.limits) > 1:
            here.update(other.endpoint.id for other in self._left())
        only = "" if line.limits.keys() <= here else endpoint
        asking = replace(self.asking(), preferred=endpoint, only=only)
        answer = self._plane.owner.ask(place, asking, now_s)
        if answer is None:
            self._sit(place)
            self._attempt(self._candidate or candidate, fresh=False)
        elif isinstance(answer, Refused):
            self.turned_away(answer)
        elif place.ticket and not place.lease:
            self._queued_since_s = asking.since_s
            self._wait(answer)

    def asking(self) -> Asking:
        """See :class:`sidecar.dataplane.owner_line.Guest`."""
        plan, since_s = self._plan, self._queued_since_s
        if since_s == math.inf:
            since_s = time.monotonic() - (plan.hop.queued_ms / 1000 if plan.hop is not None else 0.0)
        return Asking(
            self._key(),
            since_s,
            self._priority(),
            len(self.request.body),
            plan.deadline_s,
            repeatable=plan.stateless,
        )

    def _key(self) -> str:
        """Whose request it is, for fair shares."""
        hop = self._plan.hop
        if hop is not None:
            return hop.key or hop.origin
        if self.request.key is not None:
            return self.request.key.id
        name = self.connection.transport.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) else ""

    def _priority(self) -> Priority:
        named = self.request.head.options.get(b"x-swarm-priority")
        return Priority.DEFAULT if named is None else Priority.of(named.decode("latin-1").strip().casefold())

    def _sit(self, place: Place) -> None:
        candidate = self._candidate
        stake, self._stake = self._stake, None
        if candidate is not None and candidate.endpoint.id == place.endpoint:
            self._stake = stake
            if stake is not None:
                stake.runs(self._plane.clock_s())
        elif candidate is not None:
            left = self._left()
            other = next(one for one in left if one.endpoint.id == place.endpoint)
            left.remove(other)
            left.append(candidate)
            self._candidate = other
            if stake is not None:
                stake.over(self._plane.clock_s())
                self._begin_stake(other)

    def _left(self) -> list[Candidate]:
        """Candidates not asked yet, the next one last, as a list that may be changed."""
        plan, left = self._plan, []
        while len(plan.left):
            left.append(plan.left.pop())
        left.reverse()
        plan.left = left
        return left

    def _wait(self, answer: Waiting) -> None:
        self._next_phase_s = math.inf
        self._ran_at_s = 0.0
        if self.connection.peer is not None:
            self._tell_queued(answer.ahead)
        elif self._plan.left:
            self._plane.moving.add(self)

    def _waited_s(self) -> float:
        """See :class:`Attempts`."""
        return max((self._ran_at_s or time.monotonic()) - self._queued_since_s, 0.0)

    def _tell_queued(self, ahead: int) -> None:
        plane = self._plane
        self._next_phase_s = time.monotonic() + plane.policy.phase_after_s
        load = plane.upstreams.load_line(self._candidate)
        self.connection.write(hops.phase_message(f"{hops.QUEUED};ahead={ahead}", load))

    def seated(self, place: Place) -> None:
        """See :class:`sidecar.dataplane.owner_line.Guest`."""
        plane = self._plane
        plane.moving.discard(self)
        self._ran_at_s = time.monotonic()
        self._sit(place)
        candidate = self._candidate
        if candidate is None:
            raise RuntimeError("nobody was asked")
        if self.connection.peer is not None:
            self._next_phase_s = time.monotonic() + 10 * plane.policy.phase_after_s
            self.connection.write(hops.phase_message(hops.RUNNING, plane.upstreams.load_line(candidate)))
        self._attempt(candidate, fresh=False)

    def turned_away(self, refused: Refused) -> None:
        """See :class:`sidecar.dataplane.owner_line.Guest`."""
        self._place = None
        self._plane.moving.discard(self)
        if refused.why is Why.EXPIRED:
            self._expired(committed=False)
            return
        # What a peer's refusal means, ours means too: the next candidate, or the client comes again.
        answer = Answer(429, Refusal.FULL.value, refused.wait_s)
        self._outcome(Outcome.STATUS, answer, own=True)

    def bumped(self) -> None:
        """See :class:`sidecar.dataplane.owner_line.Guest`."""
        self._drop_upstream()
        place = self._place
        if place is not None:
            # It may have run at once before.
            self._queued_since_s = min(self._queued_since_s, time.monotonic())
            self._wait(Waiting(place.ticket, place.ahead))

    def _still_queued(self) -> None:
        """The sender is told from time to time that it still waits, and how many are ahead."""
        place = self._place
        if place is not None and not place.lease:
            self._tell_queued(place.ahead)

    @property
    def gone(self) -> bool:
        """See :class:`sidecar.dataplane.owner_line.Guest`."""
        return self._finished

    @abstractmethod
    def _expired(self, *, committed: bool) -> None:
        """The request's time is over."""

    def _cut_off(self) -> None:
        """Close what runs: its backend notices a moment later."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
            self._cut = True

    def _drop_upstream(self) -> None:
        """Close what runs, without an outcome."""
        self._cut_off()
        self._cut = False
        self._asked += 1
        self._relay = None
        self._first_byte_by_s = self._heard_s = math.inf

    # -- at another owner ---------------------------------------------------------------------------------

    def _heard_phase(self, phase: str) -> None:
        """An owner says where the request stands: the clock runs while the model does."""
        plane, candidate = self._plane, self._candidate
        if candidate is None:
            return
        if phase:
            # From now on its silence counts: it promised to say this again.
            self._heard_s = time.monotonic()
        if phase == hops.RUNNING:
            plane.moving.discard(self)
            self._ran_at_s = time.monotonic()
            if not self._counting:
                self._counting = True
                plane.routes.begin(candidate.endpoint.id, self._plan.origin)
            if self._first_byte_by_s == math.inf:
                self._first_byte_by_s = time.monotonic() + self._first_byte_limit_s()
        elif phase in {hops.QUEUED, hops.LOADING}:
            self._first_byte_by_s = math.inf
            if self._counting:
                # The owner counts it among those who wait; twice would be one too many.
                self._counting = False
                plane.routes.end(candidate.endpoint.id, self._plan.origin)
            if self._queued_since_s == math.inf:
                self._queued_since_s = self._dispatched_s
            self._ran_at_s = 0.0
            if phase == hops.QUEUED and self._plan.left and self._plan.hop is None:
                plane.moving.add(self)

    # -- patience ----------------------------------------------------------------------------------------

    def _first_byte_limit_s(self) -> float:
        """How long the present attempt may run without a byte of an answer.

        Less than the hard limit only once, and while somebody else could answer.
        """
        policy, plan = self._plane.policy, self._plan
        if plan.final:
            return math.inf  # a model is pulled for hours, and a client may want to hear of its end only
        if not plan.left or self._progress.timed_out:
            return policy.first_byte_timeout_s
        ask, candidate = plan.ask, self._candidate
        tokens = ask.prompt_tokens if ask is not None else len(self.request.body) / _BYTES_PER_TOKEN
        usual = None
        if candidate is not None:
            history, stake = self._plane.routes.balancer.history, self._stake
            latency = stake.latency if stake is not None else history.known(plan.model, candidate.endpoint.id)
            if latency is not None and latency.samples:
                # Priced for this prompt already.
                usual = Usual(latency.p99_s(tokens), 0.0, latency.samples)
        limit_s = first_byte_limit_s(usual, tokens, others=True, spent=False, policy=policy.first_byte)
        return min(limit_s, policy.first_byte_timeout_s)

    def _may_fire(self, now_s: float) -> bool:
        """Whether a silent attempt is given up: early only if it may be made elsewhere, else it goes on."""
        plane, policy = self._plane, self._plane.policy
        hard_s = self._dispatched_s + policy.first_byte_timeout_s
        if now_s >= hard_s:
            return True
        by_s = self._dispatched_s + self._first_byte_limit_s()
        if now_s < by_s:
            # It was the least limit that has passed: few requests take so long that theirs has to be known.
            self._first_byte_by_s = by_s
            return False
        if not (self._plan.stateless and self._plan.left):
            self._first_byte_by_s = hard_s
            return False
        if plane.awake_s > self._dispatched_s:
            # In the time in which we did not run nobody could be heard.
            again_s = plane.awake_s + self._first_byte_limit_s()
            if self._first_byte_by_s < again_s:
                self._first_byte_by_s = again_s
                return False
        # Without budget, or while all others are full, it waits on and is looked at again at the next tick.
        return retry_free(plane) and self._another_may_answer(now_s)

    def _another_may_answer(self, now_s: float) -> bool:
        """Whether another candidate is not known to be full; after twice the limit, whether there is another.

        Others that are busy all the time must not keep a request at a node that hangs.
        """
        plane, left = self._plane, {one.endpoint.id for one in self._left()}
        found = plane.routes.resolve(self._plan.model, plane.clock_s()).candidates
        others = [one for one in found if one.endpoint.id in left]
        if any(one.has_room or not (one.slots or one.queued) for one in others):
            return True
        return bool(others) and now_s >= self._first_byte_by_s + self._first_byte_limit_s()

    # -- elsewhere ----------------------------------------------------------------------------------------

    def queued_attempt(self, number: int, now_s: float) -> QueuedAttempt | None:
        """What decides whether it moves; None where it does not wait."""
        candidate, place = self._candidate, self._place
        if candidate is None or self._finished:
            return None
        # Another owner's pace is not known here: what has lasted some time will last about as long again.
        wait_s = now_s - self._dispatched_s if place is None else place.expected_wait_s
        return QueuedAttempt(
            number,
            candidate.endpoint.id,
            self._queued_since_s,
            wait_s,
            self._moved,
            self._priority(),
            frozenset(one.endpoint.id for one in self._left()),
        )

    def move(self, to: Candidate) -> None:
        """Withdraw from where it waits, and go to ``to``; back here only if nobody else takes it."""
        candidate, plane = self._candidate, self._plane
        if candidate is None or self._finished:
            return
        plane.moving.discard(self)
        self._ran_at_s = time.monotonic()
        self._drop_upstream()
        self._end_attempt()
        self._moved += 1
        plane.counters.moves += 1
        self.noted.moves += 1
        left = [one for one in self._left() if one.endpoint.id != to.endpoint.id]
        self._plan.left = [candidate, *left, to]
        self._next()
