"""What the etcd store promises beyond the contract, while etcd is well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from controlplane.store.etcd import endpoint, ranges, watches
from controlplane.store.etcd.access import EtcdAccess
from controlplane.store.etcd.calls import RANGE
from controlplane.store.etcd.client import Effect
from controlplane.store.etcd.store import EtcdStore
from controlplane.store.etcd.wire import v3_pb2 as pb
from controlplane.store.port import (
    CompactedError,
    DeletePrefix,
    EventKind,
    Put,
    StoreUnavailableError,
    UncertainError,
)
from tests.store.etcd_harness import UNHURRIED, SharedEtcd
from tests.store.harness import PATIENCE_S, take, take_from
from tests.store.swallowing_proxy import proxied


@asynccontextmanager
async def opened(shared: SharedEtcd, prefix: str = "", holder: str = "") -> AsyncIterator[EtcdStore]:
    access = EtcdAccess.of(shared.etcd.endpoints, prefix=prefix or shared.prefix())
    async with EtcdStore.open(access, timing=UNHURRIED, holder=holder) as store:
        yield store


async def everything(store: EtcdStore) -> list[bytes]:
    """Every key below the store's prefix, those of its own too."""
    prefix = store._keyspace.bounds("")[0][:-1]
    request = pb.RangeRequest(key=prefix + b"\0", range_end=prefix[:-1] + b"0", keys_only=True)
    answer = await store._client.ask(RANGE, request, Effect.READ)
    return [kv.key[len(prefix) :] for kv in answer.kvs]


async def test_stores_below_different_prefixes_do_not_see_each_other(single_etcd: SharedEtcd) -> None:
    prefix = single_etcd.prefix()
    async with (
        opened(single_etcd, f"{prefix}a/") as one,
        opened(single_etcd, f"{prefix}b/") as other,
        opened(single_etcd, f"{prefix}a0/") as beside,
        beside.watch("") as batches,
    ):
        await one.put("k", b"one")
        await other.put("k", b"other")
        await beside.put("k", b"beside")
        assert [kv.value for kv in (await beside.range("")).items] == [b"beside"]
        assert [kv.key for kv in (await other.range("")).items] == ["k"]
        assert [batch.events[0].kv.value for batch in await take(batches, 1)] == [b"beside"]
        await other.transact((), [DeletePrefix("")])
        await beside.transact((), [DeletePrefix("")])
        assert [kv.key for kv in (await one.range("")).items] == ["k"]


