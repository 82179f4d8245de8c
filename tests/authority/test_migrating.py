"""Migration, interrupted everywhere: never two truths, and done again it is whole.

Mutants that these catch: giving up after the last transaction; giving up before the copy was checked; no
marker; a marker that anybody's copy goes on with; leftovers of an earlier try that stay; leases copied; the
generation not raised; a target with something else in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.process.migrating import MARKER, Migrated, migrate
from controlplane.services import keyspace
from controlplane.store.embedded import EmbeddedStore
from controlplane.store.port import Put, Store, StoreUnavailableError, TxnResult, UncertainError
from swarmplane.clock import SystemClock
from swarmplane.codec import records
from swarmplane.errors import ConflictError, FailedPreconditionError, SwarmError

NOW_S = 1_800_000_000.0
LASTING = 260
"""More than two batches."""


class Failing:
    """A store whose write number ``at`` fails, before or after it was done."""

    def __init__(self, store: Store, at: int, *, done: bool) -> None:
        self._store = store
        self._left = at
        self._done = done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, compares: Sequence[Any], then: Sequence[Any]) -> TxnResult:
        self._left -= 1
        if self._left:
            return await self._store.transact(compares, then)
        if self._done:
            await self._store.transact(compares, then)
            raise UncertainError("lost on the way")
        raise StoreUnavailableError("lost before")


@asynccontextmanager
async def _stores(root: Path) -> AsyncIterator[tuple[EmbeddedStore, EmbeddedStore]]:
    clock = SystemClock()
    async with (
        EmbeddedStore.open(root / "a.db", clock=clock) as source,
        EmbeddedStore.open(root / "b.db", clock=clock) as target,
    ):
        await _fill(source)
        yield source, target


async def _fill(source: Store, swarm: str = "s1") -> None:
    await source.transact(
        [],
        [
            Put(keyspace.SWARM, records.Swarm(id=swarm, name="swarm").SerializeToString()),
            Put(keyspace.GENERATION, records.Counter(value=1).SerializeToString()),
            Put(keyspace.CA_KEY, b"sealed"),
        ],
    )
    for start in range(0, LASTING, 100):
        await source.transact(
            [], [Put(f"tokens/t{n:03}", b"%d" % n) for n in range(start, min(start + 100, LASTING))]
        )
    lease = await source.grant(60)
    await source.put("members/n", b"passing", lease=lease)
    await source.put("operations/o", b"passing", lease=lease)


async def _content(store: Store) -> dict[str, bytes]:
    return {kv.key: kv.value for kv in (await store.range("")).items}


async def _run(source: Store, target: Any, given_up: list[bool]) -> Migrated:
    def give_up() -> None:
        given_up[0] = True

    return await migrate(source, target, give_up, given_up=given_up[0], now_s=NOW_S)


async def _whole(source: Store, target: Store) -> bool:
    wanted, there = await _content(source), await _content(target)
    lasting = {key for key in wanted if key not in {keyspace.GENERATION, "members/n", "operations/o"}}
    audits = {key for key in there if key.startswith(keyspace.AUDITS)}
    generation = records.Counter.FromString(there.get(keyspace.GENERATION, b"")).value
    return (
        there.keys() - audits == lasting | {keyspace.GENERATION}
        and all(there[key] == wanted[key] for key in lasting)
        and generation == int(NOW_S)
        and len(audits) == 1
    )


async def test_everything_that_lasts_arrives(tmp_path: Path) -> None:
    async with _stores(tmp_path) as (source, target):
        given_up = [False]
        done = await _run(source, target, given_up)
        assert (done.keys, done.again, given_up) == (LASTING + 3, False, [True])
        assert await _whole(source, target)
        again = await _run(source, target, given_up)
        assert (again.again, again.generation) == (True, int(NOW_S))
        with pytest.raises(FailedPreconditionError, match="decide which one is right"):
            await _run(source, target, [False])


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
async def test_an_interruption_is_made_good(tmp_path: Path, at: int, done: bool) -> None:
    async with _stores(tmp_path) as (source, target):
        given_up = [False]
        with pytest.raises(SwarmError, match="lost"):
            await _run(source, Failing(target, at, done=done), given_up)
        is_swarm = await target.get(keyspace.SWARM) is not None
        assert not (is_swarm and not given_up[0]), "never two truths"
        if not given_up[0]:
            # The source went on meanwhile.
            await source.put("tokens/new", b"new")
            await source.delete("tokens/t000")
        await _run(source, target, given_up)
        assert given_up == [True]
        assert await target.get(MARKER) is None
        assert await _whole(source, target)


async def test_a_target_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    async with _stores(tmp_path) as (source, target):
        await target.put("x", b"")
        given_up = [False]
        with pytest.raises(FailedPreconditionError, match="not empty"):
            await _run(source, target, given_up)
        await target.delete("x")
        await target.put(MARKER, b"another")
        with pytest.raises(FailedPreconditionError, match=r"another swarm \(another\) is half-way"):
            await _run(source, target, given_up)
        await target.delete(MARKER)
        await _fill(target, "s2")
        with pytest.raises(FailedPreconditionError, match=r"holds swarm 'swarm' \(s2\)"):
            await _run(source, target, given_up)
        assert given_up == [False]


async def test_a_source_without_a_swarm_is_refused(tmp_path: Path) -> None:
    async with _stores(tmp_path) as (source, target):
        with pytest.raises(FailedPreconditionError, match="no whole swarm"):
            await _run(target, source, [False])


async def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    class Overtaken(Failing):
        async def transact(self, compares: Sequence[Any], then: Sequence[Any]) -> TxnResult:
            result = await self._store.transact(compares, then)
            await self._store.put(MARKER, b"s1")
            return result

    async with _stores(tmp_path) as (source, target):
        given_up = [False]
        with pytest.raises(ConflictError, match="somebody else"):
            await _run(source, Overtaken(target, 0, done=False), given_up)
        assert given_up == [False]


async def test_nothing_is_given_up_for_a_copy_that_is_not_whole(tmp_path: Path) -> None:
    class Forgetful(Failing):
        async def transact(self, compares: Sequence[Any], then: Sequence[Any]) -> TxnResult:
            return await self._store.transact(compares, [one for one in then if one.key != "tokens/t100"])

    async with _stores(tmp_path) as (source, target):
        given_up = [False]
        with pytest.raises(ConflictError, match="1 keys did not arrive"):
            await _run(source, Forgetful(target, 0, done=False), given_up)
        assert given_up == [False]
        assert await target.get(keyspace.SWARM) is None
