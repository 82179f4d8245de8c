"""A store whose calls are counted and timed, by operation."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Final

from controlplane.store.port import Compare, KeyValue, Operation, Range, Store, TxnResult, WatchBatch

BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the histogram's buckets, in seconds; one more has no bound."""
OPERATIONS: Final = ("get", "range", "transact", "lease")


class Durations:
    """A histogram, allocated once."""

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def record(self, seconds: float) -> None:
        """Count one."""
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


class MeasuredStore:
    """Implements :class:`controlplane.store.port.Store` by another one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.durations: Mapping[str, Durations] = {name: Durations() for name in OPERATIONS}

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        started_s = time.perf_counter()
        try:
            yield
        finally:
            self.durations[operation].record(time.perf_counter() - started_s)

    async def get(self, key: str) -> KeyValue | None:
        """See :class:`Store`."""
        with self._timed("get"):
            return await self._store.get(key)

    async def get_with_revision(self, key: str) -> tuple[KeyValue | None, int]:
        """See :class:`Store`."""
        with self._timed("get"):
            return await self._store.get_with_revision(key)

    async def range(self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0) -> Range:
        """See :class:`Store`."""
        with self._timed("range"):
            return await self._store.range(prefix, start_after=start_after, limit=limit, revision=revision)

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Operation], *, otherwise: Sequence[str] = ()
    ) -> TxnResult:
        """See :class:`Store`."""
        with self._timed("transact"):
            return await self._store.transact(compares, then, otherwise=otherwise)

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """See :class:`Store`."""
        with self._timed("transact"):
            return await self._store.put(key, value, lease=lease)

    async def delete(self, key: str) -> bool:
        """See :class:`Store`."""
        with self._timed("transact"):
            return await self._store.delete(key)

    def watch(
        self, prefix: str, *, start_revision: int = 0
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        """See :class:`Store`."""
        return self._store.watch(prefix, start_revision=start_revision)

    async def grant(self, ttl_s: float) -> int:
        """See :class:`Store`."""
        with self._timed("lease"):
            return await self._store.grant(ttl_s)

    async def keep_alive(self, lease: int) -> bool:
        """See :class:`Store`."""
        with self._timed("lease"):
            return await self._store.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        """See :class:`Store`."""
        with self._timed("lease"):
            await self._store.revoke(lease)

    async def lease_remaining(self, lease: int) -> float | None:
        """See :class:`Store`."""
        return await self._store.lease_remaining(lease)

    async def compact(self, revision: int) -> None:
        """See :class:`Store`."""
        await self._store.compact(revision)

    async def revision(self) -> int:
        """See :class:`Store`."""
        return await self._store.revision()
