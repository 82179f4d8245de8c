"""What telemetry learns of a request, written when it ends: one row, nothing formatted, nothing awaited."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from sidecar.core.attempts import Outcome
from sidecar.dataplane.refusals import RefusedError
from sidecar.routing.view import View
from sidecar.telemetry import record as records
from sidecar.telemetry.ring import Ring
from sidecar.telemetry.trace import Trace, Tracing, passed_on
from swarmplane.errors import Code

if TYPE_CHECKING:
    from sidecar.core.answers import Answer
    from sidecar.core.candidate import Candidate
    from sidecar.dataplane.attempting import Attempts
    from sidecar.dataplane.connection import ClientConnection
    from sidecar.dataplane.ports import Backends
    from sidecar.dataplane.request import Request
    from sidecar.telemetry.record import Record
    from sidecar.telemetry.usage import Tail
    from swarmplane.errors import SwarmError

FAILURES: Final[Mapping[Outcome, str]] = {
    Outcome.CONNECT_FAILED: records.CONNECT_FAILED,
    Outcome.REUSED_CONNECTION_LOST: records.CONNECTION_LOST,
    Outcome.RESET_BEFORE_FIRST_BYTE: records.CONNECTION_LOST,
    Outcome.FIRST_BYTE_TIMEOUT: records.FIRST_BYTE_TIMEOUT,
    Outcome.TRUNCATED: records.TRUNCATED,
    Outcome.STATUS: records.BAD_STATUS,
}
_PRIORITY: Final = b"x-swarm-priority"
_PRIORITIES: Final[Mapping[bytes, str]] = {name.encode(): name for name in ("interactive", "default", "bulk")}
_UNSEEN: Final = object()


class Noted:
    """What is remembered of one request until its record is written."""

    __slots__ = (
        "asked",
        "bytes_before",
        "bytes_in",
        "cached",
        "context",
        "failure",
        "first_byte_s",
        "hedges",
        "moves",
        "replays",
        "retries",
        "status",
        "tail",
        "trace",
        "whole",
    )

    def __init__(self, trace: Trace | None, bytes_in: int, bytes_before: int) -> None:
        self.trace = trace
        self.bytes_in = bytes_in
        self.bytes_before = bytes_before
        """What its connection had sent when it began."""
        self.asked = self.retries = self.moves = self.replays = self.hedges = self.status = 0
        self.cached = 0
        """Leading blocks of the prompt that whoever answered was believed to have cached."""
        self.failure = ""
        self.first_byte_s = 0.0
        self.context = self.whole = b""
        """Trace context for whoever is asked now; the end of a whole answer's body."""
        self.tail: Tail | None = None
        """Of a streamed answer."""

    def attempt_over(self, outcome: Outcome, answer: Answer | None) -> None:
        """The last attempt ended in ``outcome``, and the client got nothing of it."""
        self.tail = None
        self.failed(FAILURES[outcome], status=answer.status if answer is not None else 0)

    def failed(self, failure: str, *, status: int = 0) -> None:
        """The last attempt is over, and did not give the answer, or not to its end."""
        self.failure = failure
        if self.trace is not None:
            self.trace.attempt_ended(time.monotonic(), status=status, failure=failure)


