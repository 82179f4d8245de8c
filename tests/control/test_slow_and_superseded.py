"""Slow sidecars, superseded controllers, forgotten history: what must not spread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from controlplane.core.election import ElectionPolicy
from controlplane.services.leadership import Leadership
from controlplane.services.mirror import Mirror, Turn
from controlplane.store.batches import MOST_TOGETHER
from controlplane.store.embedded import EmbeddedStore
from controlplane.store.port import Put, StoreUnavailableError
from swarmplane.clock import SystemClock
from swarmplane.errors import StaleEpochError
from swarmplane.ids import InstanceId, ModelName
from swarmplane.routes import Version
from tests.fakes.authority import until
from tests.fakes.clock import FakeClock
from tests.fakes.control import Plane, inventory


async def test_a_sidecar_that_does_not_answer_gets_one_update_and_holds_up_nobody(plane: Plane) -> None:
    a, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    _, m_credential = await plane.node("mute")
    async with (
        plane.stream(a_credential) as ada,
        plane.stream(b_credential) as bob,
        plane.stream(m_credential, answers=False) as mute,
    ):
        for number in range(30):
            await bob.has(inventory(f"model-{number}"))
            await ada.knows(f"model-{number}", 1)
        assert len({update.nonce for update in mute.updates}) == 1
        assert mute.ready("model-29") == -1
        outbox = plane.control.sessions.open[mute.node].outbox
        assert outbox.table
        assert (await plane.control.nodes.get(a)).push.acked > Version()
        mute.answers = True
        await mute.ack(mute.table.version, mute.updates[-1].nonce)
        await mute.knows("model-29", 1)
        assert list(mute.table.models) == ["model-29"], "only the newest, none of what lay between"
        assert len({update.nonce for update in mute.updates}) == 2


async def test_a_sidecar_that_does_not_read_holds_up_nobody(plane: Plane) -> None:
    _, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    s, s_credential = await plane.node("stuck")
    names = [f"org-{number:04}/" + "a-very-long-model-name-" * 8 for number in range(2_000)]
    async with plane.stream(b_credential) as bob:
        await bob.has(inventory(*names))
        await bob.knows(names[-1], 1)
        async with plane.stream(s_credential, reads=False) as stuck, plane.stream(a_credential) as ada:
            await ada.knows(names[-1], 1)
            for number in range(5):
                await bob.has(inventory(*names, f"news-{number}"))
                await ada.knows(f"news-{number}", 1)
            assert s in plane.control.sessions.open
            assert not stuck.updates


async def test_who_never_answers_is_asked_to_connect_again(still_plane: Plane, clock: FakeClock) -> None:
    _, credential = await still_plane.node("mute")
    async with still_plane.stream(credential, answers=False) as mute:
        for _ in range(40):
            await clock.advance(1.0)
            # It may end just now: in this write, or before it though nobody has read of it yet.
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                if not mute.ended:
                    await mute.beat()
                    await asyncio.sleep(0.01)
        await until(lambda: mute.ended)
        assert mute.last_word is not None
        assert mute.last_word.reject.code == "not_ready"


async def test_routes_are_written_in_transactions_of_at_most_a_hundred(plane: Plane) -> None:
    _, credential = await plane.node("ada")
    async with plane.stream(credential) as ada:
        before = await plane.store.revision()
        await ada.has(inventory(*(f"model-{number}" for number in range(250))))
        await ada.knows("model-249", 1)
    sizes: list[int] = []
    async with plane.store.watch("routes/", start_revision=before + 1) as batches:
        async for batch in batches:
            sizes.append(len(batch.events))
            if sum(sizes) >= 250:
                break
    assert max(sizes) == MOST_TOGETHER
    assert sum(sizes) == 250


async def test_nothing_is_written_where_nothing_changed(plane: Plane) -> None:
    _, credential = await plane.node("ada")
    async with plane.stream(credential) as ada:
        await ada.has(inventory("llama"))
        await ada.knows("llama", 1)
        before = await plane.store.revision()
        await ada.has(inventory("llama"))
        await ada.beat()
        await asyncio.sleep(0.3)
        assert await plane.store.revision() == before


async def test_a_superseded_controller_changes_nothing(tmp_path: Path) -> None:
    async with EmbeddedStore.open(tmp_path / "store.db", clock=SystemClock()) as store:
        clock = SystemClock()
        old, new = (
            Leadership(
                store,
                Mirror(store, clock),
                clock,
                ElectionPolicy(),
                instance=InstanceId(name),
                unix_s=time.time,
            )
            for name in ("old", "new")
        )
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(old.run())]
            await until(lambda: old.leading)
            guard = old.guard
            assert (await store.transact([guard], [Put("routes/x", b"old")])).succeeded
            await old.check()
            await store.delete("elections/controller")
            running.append(group.create_task(new.run()))
            await until(lambda: new.leading)
            assert new.epoch == old.epoch + 1
            assert not (await store.transact([guard], [Put("routes/x", b"late")])).succeeded
            with pytest.raises(StaleEpochError):
                await old.check()
            await until(lambda: not old.leading)
            with pytest.raises(StaleEpochError):
                _ = old.guard
            await new.check()
            for task in running:
                task.cancel()


class _Watched:
    """What a mirror told, and a mirror that runs."""

    def __init__(self, store: Any) -> None:
        self.mirror = Mirror(store, SystemClock())
        self.turns: list[Turn] = []
        self.mirror.subscribe(self.turns.append)

    def names(self) -> list[tuple[str, bool]]:
        return [(c.name, c.after is not None) for turn in self.turns for c in turn.changes]


async def test_a_new_mirror_knows_what_was_deleted_shortly_before(tmp_path: Path) -> None:
    async with EmbeddedStore.open(tmp_path / "store.db", clock=SystemClock()) as store:
        await store.put("routes/gone", b"x")
        await store.put("routes/kept", b"x")
        await store.delete("routes/gone")
        await store.put("audit/other", b"x")
        async with asyncio.TaskGroup() as group:
            watched = _Watched(store)
            task = group.create_task(watched.mirror.run())
            await watched.mirror.loaded.wait()
            assert watched.names() == [("kept", True), ("gone", False)]
            assert watched.mirror.horizon == 0
            task.cancel()


async def test_a_new_mirror_of_a_compacted_store_knows_its_horizon(tmp_path: Path) -> None:
    async with EmbeddedStore.open(tmp_path / "store.db", clock=SystemClock()) as store:
        for number in range(5):
            await store.put("routes/kept", str(number).encode())
        await store.compact(4)
        async with asyncio.TaskGroup() as group:
            watched = _Watched(store)
            task = group.create_task(watched.mirror.run())
            await watched.mirror.loaded.wait()
            assert watched.mirror.horizon == 3
            assert watched.names() == [("kept", True)]
            task.cancel()


class _Flaky:
    """A store whose watch breaks when told, and which forgets meanwhile."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self.broken = asyncio.Event()
        self.away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def watch(self, prefix: str, *, start_revision: int = 0) -> Any:
        @asynccontextmanager
        async def watching() -> Any:
            if self.away:
                raise StoreUnavailableError("away")
            async with self._store.watch(prefix, start_revision=start_revision) as batches:
                yield self._until_broken(batches)

        return watching()

    async def _until_broken(self, batches: Any) -> Any:
        async for batch in batches:
            if self.away:
                raise StoreUnavailableError("away")
            yield batch


