"""Metrics to an OpenTelemetry collector by OTLP over HTTP. The SDK is imported here, on first use, only.

Everything in this module runs in the thread of an :class:`Outlet`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.telemetry import instruments
from sidecar.telemetry.otlp import LastWords, resource_of
from sidecar.telemetry.outlet import UndeliveredError
from swarmplane.exposition import Family

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import DataT, Metric, MetricsData
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

_SCOPE: Final = "swarmplane.sidecar"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All metrics at one moment."""

    families: tuple[Family, ...]
    at_ns: int
    """Unix nanoseconds."""


class OtlpMetrics:
    """Delivers snapshots; what is not said here comes from the standard ``OTEL_EXPORTER_OTLP_*`` variables.

    Sums and histograms are cumulative since the process began.

    Args:
        endpoint: Full URL for metrics; empty: from the environment.
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
        self._began_ns = time.time_ns()
        self._exporter: OTLPMetricExporter | None = None
        self._resource: Resource | None = None
        self._scope: InstrumentationScope | None = None
        self._words = LastWords()

    def deliver(self, snapshots: Sequence[Snapshot]) -> None:
        """Send the last of ``snapshots``, which has all that the others have; waits for the collector.

        Raises:
            UndeliveredError: It did not take it.
        """
        exporter = self._exporter or self._open()
        from opentelemetry.sdk.metrics.export import MetricExportResult

        self._words.said = ""
        result = exporter.export(self._data(snapshots[-1]))
        if result is not MetricExportResult.SUCCESS:
            raise UndeliveredError(self._words.said or "the collector did not take the metrics")

    def close(self) -> None:
        """End an export that waits to be repeated, and take no more. From any thread; more than once."""
        if self._exporter is not None:
            self._exporter.shutdown()
        self._words.leave()

    def _open(self) -> OTLPMetricExporter:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._words.listen()
        self._resource = resource_of(self._attributes)
        self._scope = InstrumentationScope(_SCOPE, self._version)
        self._exporter = OTLPMetricExporter(
            endpoint=self._endpoint or None, headers=dict(self._headers), timeout=self._timeout_s
        )
        return self._exporter

    def _data(self, snapshot: Snapshot) -> MetricsData:
        from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics

        if self._resource is None or self._scope is None:
            raise RuntimeError("the exporter is not open")
        metrics = [self._metric(one, snapshot.at_ns) for one in snapshot.families if one.samples]
        scope = ScopeMetrics(scope=self._scope, metrics=metrics, schema_url="")
        return MetricsData([ResourceMetrics(resource=self._resource, scope_metrics=[scope], schema_url="")])

    def _metric(self, family: Family, at_ns: int) -> Metric:
        from opentelemetry.sdk.metrics.export import Metric

        data = (
            self._distributions(family, at_ns) if family.kind == "histogram" else self._numbers(family, at_ns)
        )
        return Metric(
            name=instruments.name_of(family),
            description=family.help,
            unit=instruments.unit_of(family),
            data=data,
        )

    def _numbers(self, family: Family, at_ns: int) -> DataT:
        from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, NumberDataPoint, Sum

        counter = family.kind == "counter"
        points = [
            NumberDataPoint(
                attributes=dict(instruments.attributes_of(sample.labels)),
                start_time_unix_nano=self._began_ns if counter else 0,
                time_unix_nano=at_ns,
                value=sample.value,
            )
            for sample in family.samples
        ]
        if counter:
            return Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
        return Gauge(points)

    def _distributions(self, family: Family, at_ns: int) -> DataT:
        from opentelemetry.sdk.metrics.export import AggregationTemporality, Histogram, HistogramDataPoint

        points = [
            HistogramDataPoint(
                attributes=dict(one.attributes),
                start_time_unix_nano=self._began_ns,
                time_unix_nano=at_ns,
                count=one.count,
                sum=one.total,
                bucket_counts=list(one.counts),
                explicit_bounds=list(one.bounds),
                min=None,  # type: ignore[arg-type]  # optional on the wire, and not known here
                max=None,  # type: ignore[arg-type]
            )
            for one in instruments.distributions(family)
        ]
        return Histogram(points, AggregationTemporality.CUMULATIVE)
