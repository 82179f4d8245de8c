"""An OpenTelemetry collector on 127.0.0.1: takes OTLP over HTTP, reads it, and may fail or stall."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


@dataclass(frozen=True, slots=True)
class CollectedSpan:
    """A span as it crossed the wire; ids in hexadecimal."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    start_ns: int
    end_ns: int
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CollectedPoint:
    """One value of a metric."""

    attributes: dict[str, Any]
    value: float
    """Of a histogram: its sum."""
    count: int = 0
    buckets: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class CollectedMetric:
    """A metric as it crossed the wire."""

    name: str
    unit: str
    kind: str
    """``sum``, ``gauge`` or ``histogram``."""
    points: tuple[CollectedPoint, ...]
    resource: dict[str, Any]


@dataclass(slots=True)
class Collector:
    """What arrived, and how the next export is answered."""

    url: str = ""
    spans: list[CollectedSpan] = field(default_factory=list)
    metrics: list[CollectedMetric] = field(default_factory=list)
    """Of all exports, in the order of their arrival."""
    exports: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    delay_s: float = 0.0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, count: int) -> list[CollectedSpan]:
        """The first ``count`` spans or more, as soon as they are there."""
        async with asyncio.timeout(20):
            while len(self.spans) < count:
                self.arrived.clear()
                await self.arrived.wait()
        return self.spans

    async def wait_for_metrics(self, enough: Callable[[list[CollectedMetric]], bool]) -> None:
        """Until the metrics that arrived are ``enough``."""
        async with asyncio.timeout(40):
            while not enough(self.metrics):
                self.arrived.clear()
                await self.arrived.wait()

    async def take_metrics(self, request: web.Request) -> web.Response:
        """Answer one export of metrics as told."""
        return await self._take(request, self._read_metrics, ExportMetricsServiceResponse())

    async def take(self, request: web.Request) -> web.Response:
        """Answer one export of spans as told."""
        return await self._take(request, self._read, ExportTraceServiceResponse())

    async def _take(self, request: web.Request, read: Callable[[bytes], None], done: Message) -> web.Response:
        self.exports += 1
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        body = await request.read()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.status == 200:
            read(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        self.arrived.set()
        answer = done.SerializeToString() if self.status == 200 else b"no"
        return web.Response(body=answer, status=self.status, content_type="application/x-protobuf")

    def _read_metrics(self, body: bytes) -> None:
        message = ExportMetricsServiceRequest.FromString(body)
        for resource in message.resource_metrics:
            about = _attributes(resource.resource.attributes)
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    kind = metric.WhichOneof("data") or ""
                    points = tuple(map(_point, getattr(metric, kind).data_points))
                    self.metrics.append(CollectedMetric(metric.name, metric.unit, kind, points, about))

    def _read(self, body: bytes) -> None:
        message = ExportTraceServiceRequest.FromString(body)
        for resource in message.resource_spans:
            about = _attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        CollectedSpan(
                            span.name,
                            span.kind,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            span.trace_state,
                            span.start_time_unix_nano,
                            span.end_time_unix_nano,
                            span.status.code == span.status.STATUS_CODE_ERROR,
                            _attributes(span.attributes),
                            about,
                        )
                    )


def _point(point: Any) -> CollectedPoint:
    attributes = _attributes(point.attributes)
    if hasattr(point, "bucket_counts"):
        buckets, bounds = tuple(point.bucket_counts), tuple(point.explicit_bounds)
        return CollectedPoint(attributes, point.sum, point.count, buckets, bounds)
    return CollectedPoint(attributes, float(getattr(point, point.WhichOneof("value"))))


def _attributes(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pair: KeyValue
    for pair in pairs:
        found[pair.key] = _value(pair.value)
    return found


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """A collector that serves while the context lasts."""
    made = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", made.take)
    app.router.add_post("/v1/metrics", made.take_metrics)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        made.url = f"http://{host}:{port}"
        yield made
    finally:
        await runner.cleanup()
