"""All of a sidecar's telemetry, made from its settings and joined to each other."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sidecar.telemetry.access_log import STDOUT, LineFile, write_stdout
from sidecar.telemetry.figures import Figures
from sidecar.telemetry.otlp import OtlpSpans
from sidecar.telemetry.otlp_metrics import OtlpMetrics, Snapshot
from sidecar.telemetry.outlet import Outlet
from sidecar.telemetry.policy import AccessLogPolicy, ExportPolicy, MetricsPolicy, TelemetryPolicy
from sidecar.telemetry.recent import Recent
from sidecar.telemetry.ring import Ring
from sidecar.telemetry.spans import Span
from sidecar.telemetry.trace import RandomBits, Tracing
from sidecar.telemetry.worker import OnCached, OnPace, OnSpent, Worker
from swarmplane.exposition import Family

CLOSE_S: Final = 3.0
"""How long telemetry may take to get out when the process stops."""
_LINES_TOGETHER: Final = 4096
"""Lines that are written at once rather than later: a quarter of those that may wait."""


class Telemetry:
    """What the data plane writes into, and what becomes of it.

    The data plane uses :attr:`ring` and :attr:`tracing`; the process runs :meth:`run`; the admin listener
    awaits :meth:`catch_up` and shows :meth:`families` and :attr:`recent`.

    Args:
        policy: What is wanted.
        identity: OpenTelemetry resource attributes of this process, such as ``service.instance.id``.
        version: Of our software.
        draw: Random bits for ids and sampling.
    """

    def __init__(
        self,
        policy: TelemetryPolicy,
        *,
        identity: Mapping[str, str],
        version: str,
        draw: RandomBits = random.getrandbits,
    ) -> None:
        export = policy.export
        self._lines = _line_outlet(policy.access) if policy.access is not None else None
        self._spans = _span_outlet(export, identity, version) if export is not None else None
        self._metrics = _metric_outlet(policy.metrics, identity, version) if policy.metrics else None
        self._interval_s = policy.metrics.interval_s if policy.metrics is not None else 0.0
        self._figures = Figures()
        self._shown: Callable[[], Sequence[Family]] = self.families
        self.ring = Ring(policy.records, self._hurry)
        self.tracing = Tracing(export.sampling if export is not None else None, draw)
        self.recent = Recent()
        self._worker = Worker(
            self.ring, self._figures, lines=self._lines, spans=self._spans, recent=self.recent
        )

    def _hurry(self) -> None:
        self._worker.hurry()

    async def run(self) -> None:
        """Tell what ended, until cancelled; then at most :data:`CLOSE_S` for what is on its way out."""
        outlets: list[Outlet[bytes] | Outlet[Span] | Outlet[Snapshot]] = [
            outlet for outlet in (self._lines, self._spans, self._metrics) if outlet is not None
        ]
        for outlet in outlets:
            outlet.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._worker.run(), name="telemetry-worker")
                if self._metrics is not None:
                    group.create_task(self._export_metrics(self._metrics), name="telemetry-metrics")
        finally:
            if self._metrics is not None:
                # What ended since the last export would never be told.
                self._metrics.put(self._snapshot())
            for outlet in outlets:
                await asyncio.to_thread(outlet.close, CLOSE_S / len(outlets))

    async def _export_metrics(self, outlet: Outlet[Snapshot]) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._worker.catch_up()
            outlet.put(self._snapshot())

    def _snapshot(self) -> Snapshot:
        return Snapshot(tuple(self._shown()), time.time_ns())

    def export_instead(self, shown: Callable[[], Sequence[Family]]) -> None:
        """Export what ``shown`` gives, on the event loop, rather than the metrics of requests alone."""
        self._shown = shown

    def tell(self, on_pace: OnPace, on_cached: OnCached, on_spent: OnSpent | None = None) -> None:
        """Tell, on the event loop, how fast answers were written, what was cached, and what keys used."""
        self._worker.on_pace, self._worker.on_cached = on_pace, on_cached
        self._worker.on_spent = on_spent

    async def catch_up(self) -> None:
        """Count every request that has ended by now: before figures are shown."""
        await self._worker.catch_up()

    def dropped(self) -> Mapping[str, int]:
        """Pieces of telemetry lost since the start, by kind."""
        return {
            "record": self.ring.dropped + self._worker.faults,
            "access_log": self._lines.dropped if self._lines is not None else 0,
            "span": self._spans.dropped if self._spans is not None else 0,
            "metrics": self._metrics.dropped if self._metrics is not None else 0,
        }

    def families(self) -> Sequence[Family]:
        """Metrics of requests."""
        return self._figures.families(self.dropped())


def _line_outlet(policy: AccessLogPolicy) -> Outlet[bytes]:
    write, finish = write_stdout, None
    if policy.target != STDOUT:
        file = LineFile(Path(policy.target), max_bytes=policy.max_bytes, files=policy.files)
        write, finish = file.write, file.close
    return Outlet(
        "access-log",
        write,
        most=policy.most_lines,
        batch=_LINES_TOGETHER,
        delay_s=policy.delay_s,
        finish=finish,
    )


def _span_outlet(policy: ExportPolicy, identity: Mapping[str, str], version: str) -> Outlet[Span]:
    spans = OtlpSpans(
        endpoint=policy.endpoint,
        headers=policy.headers,
        timeout_s=policy.timeout_s,
        resource={"service.name": "swarm-sidecar", "service.version": version, **identity},
        version=version,
    )
    return Outlet(
        "otlp",
        spans.deliver,
        most=policy.most_spans,
        batch=policy.batch_spans,
        delay_s=policy.delay_s,
        abandon=spans.close,
        finish=spans.close,
    )


def _metric_outlet(policy: MetricsPolicy, identity: Mapping[str, str], version: str) -> Outlet[Snapshot]:
    metrics = OtlpMetrics(
        endpoint=policy.endpoint,
        headers=policy.headers,
        timeout_s=policy.timeout_s,
        resource={"service.name": "swarm-sidecar", "service.version": version, **identity},
        version=version,
    )
    # One waits while one is on its way: an older one says nothing that a newer one does not.
    return Outlet(
        "otlp-metrics",
        metrics.deliver,
        most=1,
        batch=1,
        delay_s=1.0,
        abandon=metrics.close,
        finish=metrics.close,
    )
