"""etcd under the conformance tests: many tests share one cluster, and each sees a store of its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace

from controlplane.store.etcd.access import EtcdAccess, EtcdTiming
from controlplane.store.etcd.store import EtcdStore
from controlplane.store.port import (
    CompactedError,
    Compare,
    Event,
    KeyValue,
    LeaseNotFoundError,
    Operation,
    Range,
    Relation,
    Store,
    TxnResult,
    WatchBatch,
)
from tests.store.etcd_server import Etcd, etcd_version

UNHURRIED = EtcdTiming(attempt_s=2.0, give_up_s=20.0, silence_s=5.0)
"""For tests of what is done, not of how fast: a busy machine is no outage."""


class SharedEtcd:
    """A cluster and what the tests before left in it."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.leases: list[int] = []
        self._names = itertools.count(1)

    def prefix(self) -> str:
        """Where one test's keys are."""
        return f"/test/{next(self._names)}/"


class EtcdHarness:
    """etcd below a prefix of the test's own, its revisions counted from one."""

    ttl_s = 3.0

    def __init__(self, shared: SharedEtcd) -> None:
        self._shared = shared
        self._access = EtcdAccess.of(shared.etcd.endpoints, prefix=shared.prefix())
        self._base: int | None = None
        self.watches_the_compacted = etcd_version() >= (3, 5, 16)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        async with EtcdStore.open(self._access, timing=UNHURRIED) as store:
            if self._base is None:
                while self._shared.leases:
                    with suppress(LeaseNotFoundError):
                        await store.revoke(self._shared.leases.pop())
                self._base = await store.revision() - 1
            yield Rebased(store, self._base, self._shared.leases)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def restart(self) -> None:
        await asyncio.to_thread(self._shared.etcd.restart)


class Rebased:
    """A store whose revisions are counted from ``base`` on; says nothing, and adds nothing, else."""

    def __init__(self, store: Store, base: int, leases: list[int]) -> None:
        self._store = store
        self._base = base
        self._leases = leases

    async def get(self, key: str) -> KeyValue | None:
        return self._kv(await self._store.get(key))

    async def get_with_revision(self, key: str) -> tuple[KeyValue | None, int]:
        found, revision = await self._store.get_with_revision(key)
        return self._kv(found), revision - self._base

    async def range(self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0) -> Range:
        with self._errors():
            page = await self._store.range(
                prefix, start_after=start_after, limit=limit, revision=self._absolute(revision)
            )
        return Range(tuple(map(self._there, page.items)), page.revision - self._base, page.more)

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Operation], *, otherwise: Sequence[str] = ()
    ) -> TxnResult:
        result = await self._store.transact(
            [self._compare(one) for one in compares], then, otherwise=otherwise
        )
        return TxnResult(result.succeeded, result.revision - self._base, tuple(map(self._kv, result.reads)))

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        return await self._store.put(key, value, lease=lease) - self._base

    async def delete(self, key: str) -> bool:
        return await self._store.delete(key)

    @asynccontextmanager
    async def watch(
        self, prefix: str, *, start_revision: int = 0
    ) -> AsyncIterator[AsyncIterator[WatchBatch]]:
        async with self._store.watch(prefix, start_revision=self._absolute(start_revision)) as batches:
            yield self._batches(batches)

    async def grant(self, ttl_s: float) -> int:
        self._leases.append(await self._store.grant(ttl_s))
        return self._leases[-1]

    async def keep_alive(self, lease: int) -> bool:
        return await self._store.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        await self._store.revoke(lease)

    async def lease_remaining(self, lease: int) -> float | None:
        return await self._store.lease_remaining(lease)

    async def compact(self, revision: int) -> None:
        with self._errors():
            await self._store.compact(revision + self._base)

    async def revision(self) -> int:
        return await self._store.revision() - self._base

    def _batches(self, batches: AsyncIterator[WatchBatch]) -> AsyncIterator[WatchBatch]:
        return _Batches(self, batches)

    def batch(self, batch: WatchBatch) -> WatchBatch:
        return WatchBatch(tuple(map(self._event, batch.events)), batch.revision - self._base)

    def _absolute(self, revision: int) -> int:
        return revision + self._base if revision > 0 else revision

    def _compare(self, compare: Compare) -> Compare:
        # Of an absent key every figure is 0, which is nobody's revision.
        if compare.revision == 0 and compare.relation is not Relation.LESS:
            return compare
        return replace(compare, revision=compare.revision + self._base)

    def _kv(self, kv: KeyValue | None) -> KeyValue | None:
        return self._there(kv) if kv else None

    def _there(self, kv: KeyValue) -> KeyValue:
        created = kv.create_revision - self._base if kv.create_revision else 0
        return replace(kv, create_revision=created, mod_revision=kv.mod_revision - self._base)

    def _event(self, event: Event) -> Event:
        return Event(event.kind, self._there(event.kv), self._kv(event.previous))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except CompactedError as error:
            raise CompactedError(error.revision - self._base) from error


class _Batches(AsyncIterator[WatchBatch]):
    """A watch that can be asked again after a cancelled wait, as a generator could not."""

    def __init__(self, rebased: Rebased, batches: AsyncIterator[WatchBatch]) -> None:
        self._rebased = rebased
        self._inner = batches

    async def __anext__(self) -> WatchBatch:
        with self._rebased._errors():
            return self._rebased.batch(await anext(self._inner))
