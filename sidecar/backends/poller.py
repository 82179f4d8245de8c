"""Keeping watch over one backend that somebody else runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import structlog

from sidecar.backends.figures import Figures
from sidecar.backends.finding import NO_FIGURES, Finding, Health
from sidecar.backends.listing import loaded_first
from sidecar.backends.ollama import shown_key
from sidecar.backends.ollama_probe import MOST_MODELS, Shelf
from sidecar.backends.probe import Prober
from sidecar.backends.target import OPENAI_ONLY, BackendSpec, Target
from sidecar.core.identify import GENERIC
from sidecar.core.residents import Resident
from sidecar.core.shown import Shown
from swarmplane.inventory import Backend, BackendModel

HEALTHY_S: Final = 3.0
UNHEALTHY_S: Final = 2.0
UNHEALTHY_SHARE: Final = 10.0
"""So much more often than while it is well is one asked that is looked at seldom."""
MISSING_S: Final = 1.0
"""Until a second look at one that was found by itself and refuses connections."""
BUSY_TOLERATED: Final = 5
"""Time-outs in a row that a healthy one may have: an answer of a serial server can block it for a minute."""
MISSES_TOLERATED: Final = 1
"""Looks in a row that one found by itself may miss before it is gone: a restart takes a moment."""
_LEAST_GAP_S: Final = 0.2
"""Between two probes, however often it is reported as failing."""
_PRESENT: Final = frozenset({Health.OK, Health.LOADING, Health.NEEDS_KEY})
_NOT_ONE: Final = frozenset({Health.NODE, Health.STRANGER})

log = structlog.get_logger()


class Poller:
    """What is known of a backend, refreshed every few seconds and whenever it is woken.

    ``changed`` is called after every change of :attr:`backend` or :attr:`target`, ``looked`` after each look;
    ``most`` says how many models it may have.
    """

    def __init__(
        self,
        spec: BackendSpec,
        changed: Callable[[], None],
        looked: Callable[[], None] = lambda: None,
        most: Callable[[], int] = lambda: MOST_MODELS,
    ) -> None:
        self.spec = spec
        self.health = Health.UNKNOWN
        self.backend = Backend(
            spec.name, GENERIC, healthy=False, reason=Health.UNKNOWN.value, slots=spec.slots
        )
        self.target: Target | None = None
        self.figures: Figures = NO_FIGURES
        """How busy it says it is, at the last look."""
        self.residents: Mapping[str, Resident] = MappingProxyType({})
        """What it has loaded with which context, by its own spelling, at the last look."""
        self.looks = 0
        """Probes that are over."""
        self.known = not spec.found
        """Whether it is a backend as far as anybody can tell: what was found first has to answer as one."""
        self._shelf = Shelf()
        self._changed = changed
        self._looked = looked
        self._most = most
        self._left_out = ""
        self._wake = asyncio.Event()
        self._kind = ""
        self._dialects = OPENAI_ONLY
        self._busy = self._misses = 0

    def shown(self, model: str) -> Shown | None:
        """What it showed of ``model``, by its own spelling; None: it shows nothing. O(models)."""
        found = next((one for one in self.backend.models if one.name == model), None)
        return self._shelf.shown.get(shown_key(found)) if found is not None else None

    def wake(self) -> None:
        """Check now, and a provider's opinion of our key too."""
        if self.spec.provider:
            self._kind = ""
        self._wake.set()

    async def run(self, prober: Prober) -> None:
        """Check until cancelled; one that was found by itself, until it is gone or shows to be none."""
        while True:
            self._wake.clear()
            finding = await self.look(prober)
            if self.spec.found and self._lost(finding):
                return
            await asyncio.sleep(_LEAST_GAP_S)
            if finding.more:
                continue
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def look(self, prober: Prober) -> Finding:
        """Check once, now."""
        self._shelf.most = self._most()
        finding = await prober.probe(self.spec, self._kind, self._shelf)
        self._apply(finding)
        self.looks += 1
        self._looked()
        return finding

    def _pause_s(self) -> float:
        if self._misses:
            return MISSING_S
        if self.backend.healthy:
            return self.spec.every_s or HEALTHY_S
        # Nobody is shown a key that is refused every two seconds.
        return self.spec.every_s / UNHEALTHY_SHARE or UNHEALTHY_S

    def _lost(self, finding: Finding) -> bool:
        if finding.health is Health.UNREACHABLE:
            self._misses += 1
        else:
            self._misses = 0
        return not self.known or finding.health in _NOT_ONE or self._misses > MISSES_TOLERATED

    def _apply(self, finding: Finding) -> None:
        self._busy = self._busy + 1 if finding.health is Health.BUSY else 0
        if self._busy and self._busy < BUSY_TOLERATED and self.backend.healthy:
            return
        before = self.backend, self.target, self.known
        self.health = finding.health
        self.known = self.known or finding.health in _PRESENT
        if finding.health is Health.OK:
            self._answered(finding)
        else:
            self._failed(finding)
        if before == (self.backend, self.target, self.known):
            return
        if before[0].healthy != self.backend.healthy or before[0].reason != self.backend.reason:
            self._say()
        self._changed()

    def _say(self) -> None:
        if self.known:
            log.info(
                "backend.changed",
                backend=self.spec.name,
                kind=self.backend.kind,
                found=self.spec.found,
                **({"not_used_of": self.spec.owner} if self.spec.owner else {}),
                state=self.health.value,
                reason=self.backend.reason,
                models=len(self.backend.models),
            )

    def _answered(self, finding: Finding) -> None:
        self._kind = finding.kind or GENERIC
        if finding.dialects is not None:
            self._dialects = finding.dialects
        self.figures = finding.figures
        self.residents = finding.residents
        slots = self.spec.slots or finding.slots
        models = self.backend.models
        if finding.models is not None:
            models, self._left_out = _within(finding.models, self._most())
        self.backend = Backend(
            self.spec.name, self._kind, healthy=True, reason=self._left_out, models=models, slots=slots
        )
        self.target = Target(
            name=self.spec.name,
            kind=self._kind,
            host=self.spec.host,
            port=self.spec.port,
            tls=self.spec.tls,
            base_path=self.spec.base_path,
            headers=finding.headers,
            slots=slots,
            defaults=finding.defaults,
            ca_file=self.spec.ca_file,
            dialects=self._dialects,
        )

    def _failed(self, finding: Finding) -> None:
        """Its models stay known, so that clients hear that nobody serves them, not that they do not exist."""
        self.figures = NO_FIGURES
        self.residents = MappingProxyType({})
        node = finding.health is Health.NODE
        keyless = finding.health is Health.NEEDS_KEY and self.spec.key_file is None
        self._kind = ""  # something else may listen there when it is back
        self.backend = Backend(
            name=self.spec.name,
            kind=self.backend.kind,
            healthy=False,
            reason="it wants a key" if keyless else finding.reason,
            models=() if node else self.backend.models,
            slots=self.backend.slots,
        )
        if node:
            self.target = None


def _within(models: tuple[BackendModel, ...], most: int) -> tuple[tuple[BackendModel, ...], str]:
    """At most so many of ``models``, loaded ones first, else as they are listed, and why not all."""
    if len(models) <= most:
        return models, ""
    return loaded_first(models, most), f"{most} of its {len(models)} models are offered: upstream.max_models"
