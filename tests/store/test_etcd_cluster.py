"""The etcd store on three members that are killed, frozen and cut off (make test-etcd)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from controlplane.store.etcd.access import EtcdAccess, EtcdTiming
from controlplane.store.etcd.store import EtcdStore
from controlplane.store.port import (
    Put,
    Store,
    StoreUnavailableError,
    UncertainError,
    absent,
    modified,
)
from tests.store.conftest import QUICK_ELECTIONS
from tests.store.etcd_server import WITHOUT, Etcd, Member, etcd_binary, running
from tests.store.harness import PATIENCE_S, eventually

pytestmark = [pytest.mark.etcd_cluster, pytest.mark.timeout(180)]
posix = pytest.mark.skipif(os.name == "nt", reason="Windows cannot freeze a process")
AS_DEFAULT = EtcdTiming()


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    if etcd_binary() is None:
        pytest.skip(WITHOUT)
    with running(3, QUICK_ELECTIONS) as three:
        yield three


@dataclass
class History:
    """What was acknowledged, and what a watch saw of it."""

    acknowledged: dict[int, bytes] = field(default_factory=dict)
    uncertain: list[bytes] = field(default_factory=list)
    seen: dict[int, bytes] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    gap_s: float = 0.0
    """The longest time without an acknowledgement."""


_PREFIXES = iter(range(1_000_000))


@asynccontextmanager
async def opened(
    etcd: Etcd, prefix: str, first: Member | None = None, timing: EtcdTiming = AS_DEFAULT
) -> AsyncIterator[EtcdStore]:
    async with EtcdStore.open(EtcdAccess.of(etcd.endpoints, prefix=prefix), timing=timing) as store:
        if first is not None:
            endpoints = store._client.endpoints
            ports = [one.address.port for one in endpoints.all]
            endpoints._index = ports.index(first.port)
            await store.revision()
        yield store


async def write(store: Store, key: str, history: History, stop: asyncio.Event) -> None:
    """Put one value after another, as fast as they are acknowledged."""
    number, last_s = 0, time.monotonic()
    while not stop.is_set():
        number += 1
        value = f"{key} {number}".encode()
        try:
            revision = await store.put(key, value)
        except UncertainError:
            history.uncertain.append(value)
        except StoreUnavailableError:
            continue
        else:
            history.acknowledged[revision] = value
        history.gap_s = max(history.gap_s, time.monotonic() - last_s)
        last_s = time.monotonic()


async def follow(store: Store, history: History, entered: asyncio.Event) -> None:
    marked = 0
    async with store.watch("w/") as batches:
        entered.set()
        while True:
            try:
                batch = await anext(batches)
            except StoreUnavailableError:
                continue
            if not batch.events:
                marked = batch.revision
            for event in batch.events:
                assert batch.revision > marked, "a bookmark came too early"
                history.order.append(batch.revision)
                history.seen[batch.revision] = event.kv.value


async def disturbed(etcd: Etcd, disturb: object, *, first: Member | None = None) -> History:
    """Several writers and a watch, while ``disturb()`` runs in a thread; every promise is checked."""
    assert callable(disturb)
    history, stop, entered = History(), asyncio.Event(), asyncio.Event()
    prefix = f"/cluster/{next(_PREFIXES)}/"
    async with opened(etcd, prefix, first) as store, opened(etcd, prefix, first) as watching:
        async with asyncio.TaskGroup() as group:
            following = group.create_task(follow(watching, history, entered))
            await entered.wait()
            async with asyncio.TaskGroup() as writing:
                for writer in range(4):
                    writing.create_task(write(store, f"w/{writer}", history, stop))
                await asyncio.sleep(0.5)
                await asyncio.to_thread(disturb)
                await asyncio.sleep(1.0)
                stop.set()

            async def all_seen() -> bool:
                return history.acknowledged.keys() <= history.seen.keys()

            await eventually(all_seen)
            following.cancel()
        assert history.order == sorted(history.order)
        assert len(history.order) == len(set(history.order)), "seen twice"
        assert {revision: history.seen[revision] for revision in history.acknowledged} == history.acknowledged
        # What was seen and not acknowledged was given up in doubt.
        extra = [value for revision, value in history.seen.items() if revision not in history.acknowledged]
        assert set(extra) <= set(history.uncertain)
        assert len(set(history.seen.values())) == len(history.seen), "done twice"
    return history


async def test_nothing_is_lost_or_doubled_when_the_leader_is_killed(etcd: Etcd) -> None:
    for _ in range(3):
        leader = await asyncio.to_thread(etcd.leader)
        history = await disturbed(etcd, leader.kill, first=leader)
        await asyncio.to_thread(etcd.revive, leader)
        assert len(history.acknowledged) > 50
        # Measured 0.3 to 1.2 s; a busy machine takes longer.
        assert history.gap_s < 15


async def test_nothing_is_lost_or_doubled_when_a_follower_is_killed(etcd: Etcd) -> None:
    leader = await asyncio.to_thread(etcd.leader)
    follower = next(member for member in etcd.members if member is not leader)
    await disturbed(etcd, follower.kill, first=follower)
    await asyncio.to_thread(etcd.revive, follower)


@posix
async def test_nothing_is_lost_or_doubled_when_the_leader_freezes(etcd: Etcd) -> None:
    leader = await asyncio.to_thread(etcd.leader)

    def freeze() -> None:
        leader.freeze()
        try:
            time.sleep(4)
        finally:
            leader.thaw()

    history = await disturbed(etcd, freeze, first=leader)
    assert history.gap_s < 15


@posix
async def test_a_watch_leaves_a_frozen_member(etcd: Etcd) -> None:
    leader = await asyncio.to_thread(etcd.leader)
    frozen = next(member for member in etcd.members if member is not leader)
    prefix = f"/cluster/{next(_PREFIXES)}/"
    async with (
        opened(etcd, prefix, leader) as writing,
        opened(etcd, prefix, frozen) as store,
        store.watch("k/") as batches,
    ):
        await writing.put("k/1", b"1")
        await anext(batches)
        lease = await store.grant(30)
        assert await store.keep_alive(lease)
        frozen.freeze()
        try:
            began_s = time.monotonic()
            revision = await writing.put("k/1", b"2")
            async with asyncio.timeout(PATIENCE_S):
                while (await anext(batches)).revision < revision:
                    pass
            assert time.monotonic() - began_s < 10
            assert await store.keep_alive(lease)
            assert (await store.get("k/1")) is not None
        finally:
            frozen.thaw()


async def test_members_may_be_restarted_one_after_the_other(etcd: Etcd) -> None:
    def roll() -> None:
        for member in etcd.members:
            etcd.restart(member)

    await disturbed(etcd, roll)


async def test_without_a_majority_nothing_is_done_and_it_is_said_so(etcd: Etcd) -> None:
    prefix = f"/cluster/{next(_PREFIXES)}/"
    brief = EtcdTiming(give_up_s=3.0)
    left, *killed = etcd.members
    async with opened(etcd, prefix, left, brief) as store:
        await store.put("a", b"1")
        for member in killed:
            await asyncio.to_thread(member.kill)
        try:
            with pytest.raises((StoreUnavailableError, UncertainError)):
                await store.put("a", b"2")
            with pytest.raises(StoreUnavailableError, match="majority") as caught:
                await store.get("a")
            assert caught.value.code.retryable
        finally:
            await asyncio.to_thread(etcd.revive, *killed)

        async def back() -> bool:
            try:
                return await store.put("a", b"3") > 0
            except (StoreUnavailableError, UncertainError):
                return False

        await eventually(back)


async def test_increments_by_compare_and_swap_survive_every_leader(etcd: Etcd) -> None:
    prefix = f"/cluster/{next(_PREFIXES)}/"
    done, doubted = 0, 0
    stop = asyncio.Event()

    async def increment(store: Store) -> None:
        nonlocal done, doubted
        while not stop.is_set():
            try:
                kv = await store.get("n")
                assert kv is not None
                step = Put("n", b"%d" % (int(kv.value) + 1))
                result = await store.transact([modified("n", kv.mod_revision)], [step])
            except UncertainError:
                doubted += 1
            except StoreUnavailableError:
                continue
            else:
                done += result.succeeded

    async with opened(etcd, prefix) as one, opened(etcd, prefix) as two:
        assert (await one.transact([absent("n")], [Put("n", b"0")])).succeeded
        async with asyncio.TaskGroup() as group:
            for store in (one, one, two, two):
                group.create_task(increment(store))
            for _ in range(3):
                await asyncio.sleep(0.3)
                leader = await asyncio.to_thread(etcd.leader)
                await asyncio.to_thread(leader.kill)
                await asyncio.sleep(1.5)
                await asyncio.to_thread(etcd.revive, leader)
            stop.set()
        found = await one.get("n")
        assert found is not None
        assert done <= int(found.value) <= done + doubted
        assert done > 20


async def test_a_lease_outlives_its_leader_and_ends_after_its_holder(etcd: Etcd) -> None:
    prefix = f"/cluster/{next(_PREFIXES)}/"
    async with opened(etcd, prefix) as store:
        lease = await store.grant(4)
        await store.put("k", b"", lease=lease)
        leader = await asyncio.to_thread(etcd.leader)
        await asyncio.to_thread(leader.kill)
        try:
            for _ in range(6):
                assert await store.keep_alive(lease)
                await asyncio.sleep(1)
            assert await store.get("k") is not None

            async def gone() -> bool:
                return await store.get("k") is None

            await eventually(gone)
            assert not await store.keep_alive(lease)
        finally:
            await asyncio.to_thread(etcd.revive, leader)
