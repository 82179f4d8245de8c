"""W3C Trace Context: reading and writing ``traceparent`` and ``tracestate``. Pure.

What cannot be read is as good as absent, as the standard wants; nothing here raises.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
"""The trace id's last 56 bits are random (level 2)."""
_KEPT_FLAGS: Final = SAMPLED | RANDOM
_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[ -~]*)?\Z")
_KEY: Final = rb"(?:[a-z][_0-9a-z\-*/]{0,255}|[a-z0-9][_0-9a-z\-*/]{0,240}@[a-z][_0-9a-z\-*/]{0,13})"
_MEMBER: Final = re.compile(_KEY + rb"=[ -+\--<>-~]{0,255}[!-+\--<>-~]\Z")
_MOST_MEMBERS: Final = 32
_MOST_STATE_BYTES: Final = 512
_INVALID_VERSION: Final = b"ff"
_RATIO_BITS: Final = 64
_RATIO_MASK: Final = (1 << _RATIO_BITS) - 1


class TraceContext(NamedTuple):
    """Where in which trace something happens."""

    trace_id: int
    """128 bits, not 0."""
    span_id: int
    """64 bits, not 0."""
    flags: int = 0
    state: bytes = b""
    """``tracestate`` as it came, passed on unchanged; empty: none."""

    @property
    def sampled(self) -> bool:
        """Whether who began the trace keeps it."""
        return bool(self.flags & SAMPLED)

    def child(self, span_id: int) -> TraceContext:
        """The same trace, one span further."""
        return TraceContext(self.trace_id, span_id, self.flags, self.state)


def parse(traceparent: bytes, tracestate: bytes = b"") -> TraceContext | None:
    """The context that two header values state; None where ``traceparent`` is absent or wrong.

    Versions to come are read as far as this one goes. A ``tracestate`` that is wrong, or longer than
    anybody must pass on (512 bytes), is left out.
    """
    found = _PARENT.match(traceparent)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == _INVALID_VERSION or (version == b"00" and more):
        return None
    trace, span = int(trace_id, 16), int(span_id, 16)
    if not trace or not span:
        return None
    return TraceContext(trace, span, int(flags, 16) & _KEPT_FLAGS, _state(tracestate))


def _state(text: bytes) -> bytes:
    if not text or len(text) > _MOST_STATE_BYTES:
        return b""
    members = [member.strip(b" \t") for member in text.split(b",")]
    members = [member for member in members if member]
    if len(members) > _MOST_MEMBERS or not all(map(_MEMBER.match, members)):
        return b""
    keys = [member.partition(b"=")[0] for member in members]
    return b",".join(members) if len(set(keys)) == len(keys) else b""


def header_lines(context: TraceContext) -> bytes:
    """Both headers, as lines of a request's head."""
    state = context.state
    return b"traceparent: 00-%032x-%016x-%02x\r\n%b" % (
        context.trace_id,
        context.span_id,
        context.flags,
        b"tracestate: %b\r\n" % state if state else b"",
    )


def kept(trace_id: int, bound: int) -> bool:
    """Whether a new trace is kept: OpenTelemetry's ``traceidratio``, so all who see it decide alike."""
    return trace_id & _RATIO_MASK < bound


def ratio_bound(ratio: float) -> int:
    """What :func:`kept` compares with, for a share of traces between 0 and 1."""
    return round(min(max(ratio, 0.0), 1.0) * (_RATIO_MASK + 1))