class Recorder:
    """Fills rows of ``ring``; without one, nothing is told to anybody.

    Args:
        ring: Where records go.
        tracing: Who is traced; None: nobody.
        backends: For the kind of a backend that served.
        node_name: Of this host.
    """

    __slots__ = ("_backends", "_node_name", "_ring", "_version", "_version_of", "begin_trace")

    def __init__(
        self, ring: Ring | None, tracing: Tracing | None, backends: Backends, node_name: str
    ) -> None:
        self._ring = ring
        self._backends = backends
        self._node_name = node_name
        self.begin_trace = (tracing or Tracing(None, lambda _bits: 1)).begin
        self._version = ""
        self._version_of: object = _UNSEEN

    def immediate(
        self,
        connection: ClientConnection,
        request: Request,
        answer: bytes,
        error: SwarmError | None,
        started_s: float,
    ) -> None:
        """A request got the ``answer`` of our own: because of ``error``, or because this host knows it."""
        row = self._ring.claim() if self._ring is not None else None
        if row is None:
            return
        head = request.head
        outcome = records.COMPLETED if error is None else records.REJECTED
        row.begin(head.method, head.path, request.request_id, outcome, started_s, time.monotonic())
        row.unsent(status_of(answer), request.size, len(answer))
        self._whose(row, connection, request)
        if error is not None:
            row.code = error.code.slug
            if request.fault is not None and error.code is Code.INVALID_REQUEST:
                row.failure = records.MALFORMED
        if not head.relayed:
            return
        row.trace = self.begin_trace(request.traceparent, head.tracestate, hop=connection.peer is not None)

    def ended(
        self,
        exchange: Attempts,
        outcome: str,
        candidate: Candidate | None,
        times_s: tuple[float, float, float],
        error: SwarmError | None,
    ) -> None:
        """``exchange`` is over, with an ``outcome`` of :data:`sidecar.telemetry.record.OUTCOMES`.

        Args:
            exchange: What ended.
            outcome: How.
            candidate: Who was asked last.
            times_s: When it began, when it was planned and when the last attempt was sent.
            error: Our own answer.
        """
        row = self._ring.claim() if self._ring is not None else None
        if row is None:
            return
        request, plan, connection = exchange.request, exchange.plan, exchange.connection
        head, noted = request.head, exchange.noted
        started_s, row_planned_s, sent_s = times_s
        row.begin(head.method, head.path, request.request_id, outcome, started_s, time.monotonic())
        row.status, row.failure, row.trace = noted.status, noted.failure, noted.trace
        row.bytes_in, row.bytes_out = noted.bytes_in, connection.bytes_out - noted.bytes_before
        row.retries, row.moves, row.replays = noted.retries, noted.moves, noted.replays
        row.attempts, row.hedges = noted.asked, noted.hedges
        row.planned_s, row.sent_s, row.first_byte_s = row_planned_s, sent_s, noted.first_byte_s
        self._whose(row, connection, request)
        if _PRIORITY in head.options:
            row.priority = _PRIORITIES.get(head.options[_PRIORITY].strip().lower(), "")
        if plan is not None:
            row.asked, row.model, row.stale = plan.asked, plan.model, plan.view.stale
            row.route_version = self._version if plan.view is self._version_of else self._text_of(plan.view)
            if noted.cached and plan.ask is not None:
                row.cached, row.prompt_tokens = noted.cached, plan.ask.prompt_tokens
        if error is not None:
            row.code = error.code.slug
            if isinstance(error, RefusedError) and plan is None:
                row.asked, row.model = error.asked, error.model
        elif candidate is not None:
            self._served(row, candidate)
        tail = noted.tail
        if tail is not None:
            row.streamed = True
            row.tail, row.opening = tail.last(), tail.opening
        else:
            row.tail = noted.whole

    def waited(self, request: Request, queue_s: float) -> None:
        """``request``, whose record was written just now, stood in queues for so long."""
        row = self._ring.newest() if self._ring is not None else None
        # Without a free row it has none, and the newest is another one's.
        if row is not None and row.request_id is request.request_id:
            row.queue_s = queue_s

    def _whose(self, row: Record, connection: ClientConnection, request: Request) -> None:
        peer, hop = connection.peer, request.head.hop
        if peer is None:
            row.client = connection.client
            if request.key is not None:
                row.key = request.key.id
            return
        row.origin = peer.node
        if hop is not None:
            row.key = hop.key

    def _served(self, row: Record, candidate: Candidate) -> None:
        row.node = candidate.node_name or self._node_name
        endpoint = candidate.endpoint
        row.endpoint = endpoint.id
        if candidate.local:
            row.backend = endpoint.backend
            if row.trace is not None and (target := self._backends.targets.get(endpoint.backend)) is not None:
                row.provider = target.kind

    def _text_of(self, view: View) -> str:
        self._version_of = view
        self._version = str(view.table.version)
        return self._version


def status_of(answer: bytes) -> int:
    """The status of an answer of our own."""
    return int(answer[9:12])


def context_lines(request: Request, trace: Trace | None, candidate: Candidate, node_name: str) -> bytes:
    """Trace context for the request to ``candidate``, which is asked now; empty where there is none."""
    if trace is not None:
        return trace.attempt(
            candidate.node_name or node_name,
            candidate.endpoint.id,
            local=candidate.local,
            now_s=time.monotonic(),
        )
    return passed_on(request.traceparent, request.head.tracestate) if request.traceparent else b""
