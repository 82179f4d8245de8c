"""Spans to an OpenTelemetry collector by OTLP over HTTP. The SDK is imported here, on first use, only.

Everything in this module runs in the thread of an :class:`Outlet`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sidecar.telemetry.outlet import UndeliveredError
from sidecar.telemetry.spans import Span

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext

_SCOPE: Final = "swarmplane.sidecar"
_LIBRARIES: Final = ("opentelemetry", "urllib3")


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
        self._resource: Resource | None = None
        self._scope: InstrumentationScope | None = None
        self._words = LastWords()

    def deliver(self, spans: Sequence[Span]) -> None:
        """Send ``spans``; waits for the collector.

        Raises:
            UndeliveredError: It did not take them.
        """
        exporter = self._exporter or self._open()
        from opentelemetry.sdk.trace.export import SpanExportResult

        self._words.said = ""
        result = exporter.export([self._readable(span) for span in spans])
        if result is not SpanExportResult.SUCCESS:
            raise UndeliveredError(self._words.said or "the collector did not take a batch")

    def close(self) -> None:
        """End an export that waits to be repeated, and take no more. From any thread; more than once."""
        if self._exporter is not None:
            self._exporter.shutdown()  # type: ignore[no-untyped-call]
        self._words.leave()

    def _open(self) -> OTLPSpanExporter:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._words.listen()
        self._resource = resource_of(self._attributes)
        self._scope = InstrumentationScope(_SCOPE, self._version)
        self._exporter = OTLPSpanExporter(
            endpoint=self._endpoint or None, headers=dict(self._headers), timeout=self._timeout_s
        )
        return self._exporter

    def _readable(self, span: Span) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.status import Status, StatusCode

        parent = None
        if span.parent_id:
            parent = _context(span, span.parent_id, remote=span.remote_parent)
        return ReadableSpan(
            name=span.name,
            context=_context(span, span.span_id, remote=False),
            parent=parent,
            resource=self._resource,
            attributes=span.attributes,
            kind=SpanKind.SERVER if span.kind == "server" else SpanKind.CLIENT,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


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
