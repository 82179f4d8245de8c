"""The etcd store on three members that are killed, frozen and cut off (make test-etcd).

Nothing here is timed: a machine that is busy with other things elects late, and more than once. What has to
go on is waited for, while the member that must not matter is still dead or frozen.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
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
from tests.store.etcd_server import WITHOUT, Etcd, Member, etcd_binary, running
from tests.store.harness import PATIENCE_S, eventually

pytestmark = [pytest.mark.etcd_cluster, pytest.mark.timeout(180)]
posix = pytest.mark.skipif(os.name == "nt", reason="Windows cannot freeze a process")
AS_DEFAULT = EtcdTiming()
ELECTIONS = ("--heartbeat-interval=100", "--election-timeout=1000")
"""etcd's own: with shorter ones members that wait for a processor depose each other without end."""
MORE = 20
"""So many writes show that it goes on, four of which may have been under way before."""
LONG_S = 60.0


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    if etcd_binary() is None:
        pytest.skip(WITHOUT)
    with running(3, ELECTIONS) as three:
        yield three


@dataclass
class History:
    """What was acknowledged, and what a watch saw of it."""

    acknowledged: dict[int, bytes] = field(default_factory=dict)
    uncertain: list[bytes] = field(default_factory=list)
    seen: dict[int, bytes] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)

    def goes_on(self) -> None:
        """Wait until more was acknowledged; it blocks."""
        wanted, ends_s = len(self.acknowledged) + MORE, time.monotonic() + LONG_S
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < ends_s, "nothing is acknowledged any more"
            time.sleep(0.01)


_PREFIXES = iter(range(1_000_000))


@asynccontextmanager
async def opened(
    etcd: Etcd, prefix: str, first: Member | None = None, timing: EtcdTiming = AS_DEFAULT
) -> AsyncIterator[EtcdStore]:
    async with contextlib.AsyncExitStack() as stack:
        access, ends_s = EtcdAccess.of(etcd.endpoints, prefix=prefix), time.monotonic() + LONG_S
        while True:
            try:
                store = await stack.enter_async_context(EtcdStore.open(access, timing=timing))
                break
            except StoreUnavailableError:
                # What the test before did to the members may go on.
                assert time.monotonic() < ends_s
        if first is not None:
            endpoints = store._client.endpoints
            ports = [one.address.port for one in endpoints.all]
            endpoints._index = ports.index(first.port)
            with contextlib.suppress(StoreUnavailableError):
                await store.revision()
        yield store


async def stop_where_members_disagree(etcd: Etcd, prefix: str, key: str) -> None:
    """Skip what etcd itself has spoiled: members that answer differently about ``key``, which nobody changes.

    Etcd 3.5.0 to 3.5.2, killed under load, may leave out entries when it starts again (mended in 3.5.3); the
    package for tests has 3.5.1. Reads are linearizable, so sound members can't disagree.
    """
    held: dict[str, bytes] = {}
    for member in etcd.members:
        async with contextlib.AsyncExitStack() as stack:
            access = EtcdAccess.of([member.endpoint], prefix=prefix)
            store = await stack.enter_async_context(EtcdStore.open(access, timing=AS_DEFAULT))
            found = await store.get(key)
            held[member.name] = found.value if found is not None else b""
    if len(set(held.values())) > 1:
        pytest.skip(f"this etcd lost what it had acknowledged: its members disagree ({held})")


async def renewed(store: Store, lease: int) -> bool:
    """Whether ``lease`` lives; asked again where nobody says, as its holders do."""
    for _ in range(10):
        with contextlib.suppress(StoreUnavailableError, UncertainError):
            return await store.keep_alive(lease)
    pytest.fail("nobody says whether the lease lives")


async def write(store: Store, key: str, history: History, stop: asyncio.Event) -> None:
    """Put one value after another, as fast as they are acknowledged."""
    number = 0
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


