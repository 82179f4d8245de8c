"""A finder and its registry, which run as in a sidecar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sidecar.backends.finder import Finder, Search
from sidecar.backends.listening import Listening, read_listening
from sidecar.backends.registry import BackendRegistry
from swarmplane.clock import SystemClock


@asynccontextmanager
async def finding_at(
    *ports: int,
    environ: dict[str, str] | None = None,
    ignored: tuple[str, ...] = (),
    most: int = 512,
    read: Callable[[], Listening | None] = read_listening,
) -> AsyncIterator[tuple[BackendRegistry, Finder]]:
    """One that looks at ``ports`` by what ``read`` tells; everything that is there now was seen."""
    registry = BackendRegistry()
    registry.limit_models(most)
    search = Search(on=True, ports=ports, ignored=ignored)
    finder = Finder(registry, search, SystemClock(), environ or {}, read=read)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(registry.run()), group.create_task(finder.run())]
        try:
            async with asyncio.timeout(20):
                await finder.settle()
            yield registry, finder
        finally:
            for task in tasks:
                task.cancel()


async def until(true: Callable[[], Any]) -> None:
    """Wait for it, 20 s at most."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - fakes set no event
            await asyncio.sleep(0.01)
