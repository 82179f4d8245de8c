"""Keeping watch over one backend that somebody else runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import structlog

from sidecar.backends.listing import GENERIC
from sidecar.backends.ollama_probe import Shelf
from sidecar.backends.probe import Finding, Health, Prober
from sidecar.backends.target import OPENAI_ONLY, BackendSpec, Target
from sidecar.core.residents import Resident
from swarmplane.inventory import Backend

HEALTHY_S: Final = 10.0
UNHEALTHY_S: Final = 2.0
BUSY_TOLERATED: Final = 5
"""Time-outs in a row that a healthy one may have: an answer of a serial server can block it for a minute."""
_LEAST_GAP_S: Final = 0.2
"""Between two probes, however often it is reported as failing."""

log = structlog.get_logger()


class Poller:
    """What is known of a backend, refreshed every few seconds and whenever it is woken.

    ``changed`` is called after every change of :attr:`backend` or :attr:`target`.
    """

    def __init__(self, spec: BackendSpec, changed: Callable[[], None]) -> None:
        self.spec = spec
        self.backend = Backend(spec.name, GENERIC, healthy=False, reason="not checked yet", slots=spec.slots)
        self.target: Target | None = None
        self.kv_used: float | None = None
        """Share of its context memory in use, at the last look; None: it does not tell."""
        self.residents: Mapping[str, Resident] = MappingProxyType({})
        """What it has loaded with which context, by its own spelling, at the last look."""
        self.looks = 0
        """Probes that are over."""
        self._shelf = Shelf()
        self._changed = changed
        self._wake = asyncio.Event()
        self._kind = ""
        self._dialects = OPENAI_ONLY
        self._busy = 0

    def wake(self) -> None:
        """Check now."""
        self._wake.set()

    async def run(self, prober: Prober) -> None:
        """Check until cancelled."""
        while True:
            self._wake.clear()
            finding = await prober.probe(self.spec, self._kind, self._shelf)
            self._apply(finding)
            self.looks += 1
            await asyncio.sleep(_LEAST_GAP_S)
            if finding.more:
                continue
            try:
                async with asyncio.timeout(HEALTHY_S if self.backend.healthy else UNHEALTHY_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _apply(self, finding: Finding) -> None:
        self._busy = self._busy + 1 if finding.health is Health.BUSY else 0
        if self._busy and self._busy < BUSY_TOLERATED and self.backend.healthy:
            return
        before = self.backend, self.target
        if finding.health is Health.OK:
            self._answered(finding)
        else:
            self._failed(finding)
        if before == (self.backend, self.target):
            return
        if before[0].healthy != self.backend.healthy or before[0].reason != self.backend.reason:
            log.info(
                "backend.changed",
                backend=self.spec.name,
                healthy=self.backend.healthy,
                reason=self.backend.reason,
                models=len(self.backend.models),
            )
        self._changed()

    def _answered(self, finding: Finding) -> None:
        self._kind = finding.kind or GENERIC
        if finding.dialects is not None:
            self._dialects = finding.dialects
        self.kv_used = finding.kv_used
        self.residents = finding.residents
        slots = self.spec.slots or finding.slots
        models = self.backend.models if finding.models is None else finding.models
        self.backend = Backend(self.spec.name, self._kind, healthy=True, models=models, slots=slots)
        self.target = Target(
            name=self.spec.name,
            kind=self._kind,
            host=self.spec.host,
            port=self.spec.port,
            tls=self.spec.tls,
            base_path=self.spec.base_path,
            headers=finding.headers,
            slots=slots,
            dialects=self._dialects,
        )

    def _failed(self, finding: Finding) -> None:
        """Its models stay known, so that clients hear that nobody serves them, not that they do not exist."""
        self.residents = MappingProxyType({})
        node = finding.health is Health.NODE
        self._kind = ""  # something else may listen there when it is back
        self.backend = Backend(
            name=self.spec.name,
            kind=self.backend.kind,
            healthy=False,
            reason=finding.reason,
            models=() if node else self.backend.models,
            slots=self.backend.slots,
        )
        if node:
            self.target = None
