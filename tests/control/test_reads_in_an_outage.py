"""What is told while the store is out of reach: the last picture and its age, never a wrong picture.

Mutants that were tried and are killed: no age noted; the picture asked though the store answers; a fallback
before the picture was whole; pages without a limit; pages from the start; the store asked at every call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.services.known import AGAIN_S, FRESHNESS, Freshness, KnownStore
from controlplane.services.mirror import Mirror
from controlplane.services.mutations import Mutation, Mutations
from controlplane.services.sealing import SwarmSecret
from controlplane.store.embedded import EmbeddedStore
from controlplane.store.port import (
    CompactedError,
    KeyValue,
    Put,
    Range,
    StoreUnavailableError,
    WatchBatch,
)
from swarmplane.clock import SystemClock
from swarmplane.errors import UnavailableError
from swarmplane.ids import SubjectId
from tests.fakes.authority import until
from tests.fakes.clock import FakeClock


class Moody:
    """A store that may refuse reads; everything else is the real one's."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self.away = False
        self.asked = 0
        self.overtakes = False
        """Whether the past is forgotten before anybody can follow."""
        self.watched = 0

    @asynccontextmanager
    async def watch(self, prefix: str, **more: Any) -> AsyncIterator[AsyncIterator[WatchBatch]]:
        async with self._store.watch(prefix, **more) as batches:
            if self.overtakes and more["start_revision"] > 1:
                self.watched += 1
                raise CompactedError(1)
            yield batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get(self, key: str) -> KeyValue | None:
        self._check()
        return await self._store.get(key)

    async def range(self, prefix: str, **more: Any) -> Range:
        self._check()
        return await self._store.range(prefix, **more)

    def _check(self) -> None:
        self.asked += 1
        if self.away:
            raise StoreUnavailableError("it is away")


@asynccontextmanager
async def known(path: Path, clock: FakeClock) -> AsyncIterator[tuple[KnownStore, Moody, Mirror]]:
    async with EmbeddedStore.open(path, clock=SystemClock()) as store:
        for number in range(3):
            await store.put(f"nodes/n{number}", b"x")
        await store.put("tokens/t", b"x")
        moody = Moody(store)
        mirror = Mirror(moody, clock)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(mirror.run())
            yield KnownStore(moody, mirror, clock), moody, mirror
            following.cancel()


async def test_the_last_picture_answers_and_says_how_old_it_is(tmp_path: Path) -> None:
    clock = FakeClock(100.0)
    async with known(tmp_path / "store.db", clock) as (store, moody, mirror):
        await mirror.loaded.wait()
        freshness = Freshness()
        reset = FRESHNESS.set(freshness)
        assert (await store.get("nodes/n1")) is not None
        assert freshness.age_s == 0
        moody.away = True
        await clock.advance(2.0)
        found = await store.get("nodes/n1")
        assert found is not None
        assert (await store.get("nodes/none")) is None
        assert freshness.age_s == pytest.approx(2.0)
        page = await store.range("nodes/", limit=2)
        assert ([kv.key for kv in page.items], page.more) == (["nodes/n0", "nodes/n1"], True)
        rest = await store.range("nodes/", start_after="nodes/n1", revision=page.revision)
        assert ([kv.key for kv in rest.items], rest.more) == (["nodes/n2"], False)
        with pytest.raises(StoreUnavailableError):
            await store.range("tokens/")
        with pytest.raises(StoreUnavailableError):
            await store.get("tokens/t")
        FRESHNESS.reset(reset)


async def test_a_picture_that_is_overtaken_is_not_taken_again_at_full_speed(tmp_path: Path) -> None:
    """Kills: no pause."""
    clock = FakeClock(100.0)
    async with EmbeddedStore.open(tmp_path / "store.db", clock=SystemClock()) as inner:
        await inner.put("nodes/n", b"x")
        moody = Moody(inner)
        moody.overtakes = True
        mirror = Mirror(moody, clock)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(mirror.run())
            await until(lambda: moody.watched == 1)
            await until(lambda: clock.sleepers > 0)
            assert moody.watched == 1
            moody.overtakes = False
            await inner.put("nodes/m", b"x")
            await clock.advance(1.0)
            await until(lambda: "m" in mirror.below("nodes/"))
            following.cancel()


async def test_the_store_is_asked_again_now_and_then(tmp_path: Path) -> None:
    clock = FakeClock(100.0)
    async with known(tmp_path / "store.db", clock) as (store, moody, mirror):
        await mirror.loaded.wait()
        moody.away = True
        await store.get("nodes/n1")
        asked = moody.asked
        await store.get("nodes/n1")
        assert moody.asked == asked, "not at every call"
        moody.away = False
        await clock.advance(AGAIN_S + 0.1)
        freshness = Freshness()
        reset = FRESHNESS.set(freshness)
        assert (await store.get("nodes/n1")) is not None
        assert (moody.asked, freshness.age_s) == (asked + 1, 0)
        FRESHNESS.reset(reset)


async def test_without_a_picture_the_outage_is_told(tmp_path: Path) -> None:
    async with EmbeddedStore.open(tmp_path / "store.db", clock=SystemClock()) as inner:
        moody = Moody(inner)
        moody.away = True
        store = KnownStore(moody, Mirror(moody, SystemClock()), SystemClock())
        with pytest.raises(StoreUnavailableError, match="away"):
            await store.get("nodes/n1")


async def test_a_change_is_refused_at_once_with_what_to_do(tmp_path: Path) -> None:
    async with EmbeddedStore.open(tmp_path / "store.db", clock=SystemClock()) as store:
        mutations = Mutations(store, SwarmSecret(bytes(32)), lambda: 0.0)

        async def plan() -> Mutation:
            return Mutation((), (Put("x", b""),), "test.act", "x", "acted")

        freshness = Freshness()
        reset = FRESHNESS.set(freshness)
        assert (await mutations.commit(SubjectId("me"), plan)).revision
        freshness.age_s = 3.0
        with pytest.raises(UnavailableError, match="a majority of its members must run"):
            await mutations.commit(SubjectId("me"), plan)
        FRESHNESS.reset(reset)
