"""The store on an etcd cluster, for swarms with several control-plane instances."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from controlplane.store import limits
from controlplane.store.etcd.access import EtcdAccess, EtcdTiming
from controlplane.store.etcd.calls import COMPACT, WATCH
from controlplane.store.etcd.client import Effect, EtcdClient
from controlplane.store.etcd.failures import Failure, RefusedError
from controlplane.store.etcd.following import Follower
from controlplane.store.etcd.health import ClusterHealth, cluster_health
from controlplane.store.etcd.keyspace import Keyspace
from controlplane.store.etcd.leases import KeepAlives, Leases
from controlplane.store.etcd.ranges import Ranges
from controlplane.store.etcd.streams import received, sent
from controlplane.store.etcd.transactions import Transactions
from controlplane.store.etcd.watches import Watch
from controlplane.store.etcd.wire import v3_pb2 as pb
from controlplane.store.port import (
    CompactedError,
    Compare,
    Delete,
    Field,
    KeyValue,
    Operation,
    Put,
    Range,
    Relation,
    StoreUnavailableError,
    TxnResult,
    WatchBatch,
)
from swarmplane.errors import InvalidRequestError

_TO_LEARN_COMPACTION_S: Final = 2.0


class EtcdStore:
    """Implements :class:`controlplane.store.port.Store`. Made by :meth:`open`, for one event loop.

    Beyond the contract: a write whose outcome is unknown is settled where it can be
    (:mod:`controlplane.store.etcd.transactions`), which may add a revision of its own; others who use the
    same cluster raise its revision too. A watch outlives every outage: if one lasts, its reader gets a
    StoreUnavailableError now and then, and may go on reading. A store that is not the one that was opened
    any longer raises StoreReplacedError from everything.
    """

    def __init__(self, client: EtcdClient, keyspace: Keyspace, holder: str, group: asyncio.TaskGroup) -> None:
        self._client = client
        self._keyspace = keyspace
        self._group = group
        self._ranges = Ranges(client, keyspace)
        self._transactions = Transactions(client, keyspace, holder)
        self._leases = Leases(client)
        self._keep_alives = KeepAlives(client)
        self._watches: dict[Watch, asyncio.Task[None]] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, access: EtcdAccess, *, holder: str = "", timing: EtcdTiming | None = None
    ) -> AsyncIterator[EtcdStore]:
        """The store below ``access.prefix``; closed on leaving.

        Args:
            access: Where it is.
            holder: A name that one process at a time uses, each time it opens this store: what the last one
                left behind of its own book-keeping is removed then.
            timing: How long to wait.

        Raises:
            StoreUnavailableError: It can't be reached.
            SwarmError: etcd does not let us in.
        """
        client = EtcdClient(access, timing or EtcdTiming())
        try:
            if access.user:
                await client.login()
            await client.revision()
            async with _together() as group:
                store = cls(client, Keyspace(access.prefix), holder, group)
                keeping = group.create_task(store._keep_alives.run(), name="etcd-leases")
                try:
                    yield store
                finally:
                    store._close()
                    keeping.cancel()
        finally:
            await client.close()

    async def get(self, key: str) -> KeyValue | None:
        """See :class:`controlplane.store.port.Store`."""
        found, _ = await self._ranges.get(key)
        return found

    async def get_with_revision(self, key: str) -> tuple[KeyValue | None, int]:
        """See :class:`controlplane.store.port.Store`."""
        return await self._ranges.get(key)

    async def range(self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0) -> Range:
        """See :class:`controlplane.store.port.Store`."""
        if limit < 0 or revision < 0:
            raise InvalidRequestError("A limit and a revision are 0 or more.")
        try:
            return await self._ranges.list_range(prefix, start_after, limit, revision)
        except RefusedError as error:
            raise await self._compacted() from error

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Operation], *, otherwise: Sequence[str] = ()
    ) -> TxnResult:
        """See :class:`controlplane.store.port.Store`."""
        limits.check_transaction(compares, then, otherwise)
        return await self._transactions.transact(compares, then, otherwise)

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """See :class:`controlplane.store.port.Store`."""
        return (await self.transact((), (Put(key, value, lease),))).revision

    async def delete(self, key: str) -> bool:
        """See :class:`controlplane.store.port.Store`."""
        there = Compare(key, Field.CREATED, 0, Relation.GREATER)
        return (await self.transact((there,), (Delete(key),))).succeeded

    @asynccontextmanager
    async def watch(
        self, prefix: str, *, start_revision: int = 0
    ) -> AsyncIterator[AsyncIterator[WatchBatch]]:
        """See :class:`controlplane.store.port.Store`."""
        if start_revision < 0:
            raise InvalidRequestError("A revision is 0 or more.")
        bounds = self._keyspace.bounds(prefix)
        # A member may lag behind what was acknowledged: "from now on" is what a majority says.
        start = start_revision or await self._client.revision() + 1
        self._client.check()
        watch = Watch(self._keyspace, self._client.timing, start)
        follower = Follower(self._client, watch, bounds, start)
        self._watches[watch] = self._group.create_task(follower.run(), name="etcd-watch")
        try:
            try:
                async with asyncio.timeout(self._client.timing.give_up_s):
                    await follower.begun.wait()
            except TimeoutError as error:
                raise StoreUnavailableError("etcd did not begin the watch in time.") from error
            yield watch
        finally:
            watch.release()
            self._watches.pop(watch).cancel()

    async def grant(self, ttl_s: float) -> int:
        """See :class:`controlplane.store.port.Store`."""
        limits.check_ttl(ttl_s)
        return await self._leases.grant(ttl_s)

    async def keep_alive(self, lease: int) -> bool:
        """See :class:`controlplane.store.port.Store`."""
        return await self._keep_alives.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        """See :class:`controlplane.store.port.Store`."""
        await self._leases.revoke(lease)

    async def lease_remaining(self, lease: int) -> float | None:
        """See :class:`controlplane.store.port.Store`."""
        return await self._leases.remaining_s(lease)

    async def compact(self, revision: int) -> None:
        """See :class:`controlplane.store.port.Store`."""
        if revision < 1:
            raise await self._compacted()
        try:
            await self._client.ask(COMPACT, pb.CompactionRequest(revision=revision), Effect.REPEATABLE)
        except RefusedError as error:
            compacted = await self._compacted()
            if not error.doubted or compacted.revision != revision:
                raise compacted from error

    async def revision(self) -> int:
        """See :class:`controlplane.store.port.Store`."""
        return await self._client.revision()

    async def health(self) -> ClusterHealth:
        """How the members are, for people; takes a second at most."""
        return await cluster_health(self._client)

    async def _compacted(self) -> CompactedError:
        """From where on the history is kept. Only a watch that is refused tells; 0 if none is."""
        endpoint = self._client.endpoints.current
        stream = endpoint.stream(WATCH, self._client.metadata())
        try:
            async with asyncio.timeout(_TO_LEARN_COMPACTION_S):
                key = self._keyspace.own(b"")
                create = pb.WatchCreateRequest(key=key, start_revision=1)
                await sent(stream, pb.WatchRequest(create_request=create))
                while not isinstance(answer := await received(stream), Failure):
                    if answer.canceled:
                        return CompactedError(answer.compact_revision)
        except TimeoutError:
            return CompactedError(0)
        finally:
            stream.cancel()
        raise StoreUnavailableError("etcd was lost on the way; try again.")

    def _close(self) -> None:
        closed = StoreUnavailableError("The store is closed.")
        self._client.closed = True
        self._keep_alives.end()
        for watch, following in self._watches.items():
            watch.end(closed)
            following.cancel()


@asynccontextmanager
async def _together() -> AsyncIterator[asyncio.TaskGroup]:
    """Tasks that run while the body does. What the body raises is not wrapped in a group."""
    raised: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        try:
            yield group
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised = error
    if raised is not None:
        raise raised
