from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.routing.disk import TableKeeper, load_table, save_table
from swarmplane.clock import SystemClock
from swarmplane.ids import SwarmId
from swarmplane.routes import RouteTable, Version

SWARM = SwarmId("s")


def encode(table: RouteTable) -> bytes:
    return f"{table.swarm} {table.version}".encode()


def decode(content: bytes) -> RouteTable:
    swarm, _, version = content.decode().partition(" ")
    generation, _, revision = version.partition(".")
    return RouteTable(SwarmId(swarm), Version(int(generation), int(revision)))


TABLE = RouteTable(SWARM, Version(1, 7))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "table" / "routes.bin"
    assert load_table(path, decode, swarm=SWARM) is None
    save_table(path, encode, TABLE)
    assert load_table(path, decode, swarm=SWARM) == TABLE
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_table(path, decode, swarm=SwarmId("other")) is None


@given(st.data())
def test_no_damage_is_taken_for_a_table(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("table") / "routes.bin"
    save_table(path, encode, TABLE)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "more"]))
    if kind == "cut":
        path.write_bytes(whole[:at])
    elif kind == "flip":
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    else:
        path.write_bytes(whole + b"x")
    assert load_table(path, decode, swarm=SWARM) is None


def test_a_table_that_this_version_cannot_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "routes.bin"
    save_table(path, lambda _: b"from tomorrow", TABLE)
    assert load_table(path, decode, swarm=SWARM) is None
    path.unlink()
    path.mkdir()
    assert load_table(path, decode, swarm=SWARM) is None


async def test_the_newest_table_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "routes.bin"
    keeper = TableKeeper(path, encode, SystemClock())
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(keeper.run())
        for revision in range(5):
            keeper.keep(RouteTable(SWARM, Version(1, revision)))
        while load_table(path, decode, swarm=SWARM) != RouteTable(SWARM, Version(1, 4)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        running.cancel()
    await keeper.keep_durably(TABLE)
    assert load_table(path, decode, swarm=SWARM) == TABLE
    keeper.keep(RouteTable(SWARM, Version(1, 8)))
    await keeper.flush()
    assert load_table(path, decode, swarm=SWARM) == RouteTable(SWARM, Version(1, 8))
    await keeper.flush()


async def test_a_durable_write_that_fails_is_told(tmp_path: Path) -> None:
    blocker = tmp_path / "table"
    blocker.write_text("a file where a directory should be")
    keeper = TableKeeper(blocker / "routes.bin", encode, SystemClock())
    with pytest.raises(OSError, match="table"):
        await keeper.keep_durably(TABLE)
    blocker.unlink()
    await keeper.flush()
    assert load_table(blocker / "routes.bin", decode, swarm=SWARM) == TABLE, "and tried again"


async def test_what_is_not_on_disk_is_told_until_it_is(tmp_path: Path) -> None:
    """Kills: a later table that is not written yet, or not either, ends it."""
    blocker = tmp_path / "table"
    blocker.write_text("a file where a directory should be")
    keeper = TableKeeper(blocker / "routes.bin", encode, SystemClock())
    assert not keeper.trouble
    with contextlib.suppress(OSError):
        await keeper.keep_durably(TABLE)
    assert keeper.trouble
    keeper.keep(RouteTable(SWARM, Version(1, 8)))
    assert keeper.trouble
    await keeper.flush()
    assert keeper.trouble
    blocker.unlink()
    await keeper.flush()
    assert not keeper.trouble
    (blocker / "routes.bin").unlink()
    (blocker / "routes.bin").mkdir()
    with contextlib.suppress(OSError):
        await keeper.keep_durably(TABLE)
    assert keeper.trouble
    (blocker / "routes.bin").rmdir()
    await keeper.keep_durably(TABLE)
    assert not keeper.trouble


async def test_what_could_not_be_written_is_never_put_over_a_later_durable_one(tmp_path: Path) -> None:
    blocker = tmp_path / "table"
    blocker.write_text("a file where a directory should be")
    begun, freed = threading.Event(), threading.Event()

    def slowly(table: RouteTable) -> bytes:
        if table is not TABLE:
            begun.set()
            assert freed.wait(20)
        return encode(table)

    keeper = TableKeeper(blocker / "routes.bin", slowly, SystemClock())

    async def durably() -> None:
        with contextlib.suppress(OSError):  # it may find the disk full, too
            await keeper.keep_durably(TABLE)

    keeper.keep(RouteTable(SWARM, Version(1, 1)))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(keeper.flush())
        await asyncio.to_thread(begun.wait, 20)
        group.create_task(durably())
        await asyncio.sleep(0)
        freed.set()
        while not keeper.trouble:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        blocker.unlink()
    await keeper.flush()
    assert load_table(blocker / "routes.bin", decode, swarm=SWARM) == TABLE


async def test_a_full_disk_is_told_and_tried_again(tmp_path: Path) -> None:
    blocker = tmp_path / "table"
    blocker.write_text("a file where a directory should be")
    keeper = TableKeeper(blocker / "routes.bin", encode, SystemClock())
    keeper.keep(TABLE)
    await keeper.flush()
    assert keeper.trouble
    blocker.unlink()
    await keeper.flush()
    assert not keeper.trouble
    assert load_table(blocker / "routes.bin", decode, swarm=SWARM) == TABLE
