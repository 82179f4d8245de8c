"""The spans of one sampled request, as plain values. Pure.

``gen_ai.*`` stands on the attempt at a backend, where inference happens, once per request: on an attempt at a
peer it would be counted there and here. The rest is told in ``swarm.*``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from sidecar.telemetry import record as records
from sidecar.telemetry.figures import dialect_of
from sidecar.telemetry.flags import NONE, response_flags
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
_SERVER_FAULT: Final = 500
_CLIENT_FAULT: Final = 400


@dataclass(frozen=True, slots=True)
class Span:
    """A finished span; times are Unix nanoseconds."""

    name: str
    kind: Literal["server", "client"]
    trace_id: int
    span_id: int
    parent_id: int
    """0: none."""
    remote_parent: bool
    flags: int
    state: bytes
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    error: str = ""
    """Why it failed; empty: it did not."""


def operation_of(path: bytes) -> str:
    """``gen_ai.operation.name`` of a request to ``path``."""
    for end, operation in _OPERATIONS:
        if path.endswith(end):
            return operation
    return path.rpartition(b"/")[2].decode("latin-1") or "request"


def spans_of(
    record: Record, trace: Trace, usage: Usage, finish: str, wall_offset_s: float
) -> tuple[Span, ...]:
    """The request's own span, then one per attempt in the order in which they were made.

    Args:
        record: The request.
        trace: Its trace.
        usage: Of its answer.
        finish: Why the model stopped; empty: unknown.
        wall_offset_s: Seconds to add to the record's times for Unix time.
    """
    context = trace.context
    own = Span(
        name=f"{record.method.decode('latin-1')} {record.path.decode('latin-1')}",
        kind="server",
        trace_id=context.trace_id,
        span_id=context.span_id,
        parent_id=trace.parent_id,
        remote_parent=bool(trace.parent_id),
        flags=context.flags,
        state=context.state,
        start_ns=_ns(record.started_s + wall_offset_s),
        end_ns=_ns(record.ended_s + wall_offset_s),
        attributes=_own(record),
        error=_error(record),
    )
    last = len(trace.attempts) - 1
    return (
        own,
        *(
            _attempt(record, trace, attempt, number, number == last, usage, finish, wall_offset_s)
            for number, attempt in enumerate(trace.attempts)
        ),
    )


def _attempt(
    record: Record,
    trace: Trace,
    attempt: Attempt,
    number: int,
    last: bool,
    usage: Usage,
    finish: str,
    wall_offset_s: float,
) -> Span:
    operation = operation_of(record.path)
    answered = last and not attempt.failure and record.outcome != records.REJECTED
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
            attributes |= _answer(record, attempt, usage, finish)
    error = attempt.failure or (_error(record) if answered else "")
    if not error and status >= _CLIENT_FAULT:
        error = str(status)
    if error:
        attributes["error.type"] = error
    context = trace.context
    return Span(
        name=f"{operation} {record.model}" if attempt.local else f"hop {attempt.node}",
        kind="client",
        trace_id=context.trace_id,
        span_id=attempt.span_id,
        parent_id=context.span_id,
        remote_parent=False,
        flags=context.flags,
        state=context.state,
        start_ns=_ns(attempt.started_s + wall_offset_s),
        end_ns=_ns((attempt.ended_s or record.ended_s) + wall_offset_s),
        attributes=attributes,
        error=error,
    )


def _own(record: Record) -> Mapping[str, Value]:
    attributes: dict[str, Value] = {
        "http.request.method": record.method.decode("latin-1"),
        "url.path": record.path.decode("latin-1"),
        "url.scheme": "https" if record.origin else "http",
        "swarm.request_id": record.request_id.decode("latin-1"),
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
    if record.queue_s:
        attributes["swarm.queue_s"] = record.queue_s
    return attributes


def _inference(record: Record, operation: str) -> Mapping[str, Value]:
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": record.provider or dialect_of(record.path),
        "gen_ai.request.model": record.model,
        "gen_ai.request.stream": record.streamed,
    }


def _answer(record: Record, attempt: Attempt, usage: Usage, finish: str) -> Mapping[str, Value]:
    attributes: dict[str, Value] = {"gen_ai.response.model": record.model}
    counted = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
    }
    attributes |= {name: count for name, count in counted.items() if count is not None}
    if finish:
        attributes["gen_ai.response.finish_reasons"] = (finish,)
    if record.streamed and record.first_byte_s:
        attributes["gen_ai.response.time_to_first_chunk"] = record.first_byte_s - attempt.started_s
    return attributes


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
