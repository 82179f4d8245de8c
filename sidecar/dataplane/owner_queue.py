"""The slots of this host's endpoints and who waits for them: the shell of :mod:`sidecar.core.queueing`.

An endpoint has a limit where its backend or engine names its slots, or once it was seen to let requests wait,
or said that it is full. Without a limit nobody waits: nothing is known to be full. A slot is free again when
the backend is idle: at once when its answer is whole or it ended the exchange, a moment after we closed the
connection, since it notices only then.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from math import ceil, inf
from typing import TYPE_CHECKING, Final

from sidecar.core.queue_values import Asking, Effect, Granted, Preempted, Refused, Waiting, Why
from sidecar.core.queueing import OwnerQueue
from sidecar.core.reaper import Entry
from sidecar.core.slots import Ending, free_at_s
from sidecar.dataplane.learned_slots import LearnedSlots
from sidecar.dataplane.owner_line import FREELY, NOBODY, Line, Place
from swarmplane.ids import EndpointId

if TYPE_CHECKING:
    from sidecar.dataplane.policy import DataPlanePolicy
    from sidecar.dataplane.ports import Clock
    from sidecar.routing.current import CurrentRoutes
    from sidecar.routing.view import View

log = logging.getLogger(__name__)

_UNLIMITED: Final = 1_000_000
_GONE: Final = Refused(Why.FULL, 1.0)
"""What those are told who waited for an endpoint that is not there any more."""


class OwnerQueues:
    """Lines of all models served here. Lives on the event loop.

    A request for an endpoint without a limit costs one look into :attr:`lines`.
    """

    def __init__(self, routes: CurrentRoutes, policy: DataPlanePolicy, *, clock: Clock, draw: Clock) -> None:
        self._routes = routes
        self._policy = policy
        self._clock_s = clock
        self._draw = draw
        self.lines: dict[EndpointId, Line] = {}
        """Of endpoints that have a limit."""
        self._by_model: dict[str, Line] = {}
        self.learned = LearnedSlots()
        self._settling: list[Place] = []
        self._effects: deque[tuple[Line, Effect]] = deque()
        self._applying = False
        self._view: View | None = None
        routes.subscribe(self._routes_changed)
        self._routes_changed()

    def adopt(self, policy: DataPlanePolicy) -> None:
        """Go by ``policy`` from now on."""
        self._policy = policy
        for line in self._by_model.values():
            line.queue.adopt(policy.queue)
        self._limit()

    # -- limits -------------------------------------------------------------------------------------------

    def _routes_changed(self) -> None:
        view = self._routes.view
        if self._view is None or self._view.own is not view.own:
            self._view = view
            self._limit()

    def _limit(self) -> None:
        now_s, view = self._clock_s(), self._routes.view
        unnamed = [key for key, own in view.own.items() if not own.endpoint.slots]
        self.learned.know(unnamed, learn=self._policy.learn_slots)
        self._routes.set_learned_slots({key: slots for key in unnamed if (slots := self.learned.limit(key))})
        wanted: dict[EndpointId, tuple[str, int]] = {}
        for key, own in view.own.items():
            limit = own.endpoint.slots or self.learned.limit(key)
            if limit:
                wanted[key] = (own.canonical, limit)
        for key, line in tuple(self.lines.items()):
            if key not in wanted:
                self._unlimit(key, line, known=key in view.own, now_s=now_s)
        for key, (model, limit) in wanted.items():
            line = self._by_model.get(model) or self._by_model.setdefault(
                model, Line(OwnerQueue(self._policy.queue))
            )
            before = self.lines.get(key)
            if before is not None and before is not line:
                self._unlimit(key, before, known=False, now_s=now_s)
            self.lines[key] = line
            line.limits[key] = limit
            self._open(key, line, now_s)

    def _unlimit(self, key: EndpointId, line: Line, *, known: bool, now_s: float) -> None:
        line.limits.pop(key, None)
        del self.lines[key]
        self._routes.set_queued(key, 0)
        if known:
            # Nothing says any more that it is full: those who wait for it run.
            self._put(line, line.queue.set_slots(key, _UNLIMITED, now_s))
        self._put(line, line.queue.set_slots(key, 0, now_s))
        self._apply()
        if not line.limits:
            for place in tuple(line.waiting.values()):
                self._turn_away(line, place)
        self._apply()

    def _turn_away(self, line: Line, place: Place) -> None:
        self._put(line, line.queue.withdraw(place.ticket, self._clock_s()))
        del line.waiting[place.ticket]
        place.ticket = 0
        place.guest.turned_away(_GONE)

    def _open(self, key: EndpointId, line: Line, now_s: float) -> None:
        """Offer what the limit leaves beside requests that began before there was one."""
        before = self._routes.in_flight(key) - line.queue.used(key)
        before -= sum(place.endpoint == key for place in line.freely)
        limit = line.limits[key] - max(before, 0)
        self._put(line, line.queue.set_slots(key, limit, now_s))
        self._apply()

    def learn_full(self, endpoint: EndpointId) -> None:
        """The backend said that it is full, and not for how long: what it runs now is what it can run."""
        own = self._routes.view.own.get(endpoint)
        limit = self._routes.in_flight(endpoint) - 1
        if own is None or own.endpoint.slots or limit < 1:
            return
        self.learned.refused(endpoint, limit + 1, self._clock_s(), self._draw())
        self._limit()

    def take_sample(self, endpoint: EndpointId) -> int:
        """A request is sent to ``endpoint``: how many are there, if its first token is wanted; else 0."""
        wanted = self.learned.wanted
        if endpoint not in wanted:
            return 0
        wanted.discard(endpoint)
        return self._routes.in_flight(endpoint)

    def learn(self, endpoint: EndpointId, took_s: float, *, in_flight: int, size_bytes: int) -> None:
        """A sampled request got its first token; see :meth:`LearnedSlots.sample`."""
        if self.learned.sample(
            endpoint, took_s, in_flight=in_flight, size_bytes=size_bytes, now_s=self._clock_s()
        ):
            self._limit()

    # -- a request ----------------------------------------------------------------------------------------

    def sit(self, place: Place, endpoint: EndpointId, now_s: float) -> bool:
        """Seat ``place`` at ``endpoint`` while there is room and nobody waits: that needs no queue. 1 µs."""
        line = place.line
        if (
            line.places
            or line.waiting
            or not self._routes.begin_within(endpoint, place.origin, line.limits[endpoint])
        ):
            return False
        place.lease, place.endpoint, place.started_s = FREELY, endpoint, now_s
        line.freely[place] = None
        return True

    def _enlist(self, line: Line) -> None:
        """Give those that run without a lease one: from now on it matters who has which."""
        if not line.freely:
            return
        freely, line.freely = line.freely, {}
        for key in line.limits:
            held = sum(place.endpoint == key for place in freely)
            others = self._routes.in_flight(key) - line.queue.used(key) - held
            line.queue.set_slots(key, max(line.limits[key] - max(others, 0), held), 0.0)
        for place in freely:
            asking = place.guest.asking()
            asking = replace(asking, only=place.endpoint, preferred=place.endpoint, deadline_s=inf)
            answer, _ = line.queue.ask(asking, place.started_s)
            if isinstance(answer, Granted):
                place.ticket, place.lease = answer.ticket, answer.lease
                line.places[answer.lease] = place
                if place.sent:
                    line.queue.sent(place.lease)
                if place.free_at_s != inf:
                    line.queue.closing(place.lease)
            elif isinstance(answer, Waiting):
                # Its endpoint has no limit any more: it counts as what began before there was one.
                line.queue.withdraw(answer.ticket, place.started_s)

    def ask(self, place: Place, asking: Asking, now_s: float) -> Waiting | Refused | None:
        """Seat ``place`` (None), let it wait, or refuse it. What follows for others, follows at once."""
        line = place.line
        if line.freely:
            self._enlist(line)
        for key in line.limits:
            self._open(key, line, now_s)
        answer, effects = line.queue.ask(asking, now_s)
        if isinstance(answer, Granted):
            self._seat(place, answer)
            if not effects:
                return None
        elif isinstance(answer, Waiting):
            place.ticket = answer.ticket
            line.waiting[answer.ticket] = place
        self._put(line, effects)
        self._apply()
        self._publish(line)
        if isinstance(answer, Granted):
            return None
        return answer

    def _seat(self, place: Place, granted: Granted) -> None:
        place.ticket, place.lease = granted.ticket, granted.lease
        place.endpoint = EndpointId(granted.endpoint)
        place.line.places[granted.lease] = place
        self._routes.begin(place.endpoint, place.origin)

    def sent(self, place: Place) -> None:
        """A byte of its answer went out."""
        place.sent = True
        place.line.queue.sent(place.lease)

    def leave(self, place: Place, *, cut: bool, answering: bool) -> None:
        """A request is done with its place. ``cut``: we closed the connection while its backend worked."""
        line = place.line
        if place.lease == FREELY and not cut and not line.waiting:
            line.freely.pop(place, None)
            place.lease = 0
            self._routes.end(place.endpoint, place.origin)
            return
        now_s = self._clock_s()
        if not place.lease:
            line.waiting.pop(place.ticket, None)
            self._put(line, line.queue.withdraw(place.ticket, now_s))
            self._apply()
            self._publish(line)
        elif cut:
            self._settle(place, now_s, answering=answering)
        else:
            self._free(place, now_s)

    def _settle(self, place: Place, now_s: float, *, answering: bool) -> None:
        place.line.queue.closing(place.lease)
        place.free_at_s = free_at_s(
            Ending.CANCELLED,
            now_s,
            answering=answering,
            notices=True,
            rest_s=0.0,
            policy=self._policy.settling,
        )
        self._settling.append(place)

    def _free(self, place: Place, now_s: float) -> None:
        line = place.line
        if place.lease == FREELY:
            line.freely.pop(place, None)
            place.lease = 0
            self._routes.end(place.endpoint, place.origin)
            if line.waiting and place.endpoint in line.limits:
                self._open(place.endpoint, line, now_s)
            return
        if line.places.pop(place.lease, None) is None:
            return
        self._routes.end(place.endpoint, place.origin)
        effects = line.queue.release(place.lease, now_s)
        if effects:
            self._put(line, effects)
            self._apply()
            self._publish(line)

    # -- what follows for others --------------------------------------------------------------------------

    def _put(self, line: Line, effects: Iterable[Effect]) -> None:
        for effect in effects:
            self._effects.append((line, effect))

    def _apply(self) -> None:
        # What a guest does may release other slots: their effects wait their turn instead of nesting.
        if self._applying:
            return
        self._applying = True
        try:
            while self._effects:
                self._act(*self._effects.popleft())
        finally:
            self._applying = False

    def _act(self, line: Line, effect: Effect) -> None:
        if isinstance(effect, Preempted):
            self._bump(line, effect)
            return
        place = line.waiting.pop(effect.ticket, None)
        if isinstance(effect, Refused):
            if place is not None:
                place.ticket = 0
                place.guest.turned_away(effect)
        elif place is None:
            # It left between the grant and now.
            self._put(line, line.queue.release(effect.lease, self._clock_s()))
        else:
            self._seat(place, effect)
            place.guest.seated(place)

    def _bump(self, line: Line, effect: Preempted) -> None:
        place = line.places.get(effect.lease)
        if place is None or place.free_at_s != inf:
            # It ended between the decision and now; the ticket that waits again is nobody's.
            self._put(line, line.queue.withdraw(effect.ticket, self._clock_s()))
            return
        rest = Place(line, NOBODY, place.origin)
        rest.lease, rest.endpoint = place.lease, place.endpoint
        line.places[effect.lease] = rest
        place.lease, place.ticket = 0, effect.ticket
        line.waiting[effect.ticket] = place
        self._settle(rest, self._clock_s(), answering=False)
        place.guest.bumped()

    def _publish(self, line: Line) -> None:
        """Tell the load reports who waits: the line's total, in equal parts for its endpoints."""
        left, parts = line.queue.waiting, len(line.limits)
        for key in line.limits:
            share = ceil(left / parts)
            self._routes.set_queued(key, share)
            left, parts = left - share, parts - 1

    # -- time ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Housekeeping at every tick: what became free by time, who waited too long, what is learned."""
        now_s = self._clock_s()
        if self._settling:
            settling, self._settling = self._settling, []
            self._settling += [place for place in settling if place.free_at_s > now_s]
            for place in settling:
                if place.free_at_s <= now_s:
                    self._free(place, now_s)
        self.learned.refill()
        for key, line in tuple(self.lines.items()):
            self._open(key, line, now_s)
            if line.queue.next_expiry_s() <= now_s:
                self._put(line, line.queue.expire(now_s))
                self._apply()
            self._publish(line)

    def reap(self) -> int:
        """Every second or so: free what a defect left behind; how much that was."""
        now_s, reaped = self._clock_s(), 0
        for line in {id(line): line for line in self._by_model.values()}.values():
            line.queue.housekeep()
            for place in [place for place in line.freely if place.guest.gone and place.free_at_s == inf]:
                # An end comes in one step: there is no moment in which its guest is gone and it is not.
                reaped += 1
                self._free(place, now_s)
            entries = [Entry(lease, lease, place.free_at_s) for lease, place in line.places.items()]
            for dead in line.reaper.look(entries, line.alive, now_s):
                reaped += 1
                log.error("slot.reaped: cause=%s", dead.cause.value)
                self._free(line.places[dead.lease], now_s)
            for place in [place for place in line.waiting.values() if place.guest.gone]:
                reaped += 1
                self.leave(place, cut=False, answering=False)
        return reaped
