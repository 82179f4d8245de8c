"""The etcd store while its only member is killed, frozen, wiped or replaced."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from controlplane.store.etcd.access import EtcdAccess, EtcdTiming
from controlplane.store.etcd.store import EtcdStore
from controlplane.store.port import (
    StoreReplacedError,
    StoreUnavailableError,
    UncertainError,
    WatchBatch,
)
from tests.store.conftest import QUICK_ELECTIONS
from tests.store.etcd_server import WITHOUT, Etcd, etcd_binary, running
from tests.store.harness import PATIENCE_S, eventually, take
from tests.store.swallowing_proxy import proxied

IMPATIENT = EtcdTiming(attempt_s=0.5, give_up_s=1.5, lost_s=1.5)
posix = pytest.mark.skipif(os.name == "nt", reason="Windows cannot freeze a process")


@pytest.fixture
def etcd() -> Iterator[Etcd]:
    if etcd_binary() is None:
        pytest.skip(WITHOUT)
    with running(1, QUICK_ELECTIONS) as one:
        yield one


@asynccontextmanager
async def opened(etcd: Etcd) -> AsyncIterator[EtcdStore]:
    async with EtcdStore.open(EtcdAccess.of(etcd.endpoints), timing=IMPATIENT) as store:
        yield store


async def written(store: EtcdStore, key: str, value: bytes) -> int:
    """The revision of a put that is tried until etcd takes it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await store.put(key, value)
            except (StoreUnavailableError, UncertainError):
                await asyncio.sleep(0.1)


async def patient(batches: AsyncIterator[WatchBatch], count: int) -> tuple[list[int], int]:
    """The revisions of the next ``count`` batches, and how often etcd was out of reach meanwhile."""
    seen: list[int] = []
    lost = 0
    async with asyncio.timeout(PATIENCE_S):
        while len(seen) < count:
            try:
                batch = await anext(batches)
            except StoreUnavailableError:
                lost += 1
            else:
                seen += [batch.revision] if batch.events else []
    return seen, lost


async def test_an_outage_is_reported_costs_no_cpu_and_loses_nothing(etcd: Etcd) -> None:
    async with opened(etcd) as store, store.watch("k/") as batches, store.watch("other/"):
        lease = await store.grant(60)
        revisions = [await store.put("k/1", b"1", lease=lease)]
        assert (await take(batches, 1))[0].revision == revisions[0]
        await asyncio.to_thread(etcd.members[0].kill)
        began_s, cpu_s = time.monotonic(), time.process_time()
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="majority"):
                await store.get("k/1")
            with pytest.raises((StoreUnavailableError, UncertainError)):
                await store.put("k/1", b"lost")
            with pytest.raises((StoreUnavailableError, UncertainError)):
                await store.keep_alive(lease)
        lasted_s, spent_s = time.monotonic() - began_s, time.process_time() - cpu_s
        # A loop without a rest would take all of one core.
        assert spent_s < lasted_s * 0.5, (spent_s, lasted_s)
        with pytest.raises(StoreUnavailableError, match="may be old"):
            await anext(batches)
        await asyncio.to_thread(etcd.revive, etcd.members[0])
        assert await written(store, "k/2", b"2")
        revisions = [await store.put("k/1", b"2"), await store.put("k/1", b"3")]
        seen: list[int] = []
        while revisions[-1] not in seen:
            found, _ = await patient(batches, 1)
            seen += found
        assert seen == sorted(set(seen))
        assert seen[-2:] == revisions
        assert await store.keep_alive(lease)


async def test_a_restart_between_two_events_loses_neither(etcd: Etcd) -> None:
    async with opened(etcd) as store, store.watch("k/") as batches:
        for number in range(3):
            revisions = [await written(store, "k/1", b"%d" % number)]
            await asyncio.to_thread(etcd.restart)
            revisions.append(await written(store, "k/1", b"again"))
            seen, _ = await patient(batches, 2)
            assert seen == revisions


