"""Finding inference servers of this machine that nobody named, as they come and go."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from sidecar.backends.finding import Health
from sidecar.backends.places import places
from sidecar.backends.registry import BackendRegistry
from sidecar.backends.target import BackendSpec
from swarmplane.clock import Clock
from swarmplane.errors import SwarmError

SWEEP_S: Final = 2.0
"""Between two looks at places where nothing was found."""
CONNECT_S: Final = 1.0
"""Longest time to take a connection; those of this machine are taken or refused at once."""
FIRST_REST_S: Final = 5.0
LONGEST_REST_S: Final = 60.0
"""What is no backend is asked ever more seldom, as long as it stays: its log is not ours to fill."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for."""

    on: bool
    ports: tuple[int, ...]
    ignored: tuple[str, ...] = ()
    own_ports: frozenset[int] = frozenset()
    """Of this host's own listeners."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """A place where something else listens."""

    until_s: float
    pause_s: float


class Finder:
    """Adds to ``registry`` what takes connections where servers usually do; the registry sees what it is.

    Args:
        registry: Which forgets by itself what is gone, or none.
        search: Can be changed while it runs: :meth:`adopt`.
        clock: For pauses.
        environ: Says where servers are, too.
    """

    def __init__(
        self,
        registry: BackendRegistry,
        search: Search,
        clock: Clock,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._registry = registry
        self._search = search
        self._clock = clock
        self._environ = environ
        self._rests: dict[tuple[str, int], _Rest] = {}
        self._swept = asyncio.Event()
        registry.on_lost(self._lost)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.sweep()
            await self._clock.sleep(SWEEP_S)

    async def settle(self) -> None:
        """Wait until everything that is there now was seen, and looked at."""
        await self._swept.wait()
        await self._registry.settle()

    def adopt(self, search: Search) -> None:
        """Look for this from now on; what was found and is not looked for any more is forgotten."""
        self._search = search
        wanted = {spec.place for spec in self._wanted()}
        for spec in [poller.spec for poller in self._registry.pollers]:
            if spec.found and spec.place not in wanted:
                self._registry.remove(spec.name)

    async def sweep(self) -> None:
        """Look once."""
        taken = self._registry.places
        free = [spec for spec in self._wanted() if spec.place not in taken]
        for spec in await self._listening(free):
            try:
                self._registry.add(spec)
            except SwarmError as error:  # another backend has its name; it stays as it is
                log.debug("backend.not_added", backend=spec.name, reason=error.message)
        self._swept.set()

    def _wanted(self) -> Sequence[BackendSpec]:
        search = self._search
        if not search.on:
            return ()
        return places(self._environ, search.ports, own_ports=search.own_ports, ignored=search.ignored)

    async def _listening(self, specs: Sequence[BackendSpec]) -> list[BackendSpec]:
        """Those of ``specs`` where somebody takes connections, and who are not to be left alone for now."""
        if not specs:
            return []
        async with asyncio.TaskGroup() as group:
            tasks = [(spec, group.create_task(takes_connections(spec))) for spec in specs]
        now_s, found = self._clock.now_s(), []
        for spec, task in tasks:
            if not task.result():
                self._rests.pop(spec.place, None)
                continue
            rest = self._rests.get(spec.place)
            if rest is None or now_s >= rest.until_s:
                found.append(spec)
        return found

    def _lost(self, spec: BackendSpec, health: Health) -> None:
        if health is Health.UNREACHABLE:
            self._rests.pop(spec.place, None)
            return
        before = self._rests.get(spec.place)
        pause_s = min(before.pause_s * 2.0, LONGEST_REST_S) if before is not None else FIRST_REST_S
        self._rests[spec.place] = _Rest(self._clock.now_s() + pause_s, pause_s)
        log.debug("backend.none", place=str(spec.url), reason=health.value, again_in_s=pause_s)


async def takes_connections(spec: BackendSpec) -> bool:
    """Whether somebody listens there. Nothing is sent."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_S):
            transport, _ = await loop.create_connection(asyncio.Protocol, spec.host, spec.port)
    except (OSError, TimeoutError):
        return False
    transport.close()
    return True