async def disturbed(
    etcd: Etcd, disturb: Callable[[History], None], *, first: Member | None = None
) -> History:
    """Several writers and a watch, while ``disturb`` runs in a thread; every promise is checked."""
    history, stop, entered = History(), asyncio.Event(), asyncio.Event()
    prefix = f"/cluster/{next(_PREFIXES)}/"
    async with opened(etcd, prefix, first) as store, opened(etcd, prefix, first) as watching:
        async with asyncio.TaskGroup() as group:
            following = group.create_task(follow(watching, history, entered))
            await entered.wait()
            async with asyncio.TaskGroup() as writing:
                for writer in range(4):
                    writing.create_task(write(store, f"w/{writer}", history, stop))
                try:
                    await asyncio.to_thread(history.goes_on)
                    await asyncio.to_thread(disturb, history)
                    await asyncio.to_thread(history.goes_on)
                finally:
                    stop.set()

            async def all_seen() -> bool:
                return history.acknowledged.keys() <= history.seen.keys()

            await eventually(all_seen, within_s=LONG_S)
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
        history = await disturbed(etcd, lambda _, leader=leader: leader.kill(), first=leader)  # type: ignore[misc]
        await asyncio.to_thread(etcd.revive, leader)
        assert len(history.acknowledged) >= 2 * MORE


async def test_nothing_is_lost_or_doubled_when_a_follower_is_killed(etcd: Etcd) -> None:
    leader = await asyncio.to_thread(etcd.leader)
    follower = next(member for member in etcd.members if member is not leader)
    await disturbed(etcd, lambda _: follower.kill(), first=follower)
    await asyncio.to_thread(etcd.revive, follower)


@posix
async def test_nothing_is_lost_or_doubled_when_the_leader_freezes(etcd: Etcd) -> None:
    leader = await asyncio.to_thread(etcd.leader)

    def freeze(history: History) -> None:
        leader.freeze()
        try:
            history.goes_on()
        finally:
            leader.thaw()

    await disturbed(etcd, freeze, first=leader)


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
        lease = await store.grant(LONG_S)
        assert await renewed(store, lease)
        frozen.freeze()
        try:
            revision = await writing.put("k/1", b"2")
            async with asyncio.timeout(PATIENCE_S):
                while (await anext(batches)).revision < revision:
                    pass
            assert await renewed(store, lease)
            assert (await store.get("k/1")) is not None
        finally:
            frozen.thaw()


async def test_members_may_be_restarted_one_after_the_other(etcd: Etcd) -> None:
    def roll(history: History) -> None:
        for member in etcd.members:
            etcd.restart(member)
            history.goes_on()

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

        await eventually(back, within_s=LONG_S)


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

    async def goes_on() -> None:
        wanted = done + MORE

        async def there() -> bool:
            return done >= wanted

        await eventually(there, within_s=LONG_S)

    async with opened(etcd, prefix) as one, opened(etcd, prefix) as two:
        assert (await one.transact([absent("n")], [Put("n", b"0")])).succeeded
        async with asyncio.TaskGroup() as group:
            for store in (one, one, two, two):
                group.create_task(increment(store))
            try:
                for _ in range(3):
                    await goes_on()
                    leader = await asyncio.to_thread(etcd.leader)
                    await asyncio.to_thread(leader.kill)
                    await goes_on()
                    await asyncio.to_thread(etcd.revive, leader)
            finally:
                stop.set()
        found = await one.get("n")
        assert found is not None
        if not done <= int(found.value) <= done + doubted:
            await stop_where_members_disagree(etcd, prefix, "n")
        assert done <= int(found.value) <= done + doubted
        assert done > 6 * MORE


async def test_a_lease_outlives_its_leader_and_ends_after_its_holder(etcd: Etcd) -> None:
    prefix = f"/cluster/{next(_PREFIXES)}/"
    async with opened(etcd, prefix) as store:
        ttl_s = 5.0
        lease = await store.grant(ttl_s)
        await store.put("k", b"", lease=lease)
        leader = await asyncio.to_thread(etcd.leader)
        await asyncio.to_thread(leader.kill)
        ends_s = time.monotonic() + ttl_s + 1.0
        try:
            while time.monotonic() < ends_s:
                assert await renewed(store, lease)
                await asyncio.sleep(0.5)
            assert await store.get("k") is not None

            async def gone() -> bool:
                return await store.get("k") is None

            await eventually(gone, within_s=LONG_S)
            assert not await store.keep_alive(lease)
        finally:
            await asyncio.to_thread(etcd.revive, leader)