@posix
async def test_a_frozen_member_is_waited_for_no_longer_than_said(etcd: Etcd) -> None:
    async with opened(etcd) as store, store.watch("k/") as batches:
        await store.put("k/1", b"1")
        await take(batches, 1)
        etcd.members[0].freeze()
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await store.get("k/1")
        with pytest.raises((StoreUnavailableError, UncertainError)):
            await store.put("k/1", b"2")
        assert time.monotonic() - began_s < 15
        etcd.members[0].thaw()
        await written(store, "k/1", b"3")
        seen = 0
        while (found := await store.get("k/1")) is None or seen < found.mod_revision:
            revisions, _ = await patient(batches, 1)
            assert revisions[0] > seen
            seen = revisions[0]


async def test_a_store_that_was_wiped_is_noticed_by_whoever_comes_first(etcd: Etcd) -> None:
    async with opened(etcd) as store, store.watch("") as batches:
        for number in range(20):
            await store.put("a", b"%d" % number)
        await take(batches, 20)
        (member,) = etcd.members
        await asyncio.to_thread(member.kill)
        member.wipe()
        await asyncio.to_thread(etcd.revive, member)
        with pytest.raises(StoreReplacedError):
            await patient(batches, 1)
        # For good: the revisions that everybody has in memory are of another store.
        for call in (store.get("a"), store.put("a", b""), store.revision(), store.keep_alive(1)):
            with pytest.raises(StoreReplacedError):
                await call
        with pytest.raises(StoreReplacedError):
            async with store.watch("", start_revision=5) as more:
                await anext(more)
    async with opened(etcd) as store:
        assert await store.get("a") is None


async def test_a_wiped_store_is_noticed_without_a_watch(etcd: Etcd) -> None:
    async with opened(etcd) as store:
        for number in range(5):
            await store.put("a", b"%d" % number)
        (member,) = etcd.members
        await asyncio.to_thread(member.kill)
        member.wipe()
        await asyncio.to_thread(etcd.revive, member)

        async def noticed() -> bool:
            try:
                await store.get("a")
            except StoreReplacedError:
                return True
            except StoreUnavailableError:
                pass
            return False

        await eventually(noticed)


async def test_another_cluster_among_the_endpoints_is_noticed(etcd: Etcd) -> None:
    with running(1, QUICK_ELECTIONS) as other:
        access = EtcdAccess.of([*etcd.endpoints, *other.endpoints])
        async with EtcdStore.open(access, timing=IMPATIENT) as store:
            current = store._client.endpoints.current
            stranger = other if current.address.port == etcd.members[0].port else etcd
            async with opened(stranger) as theirs:
                # So that its revision does not give it away.
                for _ in range(10):
                    await theirs.put("a", b"")
            await store.put("a", b"")
            store._client.endpoints.leave(current, "so that the other is asked")
            with pytest.raises(StoreReplacedError, match="Another"):
                await store.get("a")


async def test_a_busy_process_does_not_give_up_the_stream_that_keeps_its_leases(etcd: Etcd) -> None:
    """Answers come while nobody looks: given up, they would be lost, and every lease asked for anew."""
    timing = EtcdTiming(attempt_s=0.1, give_up_s=PATIENCE_S)
    async with EtcdStore.open(EtcdAccess.of(etcd.endpoints), timing=timing) as store:
        lease = await store.grant(30)
        assert await store.keep_alive(lease)
        stream = store._keep_alives._stream
        assert stream is not None
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            asked = [group.create_task(store.keep_alive(lease)) for _ in range(5)]
            while not all(task.done() for task in asked):
                time.sleep(2 * timing.attempt_s)  # noqa: ASYNC251 - a loop that is busy
                await asyncio.sleep(0)
        assert all(task.result() for task in asked)
        assert store._keep_alives._stream is stream


async def test_a_member_whose_handshake_takes_long_is_reached(etcd: Etcd) -> None:
    """As where machines are starved, or far away: an attempt that is given up begins anew, and never ends."""
    async with proxied(etcd.members[0].port) as proxy:
        proxy.late_s = 1.4
        async with EtcdStore.open(EtcdAccess.of([proxy.endpoint])) as store:
            assert await store.revision() > 0
        assert proxy.connections <= 2
