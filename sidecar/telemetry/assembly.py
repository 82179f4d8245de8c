"""All of a sidecar's telemetry, made from its settings and joined to each other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sidecar.telemetry.access_log import STDOUT, LineFile, write_stdout
from sidecar.telemetry.figures import Figures
from sidecar.telemetry.otlp import OtlpSpans
from sidecar.telemetry.outlet import Outlet
from sidecar.telemetry.policy import AccessLogPolicy, ExportPolicy, TelemetryPolicy
from sidecar.telemetry.ring import Ring
from sidecar.telemetry.spans import Span
from sidecar.telemetry.trace import RandomBits, Tracing
from sidecar.telemetry.worker import Worker
from swarmplane.exposition import Family

CLOSE_S: Final = 3.0
"""How long telemetry may take to get out when the process stops."""
_LINES_TOGETHER: Final = 1024


class Telemetry:
    """What the data plane writes into, and what becomes of it.

    The data plane uses :attr:`ring` and :attr:`tracing`; the process runs :meth:`run`; the admin listener
    awaits :meth:`catch_up` and shows :meth:`families`.

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
        self._figures = Figures()
        self.ring = Ring(policy.records, self._hurry)
        self.tracing = Tracing(export.sampling if export is not None else None, draw)
        self._worker = Worker(self.ring, self._figures, lines=self._lines, spans=self._spans)

    def _hurry(self) -> None:
        self._worker.hurry()

    async def run(self) -> None:
        """Tell what ended, until cancelled; then at most :data:`CLOSE_S` for what is on its way out."""
        outlets: list[Outlet[bytes] | Outlet[Span]] = [
            outlet for outlet in (self._lines, self._spans) if outlet is not None
        ]
        for outlet in outlets:
            outlet.start()
        try:
            await self._worker.run()
        finally:
            for outlet in outlets:
                await asyncio.to_thread(outlet.close, CLOSE_S / len(outlets))

    async def catch_up(self) -> None:
        """Count every request that has ended by now: before figures are shown."""
        await self._worker.catch_up()

    def dropped(self) -> Mapping[str, int]:
        """Pieces of telemetry lost since the start, by kind."""
        return {
            "record": self.ring.dropped + self._worker.faults,
            "access_log": self._lines.dropped if self._lines is not None else 0,
            "span": self._spans.dropped if self._spans is not None else 0,
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
