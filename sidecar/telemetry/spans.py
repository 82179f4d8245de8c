"""The spans of one sampled request, as plain values. Pure.

``gen_ai.*`` stands on the attempt at a backend, where inference happens, once per request: on an attempt at a
peer it would be counted there and here. The rest is told in ``swarm.*``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from sidecar.telemetry import record as records
from sidecar.telemetry.figures import dialect_of
from sidecar.telemetry.flags import NONE, response_flags
from sidecar.telemetry.limits import LONGEST_TEXT
from sidecar.telemetry.record import Record
from sidecar.telemetry.trace import Attempt, Trace
from sidecar.telemetry.usage import Usage

Value = str | int | float | bool | tuple[str, ...]
_OPERATIONS: Final = (
    (b"/chat/completions", "chat"),
    (b"/messages", "chat"),
    (b"/responses", "chat"),
    (b"/api/chat", "chat"),
    (b"/completions", "text_completion"),
    (b"/api/generate", "text_completion"),
    (b"/embeddings", "embeddings"),
    (b"/api/embed", "embeddings"),
)
_MOST_KEPT: Final = 1024
_NONE: Final[Mapping[str, Value]] = MappingProxyType({})
_SERVER_FAULT: Final = 500
_CLIENT_FAULT: Final = 400


class Alike(msgspec.Struct, frozen=True, eq=False):
    """What many spans have in common. Made once and kept, so whoever encodes it may do so once."""

    name: str
    kind: Literal["server", "client"]
    remote_parent: bool
    attributes: Mapping[str, Value]
    error: str
    """Why it failed; empty: it did not."""


class Span(msgspec.Struct, frozen=True):
    """A finished span; times are Unix nanoseconds."""

    alike: Alike
    trace_id: int
    span_id: int
    parent_id: int
    """0: none."""
    flags: int
    state: bytes
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    """Those of its own, beside the ones of :attr:`alike`."""


def operation_of(path: bytes) -> str:
    """``gen_ai.operation.name`` of a request to ``path``."""
    for end, operation in _OPERATIONS:
        if path.endswith(end):
            return operation
    return path.rpartition(b"/")[2].decode("latin-1") or "request"


class Spans:
    """Makes the spans of requests; what hardly differs between the requests of a client is made once."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], Alike] = {}

    def of(
        self, record: Record, trace: Trace, usage: Usage, finish: str, wall_offset_s: float
    ) -> tuple[Span, ...]:
        """The request's own span, then one per attempt in the order in which they were made. 3 µs a span.

        Args:
            record: The request.
            trace: Its trace.
            usage: Of its answer.
            finish: Why the model stopped; empty: unknown.
            wall_offset_s: Seconds to add to the record's times for Unix time.
        """
        context = trace.context
        own = Span(
            self._own(record, trace),
            context.trace_id,
            context.span_id,
            trace.parent_id,
            context.flags,
            context.state,
            _ns(record.started_s + wall_offset_s),
            _ns(record.ended_s + wall_offset_s),
            _own_figures(record),
        )
        last = len(trace.attempts) - 1
        return (
            own,
            *(
                self._attempt(record, trace, attempt, number, number == last, usage, finish, wall_offset_s)
                for number, attempt in enumerate(trace.attempts)
            ),
        )

    def _own(self, record: Record, trace: Trace) -> Alike:
        path = record.path[:LONGEST_TEXT]
        same = (
            path,
            record.method,
            record.status,
            record.code,
            record.outcome,
            record.failure,
            record.model,
            record.node,
            record.origin,
            record.attempts,
            record.streamed,
            record.key,
            record.priority,
            record.route_version,
            not trace.parent_id,
        )
        found = self._kept.get(same)
        if found is None:
            name = f"{record.method.decode('latin-1')} {path.decode('latin-1')}"
            found = Alike(name, "server", bool(trace.parent_id), _own(record, path), _error(record))
            self._keep(same, found)
        return found

    def _attempt(
        self,
        record: Record,
        trace: Trace,
        attempt: Attempt,
        number: int,
        last: bool,
        usage: Usage,
        finish: str,
        wall_offset_s: float,
    ) -> Span:
        answered = last and not attempt.failure and record.outcome != records.REJECTED
        inferred = answered and attempt.local
        path = record.path[:LONGEST_TEXT]
        same = (
            path,
            attempt.endpoint,
            attempt.node,
            attempt.local,
            attempt.status,
            attempt.failure,
            number,
            answered,
            record.model,
            record.provider,
            record.streamed,
            record.status,
            record.code,
            record.outcome,
            record.failure,
            finish,
        )
        alike = self._kept.get(same)
        if alike is None:
            alike = _attempted(record, path, attempt, number, finish, answered=answered)
            self._keep(same, alike)
        context = trace.context
        return Span(
            alike,
            context.trace_id,
            attempt.span_id,
            context.span_id,
            context.flags,
            context.state,
            _ns(attempt.started_s + wall_offset_s),
            _ns((attempt.ended_s or record.ended_s) + wall_offset_s),
            _answer_figures(record, attempt, usage) if inferred else _NONE,
        )

    def _keep(self, same: tuple[object, ...], alike: Alike) -> None:
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[same] = alike


