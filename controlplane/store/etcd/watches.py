"""Watches on etcd: one stream each, opened again wherever it is lost, from where its reader is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from controlplane.store.etcd.access import EtcdTiming
from controlplane.store.etcd.keyspace import Keyspace
from controlplane.store.etcd.wire import v3_pb2 as pb
from controlplane.store.port import WatchBatch
from swarmplane.errors import SwarmError

_MAX_BATCHES: Final = 1_024
_MAX_BYTES: Final = 4 * 1024 * 1024


class Watch(AsyncIterator[WatchBatch]):
    """What one reader has still to take. It may be cancelled and asked again: nothing is lost or repeated."""

    def __init__(self, keyspace: Keyspace, timing: EtcdTiming, start: int) -> None:
        self._keyspace = keyspace
        self._timing = timing
        self._told = start - 1
        self._told_s = asyncio.get_running_loop().time()
        self._batches: deque[tuple[WatchBatch, int]] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._warning: SwarmError | None = None
        self._end: SwarmError | None = None
        self.released = False

    async def __anext__(self) -> WatchBatch:
        """The next batch or bookmark."""
        while not self.released:
            if self._batches:
                batch, size = self._batches.popleft()
                self._bytes -= size
                self._room.set()
                return batch
            if self._end is not None:
                raise self._end
            if self._warning is not None:
                warning, self._warning = self._warning, None
                raise warning
            self._filled.clear()
            await self._filled.wait()
        raise StopAsyncIteration

    @property
    def full(self) -> bool:
        """Whether the reader has enough to do."""
        return len(self._batches) >= _MAX_BATCHES or self._bytes >= _MAX_BYTES

    async def room(self) -> None:
        """Wait until the reader has taken something."""
        while self.full:
            self._room.clear()
            await self._room.wait()

    def add(self, revision: int, events: list[pb.Event]) -> None:
        """All events of ``revision``."""
        batch = WatchBatch(tuple(map(self._keyspace.event, events)), revision)
        self._append(batch, sum(event.ByteSize() for event in events))

    def mark(self, revision: int) -> None:
        """Everything up to ``revision`` was added: say so if it is news, or has not been said for long."""
        due = asyncio.get_running_loop().time() >= self._told_s + self._timing.bookmark_s
        if revision > self._told or due:
            if self._batches and not self._batches[-1][0].events:
                self._batches.pop()
            self._append(WatchBatch((), revision), 0)

    def warn(self, warning: SwarmError) -> None:
        """Raise ``warning`` to the reader once; it may go on."""
        self._warning = warning
        self._filled.set()

    def end(self, error: SwarmError) -> None:
        """Raise ``error`` to the reader, once it has taken what there is."""
        if self._end is None:
            self._end = error
            self._filled.set()

    def release(self) -> None:
        """The reader is gone."""
        self.released = True
        self._filled.set()

    def _append(self, batch: WatchBatch, size: int) -> None:
        self._batches.append((batch, size))
        self._bytes += size
        self._told = batch.revision
        self._told_s = asyncio.get_running_loop().time()
        self._warning = None
        self._filled.set()