async def test_a_mirror_that_missed_forgotten_history_lists_again(tmp_path: Path) -> None:
    async with EmbeddedStore.open(tmp_path / "store.db", clock=SystemClock()) as store:
        await store.put("routes/a", b"1")
        await store.put("routes/b", b"1")
        flaky = _Flaky(store)
        async with asyncio.TaskGroup() as group:
            watched = _Watched(flaky)
            task = group.create_task(watched.mirror.run())
            await watched.mirror.loaded.wait()
            flaky.away = True
            await store.put("audit/x", b"1")
            await until(lambda: watched.mirror.outages > 0)
            await store.delete("routes/a")
            await store.put("routes/c", b"1")
            for number in range(3):
                await store.put("audit/x", str(number).encode())
            await store.compact(await store.revision())
            told = len(watched.turns)
            flaky.away = False
            await until(lambda: "c" in watched.mirror.below("routes/"))
            assert sorted(watched.mirror.below("routes/")) == ["b", "c"]
            changes = {(c.name, c.after is not None) for turn in watched.turns[told:] for c in turn.changes}
            assert changes == {("a", False), ("c", True)}
            await store.put("routes/d", b"1")
            await watched.mirror.reached(await store.revision())
            assert ModelName("d") in watched.mirror.below("routes/")
            task.cancel()