def _attempted(
    record: Record, path: bytes, attempt: Attempt, number: int, finish: str, *, answered: bool
) -> Alike:
    operation = operation_of(path)
    attributes: dict[str, Value] = {
        "swarm.node": attempt.node,
        "swarm.endpoint": attempt.endpoint,
        "swarm.attempt": number + 1,
        "server.address": attempt.node,
    }
    status = attempt.status or (record.status if answered else 0)
    if status:
        attributes["http.response.status_code"] = status
    if attempt.local:
        attributes |= _inference(record, operation)
        if answered:
            attributes["gen_ai.response.model"] = record.model
            if finish:
                attributes["gen_ai.response.finish_reasons"] = (finish,)
    error = attempt.failure or (_error(record) if answered else "")
    if not error and status >= _CLIENT_FAULT:
        error = str(status)
    if error:
        attributes["error.type"] = error
    name = f"{operation} {record.model}" if attempt.local else f"hop {attempt.node}"
    return Alike(name, "client", remote_parent=False, attributes=attributes, error=error)


def _own(record: Record, path: bytes) -> Mapping[str, Value]:
    attributes: dict[str, Value] = {
        "http.request.method": record.method.decode("latin-1"),
        "url.path": path.decode("latin-1"),
        "url.scheme": "https" if record.origin else "http",
        "swarm.dialect": dialect_of(record.path),
        "swarm.outcome": record.outcome,
        "swarm.attempts": record.attempts,
        "swarm.streamed": record.streamed,
    }
    if record.status:
        attributes["http.response.status_code"] = record.status
    named = {
        "swarm.model": record.model,
        "swarm.node": record.node,
        "swarm.origin": record.origin,
        "swarm.key": record.key,
        "swarm.priority": record.priority,
        "swarm.route_version": record.route_version,
        "error.type": _error(record),
    }
    attributes |= {name: value for name, value in named.items() if value}
    flags = response_flags(record)
    if flags != NONE:
        attributes["swarm.flags"] = tuple(flags.split(","))
    return attributes


def _own_figures(record: Record) -> Mapping[str, Value]:
    request_id = record.request_id.decode("latin-1")
    if record.queue_s:
        return {"swarm.request_id": request_id, "swarm.queue_s": record.queue_s}
    return {"swarm.request_id": request_id}


def _inference(record: Record, operation: str) -> Mapping[str, Value]:
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": record.provider or dialect_of(record.path),
        "gen_ai.request.model": record.model,
        "gen_ai.request.stream": record.streamed,
    }


def _answer_figures(record: Record, attempt: Attempt, usage: Usage) -> Mapping[str, Value]:
    taken, made, cached = usage
    figures: dict[str, Value] = {}
    if taken is not None:
        figures["gen_ai.usage.input_tokens"] = taken
    if made is not None:
        figures["gen_ai.usage.output_tokens"] = made
    if cached is not None:
        figures["gen_ai.usage.cache_read.input_tokens"] = cached
    if record.streamed and record.first_byte_s:
        figures["gen_ai.response.time_to_first_chunk"] = record.first_byte_s - attempt.started_s
    return figures


def _error(record: Record) -> str:
    """``error.type`` of the whole request. A client's own mistake is no error of the server's."""
    if record.outcome == records.BROKEN:
        return record.failure or record.outcome
    if record.outcome == records.CANCELLED:
        return record.outcome
    if record.status >= _SERVER_FAULT:
        return record.code or str(record.status)
    return ""


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
