"""What the conformance tests need of any store: opening it, time, and patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from controlplane.store.embedded import EmbeddedStore
from controlplane.store.port import Event, EventKind, Store, WatchBatch
from controlplane.store.retention import Retention
from tests.fakes.clock import FakeClock

PATIENCE_S = 20.0
"""Only a broken store makes a test wait so long."""


class Harness(Protocol):
    """One kind of store with one set of data. Another kind joins the suite by implementing this."""

    ttl_s: float
    """A lease so long that its end is worth waiting for, and that no busy machine lets end early."""
    watches_the_compacted: bool
    """Whether history may be watched from the compacted revision on, and not only after it."""

    def open(self) -> AbstractAsyncContextManager[Store]:
        """The store as it was left, or an empty one."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """Let leases get older."""
        ...

    async def restart(self) -> None:
        """Have whoever keeps the data start anew, while it is not open."""
        ...


class EmbeddedHarness:
    """The embedded store on a clock of ours."""

    ttl_s = 4.0
    watches_the_compacted = True

    def __init__(self, path: Path, retention: Retention | None = None) -> None:
        self.path = path
        self.clock = FakeClock()
        self.retention = retention

    def open(self) -> AbstractAsyncContextManager[EmbeddedStore]:
        return EmbeddedStore.open(self.path, clock=self.clock, retention=self.retention)

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    async def restart(self) -> None:
        """Opening it is starting it."""


async def eventually(holds: Callable[[], Awaitable[bool]], *, within_s: float = PATIENCE_S) -> None:
    """Wait until ``holds``."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 - it changes in threads, which set no events
            await asyncio.sleep(0.005)


async def take(batches: AsyncIterator[WatchBatch], count: int) -> list[WatchBatch]:
    """The next ``count`` batches that are no bookmarks."""
    taken: list[WatchBatch] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(taken) < count:
            batch = await anext(batches)
            if batch.events:
                taken.append(batch)
    return taken


async def take_from(store: Store, prefix: str, start_revision: int, count: int) -> list[WatchBatch]:
    """``count`` batches of a new watch."""
    async with store.watch(prefix, start_revision=start_revision) as batches:
        return await take(batches, count)


def brief(event: Event) -> tuple[str, str, bytes]:
    """Kind, key and value."""
    return (event.kind.value, event.kv.key, event.kv.value)


def put(key: str, value: bytes) -> tuple[str, str, bytes]:
    """What :func:`brief` gives for a put."""
    return (EventKind.PUT.value, key, value)


def deletion(key: str) -> tuple[str, str, bytes]:
    """What :func:`brief` gives for a deletion."""
    return (EventKind.DELETE.value, key, b"")
