"""Exactly one controller: what makes it stop, and who follows.

Mutants that were tried and are killed: the tenure counted from the answer; no end by the own clock; one that
resigned and stands again; a lease kept after resigning; a lost key not noticed; an epoch that is not raised;
an outage that is measured from its last question, or not at all by who follows, or counted before it is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.core.election import ElectionPolicy
from controlplane.services.leadership import Leadership
from controlplane.services.mirror import Mirror
from controlplane.store.embedded import EmbeddedStore
from controlplane.store.port import Put, StoreUnavailableError
from swarmplane.clock import Clock, SystemClock
from swarmplane.errors import StaleEpochError
from swarmplane.ids import InstanceId
from tests.fakes.authority import until
from tests.fakes.clock import FakeClock

KEY = "elections/controller"


class Slow:
    """A store whose renewals are answered when a test lets them."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self.asked = 0
        self.answered = 0
        self._let = asyncio.Semaphore(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def keep_alive(self, lease: int) -> bool:
        self.asked += 1
        await self._let.acquire()
        self.answered += 1
        return await self._store.keep_alive(lease)

    def let(self) -> None:
        self._let.release()


class Away:
    """A store that does not answer, or refuses after a while, as long as it is ``away``."""

    def __init__(self, store: EmbeddedStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self.away = self.refuses = False
        self.asked = self.answered = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get(self, key: str) -> Any:
        self.asked += 1
        await self._waited()
        found = await self._store.get(key)
        self.answered += 1
        return found

    async def keep_alive(self, lease: int) -> bool:
        self.asked += 1
        await self._waited()
        lives = await self._store.keep_alive(lease)
        self.answered += 1
        return lives

    async def _waited(self) -> None:
        while self.away:
            await self._clock.sleep(0.5)
            if self.refuses:
                raise StoreUnavailableError("away")


@asynccontextmanager
async def standing(store: Any, *names: str, clock: Clock | None = None) -> AsyncIterator[list[Leadership]]:
    """Candidates that stand, each with a picture of the store of its own."""
    made = []
    async with asyncio.TaskGroup() as group:
        tasks = []
        for name in names:
            mirror = Mirror(store, clock or SystemClock())
            one = Leadership(
                store,
                mirror,
                clock or SystemClock(),
                ElectionPolicy(),
                instance=InstanceId(name),
                unix_s=lambda: 7.0,
            )
            tasks += [group.create_task(mirror.run()), group.create_task(one.run())]
            made.append(one)
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[EmbeddedStore]:
    async with EmbeddedStore.open(path / "store.db", clock=SystemClock()) as store:
        yield store


async def test_it_stops_by_its_own_clock_while_a_renewal_is_under_way(tmp_path: Path) -> None:
    clock = FakeClock(100.0)
    async with opened(tmp_path) as store:
        slow = Slow(store)
        async with standing(slow, "a", clock=clock) as (one,):
            await until(lambda: slow.asked == 1)
            assert one.leading
            await clock.advance(2.6)
            assert one.leading
            await clock.advance(0.2)
            assert not one.leading, "nobody answered: its lease may end"
            with pytest.raises(StaleEpochError):
                _ = one.guard


async def test_a_late_answer_counts_from_its_question(tmp_path: Path) -> None:
    clock = FakeClock(100.0)
    async with opened(tmp_path) as store:
        slow = Slow(store)
        async with standing(slow, "a", clock=clock) as (one,):
            await until(lambda: slow.asked == 1)
            await clock.advance(2.0)
            slow.let()
            await until(lambda: slow.answered == 1 and slow.asked == 2)
            assert one.leading
            await clock.advance(0.8)
            assert not one.leading, "asked at 100, so it ends before 103, whenever it was answered"


async def test_one_of_three_leads_and_its_writes_alone_count(tmp_path: Path) -> None:
    async with opened(tmp_path) as store, standing(store, "a", "b", "c") as all_three:
        await until(lambda: sum(one.leading for one in all_three) == 1)
        leader = next(one for one in all_three if one.leading)
        guard, epoch = leader.guard, leader.epoch
        assert (await store.transact([guard], [Put("x", b"1")])).succeeded
        for other in all_three:
            if other is not leader:
                with pytest.raises(StaleEpochError):
                    _ = other.guard
                with pytest.raises(StaleEpochError):
                    await other.check()
        await leader.resign()
        assert not leader.leading
        assert not (await store.transact([guard], [Put("x", b"2")])).succeeded
        await until(lambda: sum(one.leading for one in all_three) == 1)
        follower = next(one for one in all_three if one.leading)
        assert follower is not leader, "who resigned never stands again"
        assert follower.epoch == epoch + 1
        await follower.resign()
        await until(lambda: sum(one.leading for one in all_three) == 1)
        assert not leader.leading
        assert not follower.leading


async def test_who_loses_the_key_stops_and_stands_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store, standing(store, "a") as (one,):
        await until(lambda: one.leading)
        guard, epoch = one.guard, one.epoch
        await store.delete(KEY)
        await until(lambda: one.leading and one.epoch == epoch + 1)
        assert not (await store.transact([guard], [Put("x", b"1")])).succeeded


async def test_the_key_ends_with_its_holder(tmp_path: Path) -> None:
    async with opened(tmp_path) as store, standing(store, "a") as (one,):
        await until(lambda: one.leading)
        kv = await store.get(KEY)
        assert kv is not None
        remaining = await store.lease_remaining(kv.lease)
        assert remaining is not None
        assert remaining <= ElectionPolicy().ttl_s
        await one.resign()
        assert await store.get(KEY) is None


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize("leads", [False, True])
@pytest.mark.parametrize(("away_s", "outages"), [(3.0, 0), (7.0, 1)])
async def test_a_store_that_was_away_is_known_when_it_is_back(
    tmp_path: Path, away_s: float, outages: int, *, leads: bool, refuses: bool
) -> None:
    """Whether it is asked for a renewal or for who leads."""
    clock = FakeClock(100.0)
    async with opened(tmp_path) as store:
        gone = Away(store, clock)
        gone.away, gone.refuses = not leads, refuses
        async with standing(gone, "a", clock=clock) as (one,):
            await until(lambda: one.leading if leads else gone.asked > 0)
            gone.away = True
            for _ in range(round(away_s * 2)):
                await clock.advance(0.5)
            assert one.outages == 0, "it is not over"
            gone.away, before = False, gone.answered
            async with asyncio.timeout(20):
                while gone.answered == before:
                    await clock.advance(0.05)
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            assert one.outages == outages
