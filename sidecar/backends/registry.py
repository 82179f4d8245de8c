"""Every backend of this host, as the data plane and the control plane see them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import structlog

from sidecar.backends.figures import Figures
from sidecar.backends.finding import NO_FIGURES, Health
from sidecar.backends.ollama_probe import MOST_MODELS
from sidecar.backends.poller import Poller
from sidecar.backends.probe import Prober, client_session
from sidecar.backends.target import BackendSpec, Target, place_of
from sidecar.core.residents import Resident
from sidecar.core.shown import Shown
from swarmplane.errors import AlreadyExistsError
from swarmplane.ids import BackendName
from swarmplane.inventory import UNKNOWN_HOST, Backend, HostFacts, Inventory

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Announced:
    """A backend whose state its owner observes."""

    backend: Backend
    target: Target | None
    check: Callable[[], None]


class BackendRegistry:
    """Backends that are polled, and engines that announce themselves. Lives on one event loop.

    ``memory_bytes`` and ``cpus`` are this host's, for the inventory.
    """

    def __init__(self, *, memory_bytes: int = 0, cpus: int = 0) -> None:
        self._hardware = (memory_bytes, cpus)
        self._host = UNKNOWN_HOST
        self._polled: dict[BackendName, Poller] = {}
        self._announced: dict[BackendName, _Announced] = {}
        self._running: dict[BackendName, asyncio.Task[None]] = {}
        self._start: Callable[[Poller], asyncio.Task[None]] | None = None
        self._callbacks: list[Callable[[Inventory], None]] = []
        self._lost: Callable[[BackendSpec, Health], None] = lambda _spec, _health: None
        self._most = MOST_MODELS
        self._looked = asyncio.Event()
        self._told: Callable[[BackendName, Figures], None] = lambda _name, _figures: None
        self._inventory = Inventory((), memory_bytes, cpus)
        self._targets: Mapping[BackendName, Target] = MappingProxyType({})

    @property
    def targets(self) -> Mapping[BackendName, Target]:
        """How to call each backend that was ever found to answer. Replaced whole, never changed."""
        return self._targets

    def inventory(self) -> Inventory:
        """All backends, ordered by name."""
        return self._inventory

    @property
    def settled(self) -> bool:
        """Whether every backend was looked at: what the inventory does not list is not there."""
        return all(poller.looks for poller in self._polled.values())

    async def settle(self) -> None:
        """Wait until it is settled."""
        while not self.settled:
            self._looked.clear()
            await self._looked.wait()

    @property
    def pollers(self) -> tuple[Poller, ...]:
        """Those that are known to be backends, ordered by name."""
        return tuple(self._polled[name] for name in sorted(self._polled) if self._polled[name].known)

    @property
    def announced(self) -> tuple[tuple[Backend, Target | None], ...]:
        """Those whose owner observes them, ordered by name, and how they are called."""
        return tuple((one.backend, one.target) for _, one in sorted(self._announced.items()))

    @property
    def places(self) -> frozenset[tuple[str, int]]:
        """Where any of them listens, as :func:`sidecar.backends.target.place_of` has it."""
        polled = (poller.spec.place for poller in self._polled.values())
        announced = (one.target for one in self._announced.values())
        return frozenset((*polled, *(place_of(one.host, one.port) for one in announced if one is not None)))

    def kv_used(self, name: BackendName) -> float | None:
        """Share of a backend's context memory in use, at the last look; None: unknown."""
        return self.figures(name).kv_used

    def figures(self, name: BackendName) -> Figures:
        """How busy a backend says it is, at the last look."""
        poller = self._polled.get(name)
        return poller.figures if poller is not None else NO_FIGURES

    def resident(self, name: BackendName, model: str) -> Resident | None:
        """How ``model``, by the backend's spelling, is loaded there, at the last look; None: it is not."""
        poller = self._polled.get(name)
        return poller.residents.get(model) if poller is not None else None

    def shown(self, name: BackendName, model: str) -> Shown | None:
        """What it showed of ``model``, by its own spelling; None: it shows nothing. O(models)."""
        poller = self._polled.get(name)
        return poller.shown(model) if poller is not None else None

    def looks(self, name: BackendName) -> int:
        """How often it was looked at so far; counted when a look is over. 0 where its owner observes it."""
        poller = self._polled.get(name)
        return poller.looks if poller is not None else 0

    def look(self, name: BackendName) -> None:
        """Look at it soon: something changed there."""
        if name in self._polled:
            self._polled[name].wake()

    def subscribe(self, callback: Callable[[Inventory], None]) -> None:
        """Call ``callback`` on the loop, with the new inventory, after every change of it."""
        self._callbacks.append(callback)

    def on_figures(self, callback: Callable[[BackendName, Figures], None]) -> None:
        """Call ``callback`` after every look at a backend with how busy it said it is."""
        self._told = callback

    def on_lost(self, callback: Callable[[BackendSpec, Health], None]) -> None:
        """Call ``callback`` with one that was found by itself and is gone, or shows to be none, and why."""
        self._lost = callback

    def add(self, spec: BackendSpec) -> None:
        """Watch a backend that somebody else runs. Adding the same one again changes nothing.

        One that was found by itself gives way to one that is named at its place.

        Raises:
            AlreadyExistsError: Another backend has this name.
        """
        known = self._polled.get(spec.name)
        if known is not None and known.spec == spec:
            return
        if not spec.found:
            for one in [p.spec for p in self._polled.values() if p.spec.found and p.spec.place == spec.place]:
                self.remove(one.name)
        if spec.name in self._polled or spec.name in self._announced:
            raise AlreadyExistsError(f"two backends are called {spec.name}; give one of them another name")
        looked = functools.partial(self._looked_at, spec.name)
        poller = self._polled[spec.name] = Poller(spec, self._refresh, looked, lambda: self._most)
        if self._start is not None:
            self._running[spec.name] = self._start(poller)
        self._refresh()

    def limit_models(self, most: int) -> None:
        """Offer at most so many models of each polled backend, from the next look at it on, which is soon."""
        if most != self._most:
            self._most = most
            for name in self._polled:
                self.look(name)

    def set_host(self, facts: HostFacts) -> None:
        """What this host is, from now on, for the inventory."""
        self._host = facts
        self._refresh()

    def announce(self, backend: Backend, target: Target | None, check: Callable[[], None]) -> None:
        """Put or replace a backend whose owner observes it; ``check`` asks the owner to look again now.

        Raises:
            AlreadyExistsError: A polled backend has this name.
        """
        if backend.name in self._polled:
            raise AlreadyExistsError(f"two backends are called {backend.name}; give one of them another name")
        self._announced[backend.name] = _Announced(backend, target, check)
        self._refresh()

    def remove(self, name: BackendName) -> None:
        """Forget a backend and its models; nothing happens where there is none."""
        task = self._running.pop(name, None)
        if task is not None:
            task.cancel()
        self._polled.pop(name, None)
        self._announced.pop(name, None)
        self._looked.set()
        self._refresh()

    def report_failure(self, name: BackendName) -> None:
        """A request could not reach it: check it now."""
        if name in self._polled:
            self._polled[name].wake()
        elif name in self._announced:
            self._announced[name].check()

    def report_missing_model(self, name: BackendName, model: str) -> None:  # noqa: ARG002
        """It answered 404 for ``model``, which it listed: list again now."""
        self.report_failure(name)

    async def run(self) -> None:
        """Poll until cancelled. Backends may be added and removed meanwhile."""
        async with client_session() as session, asyncio.TaskGroup() as group:
            prober = Prober(session)

            async def watch(poller: Poller) -> None:
                await poller.run(prober)
                self._forget(poller)

            def start(poller: Poller) -> asyncio.Task[None]:
                return group.create_task(watch(poller), name=f"backend {poller.spec.name}")

            self._running = {name: start(poller) for name, poller in self._polled.items()}
            self._start = start
            try:
                await asyncio.get_running_loop().create_future()  # backends may come later
            finally:
                self._start = None
                self._running = {}

    def _looked_at(self, name: BackendName) -> None:
        self._looked.set()
        self._told(name, self.figures(name))

    def _forget(self, poller: Poller) -> None:
        """It is gone, or no backend."""
        spec = poller.spec
        self._running.pop(spec.name, None)
        self._polled.pop(spec.name, None)
        if poller.known:
            log.info(
                "backend.gone", backend=spec.name, kind=poller.backend.kind, reason=poller.backend.reason
            )
        self._looked.set()
        self._refresh()
        self._lost(spec, poller.health)

    def _refresh(self) -> None:
        used = {name: poller for name, poller in self._polled.items() if not poller.spec.owner}
        backends = {name: poller.backend for name, poller in used.items() if poller.known}
        backends |= {name: one.backend for name, one in self._announced.items()}
        targets = {name: poller.target for name, poller in used.items()}
        targets |= {name: one.target for name, one in self._announced.items()}
        self._targets = MappingProxyType({name: one for name, one in targets.items() if one is not None})
        inventory = Inventory(tuple(backends[name] for name in sorted(backends)), *self._hardware, self._host)
        if inventory == self._inventory:
            return
        self._inventory = inventory
        for callback in self._callbacks:
            callback(inventory)