async def test_a_list_of_many_pages_is_of_one_revision(
    single_etcd: SharedEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_FIRST_PAGE", 3)
    monkeypatch.setattr(ranges, "_LARGEST_PAGE", 7)
    keys = [f"k/{number:03}" for number in range(100)]
    async with opened(single_etcd) as store:
        await store.transact((), [Put(key, b"old") for key in keys])
        writing = True

        async def overwrite() -> None:
            while writing:
                await store.transact((), [Put(keys[0], b"new"), Put(keys[-1], b"new")])

        async with asyncio.TaskGroup() as group:
            group.create_task(overwrite())
            for _ in range(5):
                page = await store.range("k/")
                assert [kv.key for kv in page.items] == keys
                assert page.items[0].value == page.items[-1].value
                assert page.items[0].mod_revision == page.items[-1].mod_revision <= page.revision
            writing = False
        for limit in (1, 2, 3, 10, 99, 100, 101):
            page = await store.range("k/", limit=limit)
            assert [kv.key for kv in page.items] == keys[:limit]
            assert page.more is (limit < 100)


async def test_a_list_whose_revision_is_forgotten_meanwhile_begins_again(
    single_etcd: SharedEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_FIRST_PAGE", 10)
    monkeypatch.setattr(ranges, "_LARGEST_PAGE", 10)
    async with opened(single_etcd) as store:
        await store.transact((), [Put(f"k/{number:03}", b"") for number in range(50)])
        ask, asked = store._ranges._client.ask, 0

        async def compacting(*given: object, **more: object) -> object:
            nonlocal asked
            asked += 1
            if asked == 3:
                await store.compact(await store.put("other", b""))
            return await ask(*given, **more)  # type: ignore[arg-type, type-var]

        monkeypatch.setattr(store._ranges._client, "ask", compacting)
        assert len((await store.range("k/")).items) == 50
        revision = await store.revision()
        await store.put("k/new", b"")
        asked = 0
        with pytest.raises(CompactedError):
            await store.range("k/", revision=revision)


async def test_a_list_larger_than_a_message_comes_in_smaller_pages(
    single_etcd: SharedEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [option for option in endpoint._OPTIONS if option[0] != "grpc.max_receive_message_length"]
    monkeypatch.setattr(endpoint, "_OPTIONS", (*small, ("grpc.max_receive_message_length", 100_000)))
    monkeypatch.setattr(ranges, "_PAGE_BYTES", 60_000)
    async with opened(single_etcd) as store:
        for number in range(60):
            await store.put(f"k/{number:02}", bytes(10_000))
        assert [kv.key for kv in (await store.range("k/")).items] == [f"k/{n:02}" for n in range(60)]


async def test_a_revision_too_large_for_a_message_is_one_batch(
    single_etcd: SharedEtcd,
) -> None:
    # Cut into fragments by the member, whose answers are as small as its requests may be.
    async with opened(single_etcd) as store, store.watch("k/") as batches:
        for number in range(30):
            await store.put(f"k/{number:02}", bytes(200_000))
        revision = (await store.transact((), [DeletePrefix("k/")])).revision
        seen = await take(batches, 31)
        assert [len(batch.events) for batch in seen] == [1] * 30 + [30]
        assert seen[-1].revision == revision
        assert all(event.kind is EventKind.DELETE and event.previous for event in seen[-1].events)
        assert await take_from(store, "k/", seen[0].revision, 31) == seen


async def test_a_reader_that_stops_reading_costs_little_and_goes_on_where_it_was(
    single_etcd: SharedEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "_MAX_BYTES", 100_000)
    async with opened(single_etcd) as store, store.watch("k/") as batches:
        revisions = [await store.put(f"k/{number % 10}", bytes(20_000)) for number in range(300)]
        await asyncio.sleep(1.5 * UNHURRIED.probe_s)
        (watch,) = store._watches
        # One answer of etcd's more than is wanted, and what gRPC has read ahead.
        assert watch._bytes < 4_000_000 < 300 * 40_000
        assert [batch.revision for batch in await take(batches, 300)] == revisions


async def test_watching_goes_on_through_a_compaction(single_etcd: SharedEtcd) -> None:
    async with opened(single_etcd) as store, store.watch("k/") as batches:
        await store.put("k/1", b"")
        await take(batches, 1)
        for number in range(5):
            revision = await store.put("k/1", b"%d" % number)
            await store.compact(revision)
            assert [batch.revision for batch in await take(batches, 1)] == [revision]


async def test_a_watch_that_was_away_while_its_history_was_forgotten_is_told_to_list_again(
    single_etcd: SharedEtcd,
) -> None:
    prefix = single_etcd.prefix()
    async with opened(single_etcd, prefix) as direct, proxied(single_etcd.etcd.members[0].port) as proxy:
        access = EtcdAccess.of([proxy.endpoint], prefix=prefix)
        async with EtcdStore.open(access) as store, store.watch("k/") as batches:
            first = await direct.put("k/1", b"1")
            assert [batch.revision for batch in await take(batches, 1)] == [first]
            proxy.swallow_answers()
            for number in range(3):
                last = await direct.put("k/1", b"%d" % number)
            await direct.compact(last)
            proxy._swallow = False
            proxy.cut()
            with pytest.raises(CompactedError) as caught:
                await take(batches, 1)
            assert caught.value.revision >= last
            # For good: what was missed can't be told any more.
            with pytest.raises(CompactedError):
                await anext(batches)


async def test_a_bookmark_that_is_news_does_not_wait_for_its_time(single_etcd: SharedEtcd) -> None:
    access = EtcdAccess.of(single_etcd.etcd.endpoints, prefix=single_etcd.prefix())
    async with (
        EtcdStore.open(access, timing=replace(UNHURRIED, bookmark_s=1_000.0)) as store,
        store.watch("quiet/") as batches,
    ):
        for _ in range(2):
            revision = await store.put("loud", b"")
            async with asyncio.timeout(PATIENCE_S):
                while (batch := await anext(batches)).revision < revision:
                    assert not batch.events
            assert batch.events == ()


async def test_markers_are_as_many_as_writes_at_once_and_are_swept_by_the_next_process(
    single_etcd: SharedEtcd,
) -> None:
    prefix = single_etcd.prefix()
    async with opened(single_etcd, prefix, "instance-1") as store:
        for number in range(20):
            await store.put("a", b"%d" % number)
        assert len(await everything(store)) == 1 + 1
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(store.put("a", b"%d" % number))
        assert 1 < len(await everything(store)) <= 1 + 64
    async with opened(single_etcd, prefix, "instance-2") as other:
        await other.put("b", b"")
        before = len(await everything(other))
    async with opened(single_etcd, prefix, "instance-1") as store:
        revision = await store.revision()
        assert await store.put("a", b"") == revision + 1
        left = await everything(store)
        # Its own, the other instance's, and what both wrote.
        assert len(left) == 4 < before
        await store.put("a", b"")
        assert (await store.range("")).revision == revision + 2


async def test_renewals_of_many_leases_share_a_stream_and_each_gets_its_own_answer(
    single_etcd: SharedEtcd,
) -> None:
    async with opened(single_etcd) as store:
        alive = [await store.grant(60) for _ in range(20)]
        gone = [await store.grant(60) for _ in range(20)]
        for lease in gone:
            await store.revoke(lease)
        async with asyncio.TaskGroup() as group:
            tasks = [(lease, group.create_task(store.keep_alive(lease))) for lease in [*alive, *gone] * 10]
        assert all(task.result() is (lease in alive) for lease, task in tasks)
        for lease in alive:
            await store.revoke(lease)


async def test_a_cancelled_renewal_does_not_give_its_answer_to_another(single_etcd: SharedEtcd) -> None:
    async with opened(single_etcd) as store:
        lease = await store.grant(60)
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await store.keep_alive(lease)
        assert await store.keep_alive(lease)
        await store.revoke(lease)
        assert not await store.keep_alive(lease)


async def test_closing_while_calls_are_under_way_ends_them(single_etcd: SharedEtcd) -> None:
    ended: list[BaseException | None] = []

    async def write(store: EtcdStore) -> None:
        try:
            while True:
                await store.put("a", bytes(1000))
        except (StoreUnavailableError, UncertainError) as error:
            ended.append(error)

    async with asyncio.TaskGroup() as group, opened(single_etcd) as store:
        for _ in range(10):
            group.create_task(write(store))
        await asyncio.sleep(0.2)
    assert len(ended) == 10


async def test_no_etcd_is_said_in_time() -> None:
    access = EtcdAccess.of(["127.0.0.1:1", "127.0.0.1:2"])
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    with pytest.raises(StoreUnavailableError, match="majority"):
        async with EtcdStore.open(access):
            pass
    assert loop.time() - began_s < 30
