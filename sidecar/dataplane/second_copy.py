"""A second copy of a request whose first byte is late (DESIGN section 3: optional, off by default).

Until its answer begins it is nobody's: whatever goes wrong with it is noted and forgotten. Once it begins, or
once the first attempt has failed, the request takes it over, and it only passes on what comes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from sidecar.core.answers import Answer
from sidecar.core.attempts import Context, Outcome, Progress, decide
from sidecar.core.queue_values import Asking, Refused
from sidecar.core.retry_after import asked_wait_s
from sidecar.dataplane import hop as hops
from sidecar.dataplane.budget import end_retry
from sidecar.dataplane.event_relay import is_silence
from sidecar.dataplane.headers import Header
from sidecar.dataplane.owner_line import Place
from sidecar.dataplane.staking import ended
from sidecar.dataplane.translation import INLINE_BYTES
from sidecar.dataplane.upstream import Sink
from swarmplane.errors import SwarmError

if TYPE_CHECKING:
    from sidecar.core.candidate import Candidate
    from sidecar.core.cost import Ask
    from sidecar.dataplane.hedging import Hedges
    from sidecar.dataplane.plan import Plan
    from sidecar.dataplane.pool import Destination
    from sidecar.dataplane.server import DataPlane
    from sidecar.dataplane.upstream import Upstream, Whole
    from sidecar.dialects.translate import Outgoing

_ERRORS_FROM: Final = 400
_NOTHING: Final = Progress()


class SecondCopy(Sink):
    """One attempt beside another one. What it took, it gives back once, or the request takes over.

    Args:
        plane: Whose budget it uses.
        request: Whose copy it is.
        plan: The request's.
        ask: Of ``plan``.
        candidate: Who is asked; it has a free slot, as far as is known.
    """

    __slots__ = (
        "_over",
        "_parts",
        "_plan",
        "_plane",
        "_request",
        "_taken",
        "candidate",
        "counting",
        "outgoing",
        "place",
        "rename",
        "sent_s",
        "stake",
        "upstream",
    )

    def __init__(self, plane: DataPlane, request: Hedges, plan: Plan, ask: Ask, candidate: Candidate) -> None:
        self._plane = plane
        self._request = request
        self._plan = plan
        self._parts: list[bytes] = []
        self._over = False
        self._taken = False
        self.candidate = candidate
        self.upstream: Upstream | None = None
        self.place: Place | None = None
        self.counting = False
        self.rename = b""
        self.outgoing: Outgoing | None = None
        self.sent_s = time.monotonic()
        self.stake = plane.routes.balancer.begin(ask, candidate.endpoint, plane.clock_s(), plane.draw)
        plane.retrying += 1
        plane.hedging.running += 1

    def start(self) -> bool:
        """Take a slot and send it; False: there was none, and it is over."""
        plane, endpoint = self._plane, self.candidate.endpoint.id
        line = plane.owner.lines.get(endpoint) if self.candidate.local else None
        destination = plane.upstreams.destination(self.candidate)
        if not self._translated():
            self.cancel()
            return False
        if line is not None:
            place = Place(line, self, self._plan.origin)
            if plane.owner.sit(place, endpoint, self.sent_s):
                self.place = place
        else:
            plane.routes.begin(endpoint, self._plan.origin)
            self.counting = True
        if destination is None or (line is not None and self.place is None):
            self.cancel()
            return False
        plane.counters.attempts += 1
        plane.counters.hedges += 1
        upstream = destination.take()
        if upstream is None:
            plane.spawn(self._connect(destination))
        else:
            self._send(upstream)
        return True

    def _translated(self) -> bool:
        """Put the request into the backend's dialect where that must be; False: it can't, or not at once."""
        request, translator = self._request.request, self._plane.translator
        if not translator.needed(request, self.candidate):
            return True
        if len(request.body) > INLINE_BYTES:
            return False
        try:
            outgoing = translator.put(request, self._plan, self.candidate)
        except SwarmError:
            return False
        if isinstance(outgoing, bytes):
            return False
        self.outgoing = outgoing
        return True

    async def _connect(self, destination: Destination) -> None:
        plane = self._plane
        begun_s = time.monotonic()
        try:
            upstream = await destination.connect(plane.policy.connect_timeout_s)
        except OSError:
            self._ends(Outcome.CONNECT_FAILED)
            return
        plane.counters.upstream_connections += 1
        plane.upstreams.reached(self.candidate, time.monotonic() - begun_s)
        if self._request.gone if self._taken else self._over:
            destination.put(upstream)
        else:
            self._send(upstream)

    def _send(self, upstream: Upstream) -> None:
        plane, request = self._plane, self._request
        self.upstream = upstream
        self.sent_s = now_s = time.monotonic()
        self.stake.runs(plane.clock_s())
        body, self.rename = plane.writer.body(request.request, self._plan, self.candidate, self.outgoing)
        head = plane.writer.head(
            request.request,
            self._plan,
            self.candidate,
            len(body),
            attempt=2,
            now_s=now_s,
            # One attempt to whoever follows the trace: they run at the same time.
            context=request.noted.context,
            outgoing=self.outgoing,
        )
        withhold = not self.candidate.local and len(body) > plane.policy.expect_bytes
        if self._taken:
            request.copy_sent(self)
        upstream.send(self, head, body, withhold=withhold)

    # -- ends ---------------------------------------------------------------------------------------------

    def take(self) -> None:
        """The request takes it over, with all that it holds; what came so far comes again."""
        self._taken = self._over = True
        self._plane.hedging.running -= 1

    def replay(self) -> None:
        """After :meth:`take`: tell the request what came already."""
        upstream = self.upstream
        if upstream is not None and upstream.status:
            self._request.upstream_head(upstream)
            parts, self._parts = self._parts, []
            if parts:
                self._request.upstream_data(b"".join(parts))

    def cancel(self) -> None:
        """It is not needed any more."""
        if self._over:
            return
        self._over = True
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abort()
        plane, place = self._plane, self.place
        if place is not None:
            plane.owner.leave(place, cut=upstream is not None, answering=bool(self._parts))
        if self.counting:
            plane.routes.end(self.candidate.endpoint.id, self._plan.origin)
        self.stake.over(plane.clock_s())
        plane.hedging.running -= 1
        end_retry(plane)

    def _ends(self, outcome: Outcome, answer: Answer | None = None) -> None:
        """It ends in ``outcome``: what that says about its endpoint is learned, the request waits on."""
        if self._taken:
            self._request.copy_failed(outcome)
            return
        if self._over:
            return
        plane, candidate = self._plane, self.candidate
        full = plane.upstreams.full.get(candidate.endpoint.id, 0)
        decision = decide(_NOTHING, outcome, Context(0, False, plane.draw(), full_before=full), answer)
        ended(self.stake, candidate, outcome, answer, _NOTHING, decision, plane.clock_s())
        plane.upstreams.learn(candidate, decision)
        self._request.copy_over()
        self.cancel()

    # -- what its upstream says ---------------------------------------------------------------------------

    def upstream_info(self, status: int, headers: list[Header]) -> None:
        """See :class:`sidecar.dataplane.upstream.Sink`."""
        if self._taken:
            self._request.upstream_info(status, headers)
            return
        self._plane.upstreams.learn_load(self.candidate, hops.find(headers, b"x-swarm-load"))
        if hops.read_phase(headers) in {hops.QUEUED, hops.LOADING}:
            # A copy never waits: others want the slot that it would get.
            self._request.copy_over()
            self.cancel()

    def upstream_whole(self, answer: Whole, body: bytes, load: bytes) -> None:
        """See :class:`sidecar.dataplane.upstream.Sink`."""
        if not self._taken:
            self._request.copy_wins(self)
        self._request.upstream_whole(answer, body, load)

    def upstream_head(self, upstream: Upstream) -> None:
        """See :class:`sidecar.dataplane.upstream.Sink`."""
        if self._taken:
            self._request.upstream_head(upstream)
        elif upstream.status >= _ERRORS_FROM:
            # Even one that is the client's: the first attempt will say the same.
            named = {name.decode("latin-1"): value.decode("latin-1") for name, value in upstream.headers}
            refusal = None if self.candidate.local else named.get("x-swarm-refusal")
            self._ends(Outcome.STATUS, Answer(upstream.status, refusal, asked_wait_s(named)))

    def upstream_data(self, data: bytes, framed: bytes = b"") -> None:
        """See :class:`sidecar.dataplane.upstream.Sink`."""
        if self._taken:
            self._request.upstream_data(data, framed)
            return
        self._parts.append(data)
        said = b"".join(self._parts)
        if not is_silence(said):
            self._request.copy_wins(self)
            self.replay()
        elif len(said) > self._plane.policy.max_held_bytes:
            # Comments without an end: it can't win any more, and is not kept.
            self._ends(Outcome.TRUNCATED)

    def upstream_end(self) -> None:
        """See :class:`sidecar.dataplane.upstream.Sink`."""
        if self._taken:
            self._request.upstream_end()
        else:
            self.upstream = None
            self._ends(Outcome.TRUNCATED)

    def upstream_lost(self, upstream: Upstream, *, clean: bool) -> None:
        """See :class:`sidecar.dataplane.upstream.Sink`."""
        if self._taken:
            self._request.upstream_lost(upstream, clean=clean)
            return
        self.upstream = None
        if upstream.reused and not upstream.answered:
            # Nobody's fault, and nothing is sent a third time for it.
            self._request.copy_over()
            self.cancel()
        else:
            self._ends(Outcome.RESET_BEFORE_FIRST_BYTE)

    # -- in a line ----------------------------------------------------------------------------------------

    def seated(self, place: Place) -> None:
        """See :class:`sidecar.dataplane.owner_line.Guest`: it never waits."""

    def asking(self) -> Asking:
        """See :class:`sidecar.dataplane.owner_line.Guest`."""
        return self._request.asking()

    def turned_away(self, refused: Refused) -> None:  # noqa: ARG002
        """See :class:`sidecar.dataplane.owner_line.Guest`."""
        self.place = None
        self._request.copy_over()
        self.cancel()

    def bumped(self) -> None:
        """See :class:`sidecar.dataplane.owner_line.Guest`: a more urgent request takes its slot."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abort()
        self._request.copy_over()
        self.cancel()

    @property
    def gone(self) -> bool:
        """See :class:`sidecar.dataplane.owner_line.Guest`."""
        return self._over
