"""Spans to an OpenTelemetry collector by OTLP over HTTP. The SDK is imported here, on first use, only.

Everything in this module runs in the thread of an :class:`Outlet`, which takes the interpreter from the event
loop. The SDK encodes a span in 60 µs, attribute by attribute and with a hash of the resource. So it encodes
what spans have in common, once, and the rest is set here; environment, transport, retries and compression are
the SDK's.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sidecar.telemetry.outlet import UndeliveredError
from sidecar.telemetry.spans import Alike, Span, Value

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

_SCOPE: Final = "swarmplane.sidecar"
_LIBRARIES: Final = ("opentelemetry", "urllib3")
_MOST_KEPT: Final = 1024


class OtlpSpans:
    """Delivers spans; what is not said here comes from the standard ``OTEL_EXPORTER_OTLP_*`` variables.

    Args:
        endpoint: Full URL for traces; empty: from the environment.
        headers: Sent with every export, beside those of the environment.
        timeout_s: Longest time for one export with its retries; None: from the environment.
        resource: Who we are; ``OTEL_RESOURCE_ATTRIBUTES`` and ``OTEL_SERVICE_NAME`` come on top.
        version: Of our software.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        headers: Mapping[str, str],
        timeout_s: float | None,
        resource: Mapping[str, str],
        version: str,
    ) -> None:
        self._endpoint = endpoint
        self._headers = headers
        self._timeout_s = timeout_s
        self._attributes = resource
        self._version = version
        self._exporter: OTLPSpanExporter | None = None
        self._encoder: SpanEncoder | None = None
        self._closed = False
        self._words = LastWords()

    def deliver(self, spans: Sequence[Span]) -> None:
        """Send ``spans``; waits for the collector.

        Raises:
            UndeliveredError: It did not take them, or :meth:`close` was called.
        """
        if self._closed:
            raise UndeliveredError("the exporter is closed")
        if self._exporter is None or self._encoder is None:
            self._exporter, self._encoder = self._open()
        self._words.said = ""
        if not sent(self._exporter, self._encoder, spans):
            raise UndeliveredError(self._words.said or "the collector did not take a batch")

    def close(self) -> None:
        """End an export that waits to be repeated, and take no more. From any thread; more than once."""
        self._closed = True
        if self._exporter is not None:
            self._exporter.shutdown()  # type: ignore[no-untyped-call]
        self._words.leave()

    def _open(self) -> tuple[OTLPSpanExporter, SpanEncoder]:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        self._words.listen()
        exporter = OTLPSpanExporter(
            endpoint=self._endpoint or None, headers=dict(self._headers), timeout=self._timeout_s
        )
        return exporter, SpanEncoder(resource_of(self._attributes), self._version)


def sent(exporter: OTLPSpanExporter, encoder: SpanEncoder, spans: Sequence[Span]) -> bool:
    """Whether the collector took ``spans``.

    The SDK has no public way to send what is encoded already. Where its private one is missing, it encodes.
    """
    from opentelemetry.sdk.trace.export import SpanExportResult

    send = getattr(getattr(exporter, "_client", None), "export", None)
    if send is not None:
        encoded = encoder.encode(spans)
        with contextlib.suppress(AttributeError, TypeError):  # It has come to mean something else.
            taken: bool = send(encoded).success
            return taken
    readable = [encoder.readable(span, {**span.alike.attributes, **span.attributes}) for span in spans]
    return exporter.export(readable) is SpanExportResult.SUCCESS


class SpanEncoder:
    """Writes spans as OTLP has them; 7 µs a span.

    Args:
        resource: Who we are.
        version: Of our software.
    """

    def __init__(self, resource: Resource, version: str) -> None:
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._resource = resource
        self._scope = InstrumentationScope(_SCOPE, version)
        self._common: ResourceSpans | None = None
        self._alike: dict[Alike, WireSpan] = {}

    def encode(self, spans: Sequence[Span]) -> bytes:
        """An export of ``spans``, serialized."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        parts = [self._alike.get(span.alike) or self._part(span) for span in spans]
        message = ExportTraceServiceRequest()
        if self._common is not None:
            message.resource_spans.append(self._common)
            add = message.resource_spans[0].scope_spans[0].spans.add
            for part, span in zip(parts, spans, strict=True):
                made = add()
                made.CopyFrom(part)
                made.trace_id = span.trace_id.to_bytes(16, "big")
                made.span_id = span.span_id.to_bytes(8, "big")
                if span.parent_id:
                    made.parent_span_id = span.parent_id.to_bytes(8, "big")
                if span.state:
                    made.trace_state = span.state.decode("ascii")
                made.start_time_unix_nano = span.start_ns
                made.end_time_unix_nano = span.end_ns
                for name, value in span.attributes.items():
                    attribute = made.attributes.add()
                    attribute.key = name
                    _set(attribute.value, value)
        return message.SerializePartialToString()

    def _part(self, span: Span) -> WireSpan:
        """What the SDK makes of what ``span`` has in common with others; the rest is empty."""
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        (common,) = encode_spans([self.readable(span, span.alike.attributes)]).resource_spans
        part = common.scope_spans[0].spans.pop()
        for own in ("trace_id", "span_id", "parent_span_id", "trace_state"):
            part.ClearField(own)
        self._common = common
        if len(self._alike) >= _MOST_KEPT:
            self._alike.clear()
        self._alike[span.alike] = part
        return part

    def readable(self, span: Span, attributes: Mapping[str, Value]) -> ReadableSpan:
        """``span`` with ``attributes``, as the SDK has it."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.status import Status, StatusCode

        alike = span.alike
        parent = None
        if span.parent_id:
            parent = _context(span, span.parent_id, remote=alike.remote_parent)
        return ReadableSpan(
            name=alike.name,
            context=_context(span, span.span_id, remote=False),
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=SpanKind.SERVER if alike.kind == "server" else SpanKind.CLIENT,
            status=Status(StatusCode.ERROR, alike.error) if alike.error else Status(StatusCode.UNSET),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


def _set(wire: AnyValue, value: Value) -> None:
    if isinstance(value, bool):
        wire.bool_value = value
    elif isinstance(value, str):
        wire.string_value = value
    elif isinstance(value, int):
        wire.int_value = value
    elif isinstance(value, float):
        wire.double_value = value
    else:
        for one in value:
            wire.array_value.values.add().string_value = one


def _context(span: Span, span_id: int, *, remote: bool) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    state = TraceState.from_header([span.state.decode("ascii")]) if span.state else None
    return SpanContext(span.trace_id, span_id, remote, TraceFlags(span.flags), state)


def resource_of(attributes: Mapping[str, str]) -> Resource:
    """Who we are: ``attributes``; what the ``OTEL_`` variables for resources and the service say, wins."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    # Resource.create lets its arguments win over the environment.
    return Resource.create(dict(attributes)).merge(OTELResourceDetector().detect())


class LastWords(logging.Handler):
    """Keeps what the SDK said last in the thread that listens, and writes nothing.

    The SDK logs every failure; we say once that it fails, and use its words as the reason.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said = ""
        self._thread = 0

    def listen(self) -> None:
        """From now on the SDK's words in this thread come here, and no further."""
        self._thread = threading.get_ident()
        for name in _LIBRARIES:
            library = logging.getLogger(name)
            library.propagate = False
            library.handlers = [one for one in library.handlers if isinstance(one, LastWords)]
            library.addHandler(self)

    def leave(self) -> None:
        """Listen no more."""
        for name in _LIBRARIES:
            logging.getLogger(name).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        if record.thread == self._thread:
            self.said = record.getMessage()
