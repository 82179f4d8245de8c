"""What was committed lately, and the watches that follow it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from itertools import islice
from typing import Final

from controlplane.store.port import CompactedError, StoreUnavailableError, WatchBatch
from controlplane.store.sqlite.changes import Standing
from controlplane.store.sqlite.queries import HistoryPage, event_bytes

MAX_RECENT: Final = 1_024
MAX_RECENT_BYTES: Final = 4 * 1024 * 1024
"""What is kept in memory for all watches together; who lags behind it reads the history from the disk."""

ReadHistory = Callable[[bytes, int], Awaitable[HistoryPage]]
"""A stretch of history of a prefix from a revision on."""


class Feed:
    """Hands each watch every batch of its prefix once, from memory where it can, else from the history."""

    def __init__(self, standing: Standing, read_history: ReadHistory) -> None:
        self.standing = standing
        """Where the store stood after the last commit that was published."""
        self.read_history = read_history
        self._recent: deque[tuple[WatchBatch, int]] = deque()
        self._recent_bytes = 0
        self._watches: set[Watch] = set()
        self.closed = False

    def open(self, prefix: str, encoded: bytes, start_revision: int) -> Watch:
        """A watch of ``prefix`` from ``start_revision`` on, or, if that is 0, from the next revision on.

        Raises:
            CompactedError: ``start_revision`` is forgotten.
        """
        if start_revision and start_revision < self.standing.compacted:
            raise CompactedError(self.standing.compacted)
        watch = Watch(self, prefix, encoded, start_revision or self.standing.revision + 1)
        self._watches.add(watch)
        return watch

    def release(self, watch: Watch) -> None:
        """``watch`` is over."""
        self._watches.discard(watch)
        watch.released = True

    def publish(self, standing: Standing, batches: Iterable[WatchBatch]) -> None:
        """``batches`` are durable; they continue the revisions published before."""
        self.standing = standing
        for batch in batches:
            size = sum(event_bytes(event) for event in batch.events)
            self._recent.append((batch, size))
            self._recent_bytes += size
            while len(self._recent) > MAX_RECENT or self._recent_bytes > MAX_RECENT_BYTES:
                self._recent_bytes -= self._recent.popleft()[1]
            for watch in self._watches:
                watch.notice(batch)

    def mark(self) -> None:
        """Have every watch that is up to date say so."""
        for watch in self._watches:
            watch.mark()

    def close(self) -> None:
        """End all watches."""
        self.closed = True
        for watch in self._watches:
            watch.wake()

    def recent(self, start: int) -> Iterable[WatchBatch] | None:
        """All batches from revision ``start`` on; None if memory does not reach back that far."""
        oldest = self._recent[0][0].revision if self._recent else self.standing.revision + 1
        if start < oldest:
            return None
        return (batch for batch, _ in islice(self._recent, start - oldest, None))


class Watch(AsyncIterator[WatchBatch]):
    """One reader's place in the feed. It may be cancelled and asked again: nothing is lost or repeated."""

    def __init__(self, feed: Feed, prefix: str, encoded: bytes, next_revision: int) -> None:
        self._feed = feed
        self._prefix = prefix
        self._encoded = encoded
        self._next = next_revision
        self._page: deque[WatchBatch] = deque()
        self._woken = asyncio.Event()
        self._marked = False
        self.released = False

    async def __anext__(self) -> WatchBatch:
        """The next batch or bookmark."""
        while not self._feed.closed:
            if self.released:
                raise StopAsyncIteration
            if self._page:
                return self._page.popleft()
            if self._next <= self._feed.standing.revision:
                if (batch := await self._advance()) is not None:
                    return batch
            elif self._marked:
                self._marked = False
                return WatchBatch((), self._feed.standing.revision)
            else:
                self._woken.clear()
                await self._woken.wait()
        raise StoreUnavailableError("The store was closed.")

    def notice(self, batch: WatchBatch) -> None:
        """``batch`` was published."""
        if any(event.kv.key.startswith(self._prefix) for event in batch.events):
            self._woken.set()
        elif self._next == batch.revision:
            # So that one that waits for rare changes never needs the history, which forgets.
            self._next += 1

    def mark(self) -> None:
        """A bookmark is due."""
        self._marked = True
        self._woken.set()

    def wake(self) -> None:
        """Look again."""
        self._woken.set()

    async def _advance(self) -> WatchBatch | None:
        """Go on to the next batch of this prefix, or as far as one step reaches."""
        recent = self._feed.recent(self._next)
        if recent is None:
            page = await self._feed.read_history(self._encoded, self._next)
            self._page.extend(page.batches)
            self._next = page.through + 1
            return None
        for batch in recent:
            self._next = batch.revision + 1
            events = tuple(event for event in batch.events if event.kv.key.startswith(self._prefix))
            if events:
                return WatchBatch(events, batch.revision)
        return None
