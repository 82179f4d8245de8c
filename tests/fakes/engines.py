"""Supervisors of real engines, and eyes on their processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from sidecar.backends.registry import BackendRegistry
from sidecar.engines.status import EngineState, EngineStatus
from sidecar.engines.supervisor import EngineSupervisor
from swarmplane.clock import SystemClock
from swarmplane.datadir import DataDir
from swarmplane.ids import BackendName
from swarmplane.settings.schema import EngineSettings

WITHIN_S = 30.0


@dataclass
class Running:
    """A supervisor at work."""

    supervisor: EngineSupervisor
    registry: BackendRegistry
    changed: asyncio.Event

    def status(self, name: str = "") -> EngineStatus:
        """The named engine, or the only one."""
        found = [one for one in self.supervisor.status() if name in {"", one.name}]
        return found[0]

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for a change that makes it so."""
        async with asyncio.timeout(WITHIN_S):
            while not true():
                self.changed.clear()
                await self.changed.wait()

    async def ready(self, name: str = "") -> EngineStatus:
        """Wait until the engine answers."""
        await self.until(lambda: self.status(name).state is EngineState.READY)
        return self.status(name)

    async def post(self, path: str, body: Any, name: str = "", *, key: bool = True) -> tuple[int, Any]:
        """Ask the engine as the data plane does."""
        target = self.registry.targets[BackendName(name or self.status().name)]
        headers = {k.decode(): v.decode() for k, v in target.headers} if key else {}
        async with (
            aiohttp.ClientSession(trust_env=False) as session,
            session.post(target.url + path, json=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json()


@asynccontextmanager
async def supervised(tmp_path: Path, settings: EngineSettings, **machine: Any) -> AsyncIterator[Running]:
    """Run a supervisor; its engines are gone at the end."""
    registry = BackendRegistry()
    supervisor = EngineSupervisor(settings, DataDir(tmp_path), registry, SystemClock(), **machine)
    running = Running(supervisor, registry, asyncio.Event())
    supervisor.subscribe(lambda _statuses: running.changed.set())
    registry.subscribe(lambda _inventory: running.changed.set())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(supervisor.run())
        try:
            yield running
        finally:
            task.cancel()


async def gone(pid: int) -> None:
    """Wait until a process has ended (a zombie has)."""
    async with asyncio.timeout(WITHIN_S):
        while alive(pid):  # noqa: ASYNC110 - the kernel sets no event
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process still runs."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def guard_of(pid: int) -> int:
    """The guard of an engine's process."""
    guard = psutil.Process(pid).parent()
    assert guard is not None
    assert any("guard.py" in word for word in guard.cmdline())
    return guard.pid
