"""Which requests are traced, and what a traced one passes on. Only sampled requests have a :class:`Trace`.

The sampling decision is made once per trace, where it begins. On the peer listener a request without context
is one that the sender did not sample: the owner never begins a trace of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sidecar.telemetry.context import SAMPLED, TraceContext, header_lines, kept, parse, ratio_bound

RandomBits = Callable[[int], int]
"""So many random bits, as ``random.getrandbits`` gives them."""


class Attempt:
    """One endpoint that was asked for a sampled request."""

    __slots__ = ("ended_s", "endpoint", "failure", "local", "node", "span_id", "started_s", "status")

    def __init__(self, span_id: int, node: str, endpoint: str, *, local: bool, now_s: float) -> None:
        self.span_id = span_id
        self.node = node
        self.endpoint = endpoint
        self.local = local
        """A backend of this host's; else a hop to its owner."""
        self.started_s = now_s
        self.ended_s = 0.0
        """0: with the request."""
        self.failure = ""
        self.status = 0


class Trace:
    """The spans of one sampled request: one for itself, one per attempt."""

    __slots__ = ("_draw", "attempts", "context", "parent_id")

    def __init__(self, context: TraceContext, parent_id: int, draw: RandomBits) -> None:
        self.context = context
        """Of the request's own span."""
        self.parent_id = parent_id
        """0: the trace begins here."""
        self.attempts: list[Attempt] = []
        self._draw = draw

    def attempt(self, node: str, endpoint: str, *, local: bool, now_s: float) -> bytes:
        """An endpoint is asked now. Returns the header lines that the request to it carries."""
        span_id = _nonzero(self._draw, 64)
        self.attempts.append(Attempt(span_id, node, endpoint, local=local, now_s=now_s))
        return header_lines(self.context.child(span_id))

    def attempt_ended(self, now_s: float, *, status: int = 0, failure: str = "") -> None:
        """The last attempt is over; the one that answers may be left to end with the request."""
        if self.attempts:
            last = self.attempts[-1]
            last.ended_s, last.status, last.failure = now_s, status, failure


@dataclass(frozen=True, slots=True)
class Sampling:
    """Who is sampled, as ``OTEL_TRACES_SAMPLER`` says it."""

    follows_parent: bool = True
    """A context that came along decides, if there is one."""
    ratio: float = 1.0
    """Share of the traces that begin here."""


class Tracing:
    """Decides for every request whether it is traced.

    Args:
        sampling: Who is; None: nobody, for nothing is exported. Contexts are passed on all the same.
        draw: Random bits.
    """

    __slots__ = ("_bound", "_draw", "_follows_parent", "_on")

    def __init__(self, sampling: Sampling | None, draw: RandomBits) -> None:
        self._on = sampling is not None
        self._follows_parent = sampling is None or sampling.follows_parent
        self._bound = ratio_bound(sampling.ratio) if sampling is not None else 0
        self._draw = draw

    def begin(self, traceparent: bytes, tracestate: bytes, *, hop: bool) -> Trace | None:
        """The trace of a request that arrived with these header values (empty: absent); None: not sampled.

        Costs 0.1 to 0.3 microseconds for a request that is not; nothing is built for it.

        Args:
            traceparent: As it came.
            tracestate: As it came; several headers joined by commas.
            hop: It came from a peer, which has decided already.
        """
        if not self._on:
            return None
        if traceparent:
            parent = parse(traceparent, tracestate)
            if parent is not None:
                return self._within(parent, hop=hop)
        if hop:
            return None
        # The lower half tells whether it is kept: nearly all requests need no more than that.
        lower = self._draw(64)
        if not kept(lower, self._bound):
            return None
        trace_id = self._draw(64) << 64 | lower
        if not trace_id:
            return None
        return Trace(TraceContext(trace_id, _nonzero(self._draw, 64), SAMPLED), 0, self._draw)

    def _within(self, parent: TraceContext, *, hop: bool) -> Trace | None:
        decided = parent.sampled if hop or self._follows_parent else kept(parent.trace_id, self._bound)
        if not decided:
            return None
        context = TraceContext(
            parent.trace_id, _nonzero(self._draw, 64), parent.flags | SAMPLED, parent.state
        )
        return Trace(context, parent.span_id, self._draw)


def passed_on(traceparent: bytes, tracestate: bytes) -> bytes:
    """Header lines for the next one of a request that is not sampled here: its context as it came.

    Nothing where there was none, or none that can be read.
    """
    context = parse(traceparent, tracestate) if traceparent else None
    return header_lines(context) if context is not None else b""


def _nonzero(draw: RandomBits, bits: int) -> int:
    return draw(bits) or 1
