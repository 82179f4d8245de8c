"""Finding inference servers of this machine that nobody named, as they come and go."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from sidecar.backends.finding import Health
from sidecar.backends.listening import Listening, Trust, read_listening, stranger_called
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
FIRST_REFUSAL_S: Final = 2.0
LONGEST_REFUSAL_S: Final = 30.0
"""Between two tries where the system knows of nobody who listens. Somebody may take connections there still:
a server of Windows under WSL, one behind a rule of the firewall."""
STRANGERS_EVERY_S: Final = 60.0
"""Between two looks at another user's server, which is shown and not used."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for."""

    on: bool
    ports: tuple[int, ...]
    ignored: tuple[str, ...] = ()
    own_ports: frozenset[int] = frozenset()
    """Of this host's own listeners."""


_Owners = Mapping[tuple[str, int], str | None]
"""By place: whose program listens there, empty where it may be used; None: nobody is known to listen."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """A place that is left alone for a while."""

    until_s: float
    pause_s: float


class Finder:
    """Adds to ``registry`` what takes connections where servers usually do; the registry sees what it is.

    Args:
        registry: Which forgets by itself what is gone, or none.
        search: Can be changed while it runs: :meth:`adopt`.
        clock: For pauses.
        environ: Says where servers are, too.
        read: Who listens on this machine; None: the system does not tell, and every place is tried each time.
        draw: Uniform from 0 to 1.
    """

    def __init__(
        self,
        registry: BackendRegistry,
        search: Search,
        clock: Clock,
        environ: Mapping[str, str] = os.environ,
        *,
        read: Callable[[], Listening | None] = read_listening,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._registry = registry
        self._search = search
        self._clock = clock
        self._environ = environ
        self._read = read
        self._draw = draw
        self._trust = Trust()
        self._rests: dict[tuple[str, int], _Rest] = {}
        self._refusals: dict[tuple[str, int], _Rest] = {}
        self._there: set[tuple[str, int]] = set()
        """Places that are not used, where somebody listened at the last look."""
        self._asked = asyncio.Event()
        self._swept = asyncio.Event()
        registry.on_lost(self._lost)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._asked.clear()
            await self.sweep()
            try:
                async with asyncio.timeout(SWEEP_S):
                    await self._asked.wait()
            except TimeoutError:
                continue

    async def settle(self) -> None:
        """Wait until everything that is there now was seen, and looked at."""
        await self._swept.wait()
        await self._registry.settle()

    def ask(self) -> None:
        """Look at once, also where nobody was for long."""
        self._refusals.clear()
        self._asked.set()

    def adopt(self, search: Search) -> None:
        """Look for this from now on; what was found and is not looked for any more is forgotten."""
        self._search = search
        self.ask()
        wanted = {spec.place for spec in self._wanted()}
        for spec in [poller.spec for poller in self._registry.pollers]:
            if spec.found and spec.place not in wanted:
                self._registry.remove(spec.name)

    async def sweep(self) -> None:
        """Look once."""
        search, wanted = self._search, self._wanted()
        found = [poller.spec for poller in self._registry.pollers if poller.spec.found]
        owners = await self._owners((*wanted, *found))
        self._part_with(found, owners)
        taken = self._registry.places
        free = [spec for spec in wanted if spec.place not in taken]
        for spec in await self._listening(free, owners):
            if self._search is not search:
                return  # the next sweep is asked for already
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

    async def _owners(self, specs: Iterable[BackendSpec]) -> _Owners | None:
        """Of each of ``specs``; None: this system does not tell."""
        listening = self._read()
        if listening is None:
            return None
        users = {spec.place: listening.users(spec.host, spec.port) for spec in specs}
        unknown = self._trust.unknown(user for found in users.values() for user in found)
        if unknown:  # once for each: a directory of users may be far away
            self._trust.learn(await asyncio.to_thread(_called, unknown))
        return {place: self._trust.stranger(found) if found else None for place, found in users.items()}

    def _part_with(self, found: Iterable[BackendSpec], owners: _Owners | None) -> None:
        """Forget those whose place somebody else has by now, and others' that are gone."""
        if owners is None:
            return
        for spec in found:
            owner = owners[spec.place]
            if owner != spec.owner and (owner is not None or spec.owner):
                self._registry.remove(spec.name)

    async def _listening(self, specs: Sequence[BackendSpec], owners: _Owners | None) -> list[BackendSpec]:
        """Those of ``specs`` where somebody takes connections, and who are not to be left alone for now."""
        now_s, known = self._clock.now_s(), owners or {}
        unknown = [spec for spec in specs if known.get(spec.place) is None]
        if owners is not None:
            due = [spec for spec in unknown if _over(self._refusals.get(spec.place), now_s)]
            took = await self._late(await self._taking(due, resting=True))
        else:
            due, took = unknown, await self._taking(unknown, resting=False)
        for spec in due:
            if spec not in took:
                self._rests.pop(spec.place, None)
        here = [spec for spec in specs if known.get(spec.place) is not None]
        for spec in here:
            if spec.place not in self._there:
                self._refusals.pop(spec.place, None)
        self._there = {spec.place for spec in here}
        # Sockets of IPv6 are listed whether they take IPv4 or not: those that do not refuse.
        ready = [
            spec for spec in here if self._due(spec, now_s) and _over(self._refusals.get(spec.place), now_s)
        ]
        took = [spec for spec in took if self._due(spec, now_s)]
        return [
            _of(spec, known.get(spec.place) or "")
            for spec in (*await self._taking(ready, resting=True), *took)
        ]

    def _due(self, spec: BackendSpec, now_s: float) -> bool:
        """Whether what listens there was no backend so long ago that it is looked at again."""
        return _over(self._rests.get(spec.place), now_s)

    async def _taking(self, specs: Sequence[BackendSpec], *, resting: bool) -> list[BackendSpec]:
        """Those of ``specs`` where somebody takes connections; the others rest where ``resting``."""
        if not specs:
            return []
        async with asyncio.TaskGroup() as group:
            tasks = [(spec, group.create_task(takes_connections(spec))) for spec in specs]
        for spec, task in tasks:
            before = self._refusals.pop(spec.place, None)
            if resting and not task.result():
                pause_s = min(before.pause_s * 2.0 if before else FIRST_REFUSAL_S, LONGEST_REFUSAL_S)
                until_s = self._clock.now_s() + pause_s * (1.0 - self._draw() / 4.0)
                self._refusals[spec.place] = _Rest(until_s, pause_s)
        return [spec for spec, task in tasks if task.result()]

    async def _late(self, specs: Sequence[BackendSpec]) -> list[BackendSpec]:
        """Those of ``specs`` where the system still knows of nobody: who came just now is judged next."""
        owners = await self._owners(specs) if specs else {}
        return [spec for spec in specs if (owners or {}).get(spec.place) is None]

    def _lost(self, spec: BackendSpec, health: Health) -> None:
        if health is Health.UNREACHABLE:
            self._rests.pop(spec.place, None)
            return
        before = self._rests.get(spec.place)
        pause_s = min(before.pause_s * 2.0, LONGEST_REST_S) if before is not None else FIRST_REST_S
        self._rests[spec.place] = _Rest(self._clock.now_s() + pause_s, pause_s)
        log.debug("backend.none", place=str(spec.url), reason=health.value, again_in_s=pause_s)


def _over(rest: _Rest | None, now_s: float) -> bool:
    return rest is None or now_s >= rest.until_s


def _called(users: Iterable[int]) -> Mapping[int, str]:
    return {user: stranger_called(user) for user in users}


def _of(spec: BackendSpec, owner: str) -> BackendSpec:
    return replace(spec, owner=owner, every_s=STRANGERS_EVERY_S) if owner else spec


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
