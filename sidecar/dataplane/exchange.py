"""One request's life: what its upstream and its client do, what the client gets, and what takes too long."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from sidecar.core.answers import Answer, Hint, hint_of, needs_hint
from sidecar.core.attempts import Outcome
from sidecar.core.retry_after import asked_wait_s
from sidecar.core.stalls import Pace, StallPolicy, silence_s, stall_limit_s
from sidecar.dataplane import hop as hops
from sidecar.dataplane.answers import error_event
from sidecar.dataplane.event_relay import EventRelay, is_silence
from sidecar.dataplane.headers import Header
from sidecar.dataplane.refusals import RefusedError
from sidecar.dataplane.relay import CollectingRelay, PassingRelay, Relay, streams
from sidecar.dataplane.relay_choice import choose, is_stream
from sidecar.dataplane.speaking import Speaks
from sidecar.dataplane.splice import rename_answer
from sidecar.dataplane.staking import begins_answer
from sidecar.telemetry import record as records
from sidecar.telemetry.usage import KEPT_BYTES, last_of
from swarmplane.errors import Code

if TYPE_CHECKING:
    from sidecar.dataplane.upstream import Upstream, Whole

_OURS_FAILED: Final = 502
_ERRORS_FROM: Final = 400
_NEVER: Final = math.inf


class Exchange(Speaks):
    """From a whole request to the last byte of its answer."""

    __slots__ = ()

    # -- what the upstream says ---------------------------------------------------------------------------

    def upstream_info(self, status: int, headers: list[Header]) -> None:
        """See :class:`sidecar.dataplane.upstream.Sink`."""
        candidate = self._candidate
        if status != 102 or candidate is None or candidate.local:  # noqa: PLR2004
            return
        self._plane.upstreams.learn_load(candidate, hops.find(headers, b"x-swarm-load"))
        phase = hops.read_phase(headers)
        if phase == hops.RUNNING and self._first_byte_by_s == math.inf and self._stake is not None:
            self._stake.runs(self._plane.clock_s())
        self._heard_phase(phase)

    def upstream_whole(self, answer: Whole, body: bytes, load: bytes) -> None:
        """See :class:`sidecar.dataplane.upstream.Sink`."""
        self._upstream = None
        if load and self._candidate is not None and not self._candidate.local:
            self._plane.upstreams.learn_load(self._candidate, load.decode("latin-1"))
        if self._plane.upstreams.full:
            self._plane.upstreams.served(self._candidate)
        if self._stake is not None:
            self._stake.first_byte(self._plane.clock_s())
        if self.outgoing is not None:
            self._translated(answer, body)
            return
        if self.rename:
            body = rename_answer(body, self.rename)
        self.noted.whole = body if len(body) <= KEPT_BYTES else last_of(body)
        head = self.answer_head(200, answer.lines, b"content-length: %d\r\n" % len(body), answer.headers)
        self.connection.write(head + body)
        self.relayed(close=False)

    def upstream_head(self, upstream: Upstream) -> None:
        """See :class:`sidecar.dataplane.upstream.Sink`."""
        policy = self._plane.policy
        candidate = self._candidate
        self._opened = False
        if candidate is not None and not candidate.local:
            self._plane.upstreams.learn_load(candidate, hops.find(upstream.headers, b"x-swarm-load"))
        if self.outgoing is not None:
            self._begin_translated(upstream, self.outgoing)
            return
        if upstream.status >= _ERRORS_FROM or upstream.until_eof:
            kind = hops.find(upstream.headers, b"content-type") or ""
            if upstream.status >= _ERRORS_FROM or not is_stream(kind):
                self._relay = CollectingRelay(self, upstream, policy.max_collected_bytes)
                return
        self._relay = choose(self, upstream, collect=policy.max_collected_bytes, hold=policy.max_held_bytes)
        if self.connection.paused:
            self.client_paused()

    def upstream_data(self, data: bytes, framed: bytes = b"") -> None:
        """See :class:`sidecar.dataplane.upstream.Sink`."""
        relay = self._relay
        if relay is None:
            return
        self._heard_s = self._plane.now_s
        if not self._opened:
            self._opens(relay, data)
        relay.data(data, framed)

    def _opens(self, relay: Relay, data: bytes) -> None:
        """Look at a piece that may be the first that counts."""
        stake = self._stake
        if stake is not None and not stake.answered and begins_answer(self._upstream, relay, data):
            stake.first_byte(self._plane.clock_s())
        if self._first_byte_by_s != _NEVER and (relay.committed or not is_silence(data)):
            self._first_byte_by_s = math.inf
            if self._sampled and streams(relay) and begins_answer(self._upstream, relay, data):
                self._learn_slots()
            if self._copy is not None and begins_answer(self._upstream, relay, data):
                self._drop_copy()
        self._opened = self._first_byte_by_s == _NEVER and (stake is None or stake.answered)

    def _learn_slots(self) -> None:
        in_flight, self._sampled = self._sampled, 0
        if self._candidate is not None:
            took_s = time.monotonic() - self._dispatched_s
            size_bytes = len(self.request.body)
            self._plane.owner.learn(
                self._candidate.endpoint.id, took_s, in_flight=in_flight, size_bytes=size_bytes
            )

    def upstream_end(self) -> None:
        """See :class:`sidecar.dataplane.upstream.Sink`."""
        upstream, self._upstream = self._upstream, None
        relay = self._relay
        if relay is None or upstream is None:
            return
        if upstream.status >= _ERRORS_FROM and self._judged(upstream, relay):
            return
        if relay.finished:
            relay.end()
        elif relay.committed:
            message = "the answer ended before its model had finished"
            self._break(Code.UPSTREAM_FAILED, message, records.TRUNCATED)
        else:
            self._outcome(Outcome.TRUNCATED)

    def upstream_lost(self, upstream: Upstream, *, clean: bool) -> None:
        """See :class:`sidecar.dataplane.upstream.Sink`."""
        self._upstream = None
        relay = self._relay
        if relay is None:
            lost = upstream.reused and not upstream.answered
            self._outcome(Outcome.REUSED_CONNECTION_LOST if lost else Outcome.RESET_BEFORE_FIRST_BYTE)
        elif clean and isinstance(relay, CollectingRelay) and upstream.status >= _ERRORS_FROM:
            if not self._judged(upstream, relay):
                relay.end()
        elif (clean and relay.whole_at_eof()) or (isinstance(relay, EventRelay) and relay.whole_at_eof()):
            relay.end()
        elif relay.committed:
            self._break(
                Code.UPSTREAM_FAILED,
                "the node that was answering went away in the middle of the answer",
                records.CONNECTION_LOST,
            )
        else:
            self._outcome(Outcome.TRUNCATED)

    def _judged(self, upstream: Upstream, relay: Relay) -> bool:
        """Whether an error answer was a move, a retry or our own refusal; else it is the client's."""
        if relay.committed or self._plan.final:
            return False
        candidate = self._candidate
        refusal = None
        if candidate is not None and not candidate.local:
            refusal = hops.find(upstream.headers, b"x-swarm-refusal")
        hint = Hint.NONE
        if refusal is None and needs_hint(upstream.status) and isinstance(relay, CollectingRelay):
            model = candidate.endpoint.model if candidate is not None else ""
            hint = hint_of(upstream.status, relay.body, model)
        status = upstream.status
        if self._plane.upstreams.refused_us(candidate, status):
            status = _OURS_FAILED
        answer = Answer(status, refusal, _asked_wait_s(upstream.headers), hint)
        return self._outcome(Outcome.STATUS, answer)

    def overflow(self, so_far: bytes) -> None:
        """An answer is too large to hold: from here on it passes as it comes."""
        upstream = self._upstream
        if upstream is None:
            return
        self._relay = PassingRelay(self, upstream)
        self._relay.data(so_far)

    def _break(self, code: Code, message: str, failure: str) -> None:
        relay = self._relay
        if relay is None:
            return
        self._plane.counters.broken += 1
        if self._stake is not None:
            self._stake.broke(self._plane.clock_s())
        self.noted.failed(failure)
        self._tell(records.BROKEN)
        self._cut_off()
        relay.break_off(error_event(self.request.head.path, code, message))
        self._finish(close=True)

    # -- for the relay ------------------------------------------------------------------------------------

    def committed(self) -> None:
        """The client gets this answer: nothing will be sent again."""
        self._first_byte_by_s = self._next_phase_s = math.inf
        if self._copy is not None:
            # Even of an error, or of silence: a second answer has no place behind it.
            self._drop_copy()
        if self._plane.upstreams.full:
            self._plane.upstreams.served(self._candidate)
        if self._place is not None:
            self._plane.owner.sent(self._place)
        self._plane.release_body(self.request)

    def answer_head(self, status: int, lines: bytes, framing: bytes, headers: list[Header]) -> bytes:
        """Status line and headers of the relayed answer; see :class:`sidecar.dataplane.writer.Writer`."""
        if self._candidate is None:
            raise RuntimeError("nobody was asked")
        planned_s, dispatched_s = self._planned_s, self._dispatched_s
        noted = self.noted
        noted.status = status
        noted.first_byte_s = now_s = time.monotonic()
        return self._plane.writer.answer_head(
            self.request,
            self._plan,
            self._candidate,
            status,
            lines,
            framing,
            headers,
            self._progress.attempts + 1,
            dispatched_s - planned_s,
            planned_s - self._started_s,
            now_s - dispatched_s,
        )

    def relayed(self, *, close: bool) -> None:
        """The answer is written whole."""
        if self._finished:
            return
        if not close:
            self._plane.counters.completed += 1
            if self._stake is not None:
                self._stake.finished(self._plane.clock_s())
                self.noted.cached = self._stake.cached
            if self._pace is not None and self._candidate is not None:
                self._plane.routes.balancer.gaps.learn(self._candidate.endpoint.id, self._pace.gap_s)
            self._tell(records.COMPLETED)
        self._finish(close=close or self.request.closes or self._plane.draining)

    # -- the client ---------------------------------------------------------------------------------------

    def client_paused(self) -> None:
        """The client reads more slowly than the answer comes: stop reading it."""
        self._paused_s = time.monotonic()
        self._pace = None
        if self._upstream is not None and self._relay is not None:
            self._upstream.pause()

    def client_resumed(self) -> None:
        """The client caught up."""
        self._paused_s = math.inf
        self._heard_s = self._plane.now_s
        if self._upstream is not None:
            self._upstream.resume()

    def cancel(self) -> None:
        """The client left: stop everything for it, now."""
        if self._finished:
            return
        self._plane.counters.cancelled += 1
        self._tell(records.CANCELLED)
        self._cut_off()
        self._let_go()

    # -- time ---------------------------------------------------------------------------------------------

    def check(self, now_s: float) -> None:
        """Housekeeping: act on what took too long."""
        policy = self._plane.policy
        committed = self._looked_at()
        if now_s >= self._plan.deadline_s:
            self._expired(committed=committed)
        elif now_s - self._paused_s > policy.stall_timeout_s:
            self.connection.abort()
            self.noted.failed(records.CLIENT_STALLED)
            self.cancel()
        elif self._paused_s != math.inf or self._upstream is None:
            if now_s >= self._next_phase_s:
                self._still_queued()
        elif now_s >= self._first_byte_by_s:
            if self._may_fire(now_s):
                self._silent()
        elif now_s - self._heard_s > min(policy.stall_floor_s, policy.stall_timeout_s) and self._stalls(
            now_s
        ):
            if committed:
                self._break(Code.UPSTREAM_TIMEOUT, "the answer stopped coming", records.STALLED)
            else:
                self._silent()
        elif now_s >= self._next_phase_s:
            self._next_phase_s = now_s + 10 * policy.phase_after_s
            self.connection.write(
                hops.phase_message(hops.RUNNING, self._plane.upstreams.load_line(self._candidate))
            )

    def _looked_at(self) -> bool:
        """Whether the client has some of the answer; how it comes is noted."""
        relay = self._relay
        if relay is None or not relay.committed:
            return False
        if self._pace is not None:
            self._pace.look(self._heard_s)
        elif self._paused_s == math.inf:
            self._pace = Pace(self._heard_s)
        return True

    def _stalls(self, now_s: float) -> bool:
        """Whether an answer that began has been silent for longer than it ever is."""
        plane, candidate = self._plane, self._candidate
        policy, usual_s = plane.policy, 0.0
        # What is collected comes at once or when it is whole, and a wait is no answer: they have no pace.
        if candidate is not None and streams(self._relay):
            usual_s = plane.routes.balancer.gaps.of(candidate.endpoint.id)
        limit_s = stall_limit_s(
            usual_s, StallPolicy(floor_s=policy.stall_floor_s, hard_s=policy.stall_timeout_s)
        )
        silent_s = silence_s(now_s, self._heard_s, listening_since_s=0.0, awake_since_s=plane.awake_s)
        return silent_s > limit_s

    def _silent(self) -> None:
        self._cut_off()
        self._first_byte_by_s = self._heard_s = math.inf
        self._outcome(Outcome.FIRST_BYTE_TIMEOUT)

    def _expired(self, *, committed: bool) -> None:
        if committed:
            self._break(Code.UPSTREAM_TIMEOUT, "the request's time is over", records.DEADLINE)
            return
        self._cut_off()
        self.noted.failed(records.DEADLINE)
        error = RefusedError(
            "the request's time is over", Code.UPSTREAM_TIMEOUT, expired=self._plan.hop is not None
        )
        self._refuse(error)

    def cut_short(self) -> None:
        """See :class:`sidecar.dataplane.attempting.Attempts`."""
        if self._finished:
            return
        if self._relay is not None and self._relay.committed:
            self._break(Code.DRAINING, "this node stops before the answer is whole", records.STOPPED)
            return
        self._cut_off()
        self.noted.failed(records.STOPPED)
        self._refuse(RefusedError("this node stops; try again", Code.DRAINING, retry_after=1))

    def describe(self, now_s: float) -> dict[str, object]:
        """For the admin listener: no content, no addresses."""
        candidate = self._candidate
        return {
            "request_id": self.request.request_id.decode("latin-1"),
            "path": self.request.head.path.decode("latin-1"),
            "model": self._plan.model,
            "node": candidate.node_name if candidate is not None else "",
            "endpoint": candidate.endpoint.id if candidate is not None else "",
            "origin": self._plan.origin,
            "attempts": self._progress.attempts + 1,
            "streaming": self._relay is not None and self._relay.committed,
            "age_s": round(now_s - self._started_s, 3),
        }


def _asked_wait_s(headers: list[Header]) -> float:
    """For how long a refusing answer asks not to be asked; 0: it does not say."""
    return asked_wait_s({name.decode("latin-1"): value.decode("latin-1") for name, value in headers})
