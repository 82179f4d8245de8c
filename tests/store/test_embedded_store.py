"""What the embedded store promises beyond the contract: its file, its failures, its memory and its time."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from controlplane.store import feed
from controlplane.store.embedded import EmbeddedStore
from controlplane.store.port import (
    BOOKMARK_INTERVAL_S,
    CompactedError,
    DeletePrefix,
    LeaseNotFoundError,
    Put,
    StoreUnavailableError,
    UncertainError,
    WatchBatch,
)
from controlplane.store.retention import Retention
from controlplane.store.sqlite import queries, writer
from tests.store.harness import PATIENCE_S, EmbeddedHarness, eventually, take, take_from

posix = pytest.mark.skipif(os.name == "nt", reason="Windows keeps rights otherwise")


@pytest.fixture
def embedded(tmp_path: Path) -> EmbeddedHarness:
    return EmbeddedHarness(tmp_path / "controlplane" / "store.db")


@asynccontextmanager
async def held_up(store: EmbeddedStore) -> AsyncIterator[None]:
    """The writer's thread stands still, as on a slow disk."""
    held, release = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        held.set()
        release.wait(PATIENCE_S)

    store._writer._jobs.put(writer._Job(hold, asyncio.get_running_loop().create_future()))
    assert await asyncio.to_thread(held.wait, PATIENCE_S)
    try:
        yield
    finally:
        release.set()


@posix
async def test_only_its_owner_can_read_the_file(embedded: EmbeddedHarness) -> None:
    mask = os.umask(0)
    try:
        async with embedded.open() as store:
            await store.put("a", b"secret")
            for path in embedded.path.parent.iterdir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
            assert stat.S_IMODE(embedded.path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(mask)


@posix
async def test_rights_that_were_too_wide_are_narrowed(embedded: EmbeddedHarness) -> None:
    async with embedded.open() as store:
        await store.put("a", b"")
    embedded.path.chmod(0o644)
    async with embedded.open():
        assert stat.S_IMODE(embedded.path.stat().st_mode) == 0o600


async def test_one_process_can_open_it_once_only(embedded: EmbeddedHarness) -> None:
    async with embedded.open() as store:
        with pytest.raises(StoreUnavailableError, match="one owner"):
            async with embedded.open():
                pass
        await store.put("a", b"still works")
    async with embedded.open() as store:
        assert await store.get("a") is not None


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def _torn(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096 * 3] = b"\xaa" * (4096 * 3)
    path.write_bytes(content)


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs(id)")


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "advice"),
    [
        pytest.param(_garbage, "damaged", id="not-a-database"),
        pytest.param(_torn, "damaged", id="damaged-in-the-middle"),
        pytest.param(_foreign, "not a store of ours", id="somebody-else's-database"),
        pytest.param(_newer, "newer version", id="from-a-newer-version"),
        pytest.param(_directory, "can't be used", id="not-a-file"),
    ],
)
async def test_a_file_that_cannot_be_used_says_what_to_do(
    embedded: EmbeddedHarness, spoil: object, advice: str
) -> None:
    async with embedded.open() as store:
        for number in range(50):
            await store.put(f"k/{number}", bytes(1000))
    assert callable(spoil)
    spoil(embedded.path)
    with pytest.raises(StoreUnavailableError, match=advice) as caught:
        async with embedded.open():
            pass
    assert str(embedded.path) in caught.value.message


async def test_a_foreign_database_is_left_as_it_was(embedded: EmbeddedHarness) -> None:
    embedded.path.parent.mkdir()
    embedded.path.touch()
    _foreign(embedded.path)
    before = embedded.path.read_bytes()
    with pytest.raises(StoreUnavailableError):
        async with embedded.open():
            pass
    assert embedded.path.read_bytes() == before


async def test_a_full_disk_refuses_writes_goes_on_reading_and_recovers(embedded: EmbeddedHarness) -> None:
    async with embedded.open() as store:
        lease = await store.grant(4)
        await store.put("a", b"kept", lease=lease)
        revision = await store.revision()
        database = store._writer._sql
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreUnavailableError, match="full: free some space"):
            await store.put("b", bytes(1_000_000))
        assert await store.revision() == revision
        assert await store.get("b") is None
        assert (await store.range("")).revision == revision
        database.execute("PRAGMA max_page_count = 1000000")
        async with store.watch("") as batches:
            assert await store.put("b", b"now") == revision + 1
            (batch,) = await take(batches, 1)
        assert batch.revision == revision + 1


async def test_ended_leases_are_deleted_once_the_disk_allows_it(embedded: EmbeddedHarness) -> None:
    async with embedded.open() as store:
        lease = await store.grant(4)
        await store.put("a", b"", lease=lease)
        database = store._writer._sql
        database.execute("PRAGMA query_only = ON")
        await embedded.pass_time(6)
        with pytest.raises(StoreUnavailableError, match="can't be read or written"):
            await store.put("b", b"")
        assert await store.get("a") is not None
        assert not await store.keep_alive(lease)
        database.execute("PRAGMA query_only = OFF")

        async def gone() -> bool:
            await embedded.pass_time(1)
            return await store.get("a") is None

        await eventually(gone)


class FailingCommit:
    """A connection whose disk fails at the end of a transaction."""

    def __init__(self, connection: sqlite3.Connection, code: int) -> None:
        self._connection = connection
        self._code = code

    def execute(self, statement: str) -> sqlite3.Cursor:
        if statement == "COMMIT":
            error = sqlite3.OperationalError("it failed")
            error.sqlite_errorcode = self._code
            raise error
        return self._connection.execute(statement)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction


async def test_a_failed_sync_leaves_the_outcome_open_and_stops_all_writes(embedded: EmbeddedHarness) -> None:
    async with embedded.open() as store, store.watch("", start_revision=3) as batches:
        await store.put("a", b"1")
        failing = FailingCommit(store._writer._sql, sqlite3.SQLITE_IOERR_FSYNC)
        store._writer._sql = failing  # type: ignore[assignment]
        with pytest.raises(UncertainError, match="may or may not"):
            await store.put("a", b"2")
        with pytest.raises(StoreUnavailableError, match="restart the control plane"):
            await store.put("a", b"3")
        assert await store.revision() == 2
        found = await store.get("a")
        assert found is not None
        assert found.value == b"1"
        await embedded.pass_time(10)
        assert await anext(batches) == WatchBatch((), 2)


async def test_what_a_full_disk_undid_at_the_commit_was_never_there(embedded: EmbeddedHarness) -> None:
    async with embedded.open() as store, store.watch("") as batches:
        whole = store._writer._sql
        store._writer._sql = FailingCommit(whole, sqlite3.SQLITE_FULL)  # type: ignore[assignment]
        with pytest.raises(StoreUnavailableError, match="full"):
            await store.put("undone", b"")
        store._writer._sql = whole
        assert await store.put("a", b"") == 2
        assert await store.put("b", b"") == 3
        seen = await take(batches, 2)
        assert [(batch.revision, batch.events[0].kv.key) for batch in seen] == [(2, "a"), (3, "b")]


async def test_a_change_that_breaks_does_not_end_the_writer(embedded: EmbeddedHarness) -> None:
    async with embedded.open() as store:
        with pytest.raises(StoreUnavailableError, match="report it"):
            await store._writer.submit(lambda changes: changes.grant(1, 1.0) or 1 / 0)  # type: ignore[func-returns-value]
        assert await store.put("a", b"") == 2
        with pytest.raises(LeaseNotFoundError):
            await store.put("a", b"", lease=1)


async def test_the_loop_runs_while_the_disk_is_slow_and_nobody_sees_what_is_not_durable(
    embedded: EmbeddedHarness,
) -> None:
    async with embedded.open() as store, asyncio.TaskGroup() as group, store.watch("") as batches:
        async with held_up(store):
            writing = group.create_task(store.put("a", b""))
            watching = group.create_task(take(batches, 1))
            for _ in range(100):
                await asyncio.sleep(0)
            assert await store.get("a") is None
            assert await store.revision() == 1
            assert not writing.done()
            assert not watching.done()
        assert await writing == 2
        assert [batch.revision for batch in await watching] == [2]


async def test_a_cancelled_write_may_still_be_made_and_breaks_nothing(embedded: EmbeddedHarness) -> None:
    async with embedded.open() as store:
        async with held_up(store), asyncio.TaskGroup() as group:
            writing = group.create_task(store.put("a", b""))
            await asyncio.sleep(0)
            writing.cancel()
        assert await store.put("b", b"") == 3
        assert await store.get("a") is not None


async def test_writes_wait_for_room_and_are_all_made(
    embedded: EmbeddedHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING", 4)
    async with embedded.open() as store:
        async with asyncio.TaskGroup() as group, held_up(store):
            for number in range(50):
                group.create_task(store.put(f"k/{number}", b""))
            for _ in range(20):
                await asyncio.sleep(0)
            assert store._writer._jobs.qsize() <= 4
        assert await store.revision() == 51


async def test_writes_that_never_get_room_are_refused(
    embedded: EmbeddedHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING", 1)
    monkeypatch.setattr(writer, "_TURN_S", 0.05)
    async with embedded.open() as store, asyncio.TaskGroup() as group, held_up(store):
        group.create_task(store.put("a", b""))
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailableError, match="too many writes waiting"):
            await store.put("b", b"")


async def test_a_write_that_is_not_confirmed_in_time_is_uncertain(
    embedded: EmbeddedHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_COMMIT_S", 0.05)
    async with embedded.open() as store:
        async with held_up(store):
            with pytest.raises(UncertainError):
                await store.put("a", b"")

        async def made() -> bool:
            return await store.get("a") is not None

        await eventually(made)


async def test_closing_finishes_the_writes_under_way(embedded: EmbeddedHarness) -> None:
    async with asyncio.TaskGroup() as group, embedded.open() as store:
        puts = [group.create_task(store.put(f"k/{number}", b"")) for number in range(100)]
        await asyncio.sleep(0)
    assert sorted(one.result() for one in puts) == list(range(2, 102))
    async with embedded.open() as store:
        assert len((await store.range("k/")).items) == 100


async def test_opening_that_is_cancelled_leaves_nothing_open(embedded: EmbeddedHarness) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), embedded.open():
            pass

    async def can_be_opened() -> bool:
        try:
            async with embedded.open():
                return True
        except StoreUnavailableError:
            return False

    await eventually(can_be_opened)


async def test_what_watches_share_in_memory_is_bounded(
    embedded: EmbeddedHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MAX_RECENT", 10)
    monkeypatch.setattr(feed, "MAX_RECENT_BYTES", 50_000)
    async with embedded.open() as store, store.watch("k/") as slow:
        for number in range(40):
            await store.put(f"k/{number}", bytes(100 if number < 20 else 30_000))
            assert len(store._feed._recent) <= 10
            assert store._feed._recent_bytes <= 50_000
            held = (batch for batch, _ in store._feed._recent)
            assert sum(len(event.kv.value) for batch in held for event in batch.events) <= 50_000
        await store.put("k/huge", bytes(100_000))
        assert not store._feed._recent
        seen = await take(slow, 41)
        assert [batch.revision for batch in seen] == list(range(2, 43))
        revision = await store.put("k/after", b"")
        assert [batch.revision for batch in await take(slow, 1)] == [revision]


async def test_history_is_read_in_pages_of_whole_revisions(
    embedded: EmbeddedHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAGE_BYTES", 2_000)
    monkeypatch.setattr(queries, "PAGE_REVISIONS", 7)
    async with embedded.open() as store:
        revisions = []
        for number in range(30):
            puts = [Put(f"k/{number}/{part}", bytes(150)) for part in range(3)]
            revisions.append((await store.transact((), puts)).revision)
            for _ in range(number % 10):
                await store.put("other", b"")
        revision = await store.revision()
    async with embedded.open() as store:
        seen = await take_from(store, "k/", 2, 30)
        assert [batch.revision for batch in seen] == revisions
        assert [len(batch.events) for batch in seen] == [3] * 30
        page = await store._history(b"k/", 2)
        assert len(page.batches) < 7
        async with store.watch("none/", start_revision=2) as batches:
            await embedded.pass_time(10)
            assert await anext(batches) == WatchBatch((), revision)


async def test_cancelled_reads_of_the_history_lose_nothing(
    embedded: EmbeddedHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAGE_REVISIONS", 3)
    async with embedded.open() as store:
        for number in range(30):
            await store.put("k", b"%d" % number)
    async with embedded.open() as store, store.watch("k", start_revision=2) as batches:
        seen: list[int] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(seen) < 30:
                try:
                    async with asyncio.timeout(0):
                        seen.append((await anext(batches)).revision)
                except TimeoutError:
                    seen.append((await anext(batches)).revision)
        assert seen == list(range(2, 32))


async def test_a_watch_that_falls_behind_what_is_kept_is_told_to_list_again(
    embedded: EmbeddedHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MAX_RECENT", 5)
    async with embedded.open() as store, store.watch("k") as slow:
        for number in range(50):
            await store.put("k", b"%d" % number)
        await store.compact(40)
        with pytest.raises(CompactedError) as caught:
            await take(slow, 1)
        assert caught.value.revision == 40


async def test_a_bookmark_does_not_overtake_what_was_not_read_yet(embedded: EmbeddedHarness) -> None:
    async with embedded.open() as store, store.watch("a") as batches:
        revision = await store.put("a", b"")
        await embedded.pass_time(BOOKMARK_INTERVAL_S)
        first = await anext(batches)
        assert (first.revision, len(first.events)) == (revision, 1)
        assert await anext(batches) == WatchBatch((), revision)


async def test_an_idle_watch_keeps_up_with_others_changes(
    embedded: EmbeddedHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MAX_RECENT", 5)
    async with embedded.open() as store, store.watch("quiet") as quiet, asyncio.TaskGroup() as group:
        waiting = group.create_task(take(quiet, 1))
        for number in range(50):
            await store.put("loud", b"%d" % number)
        await store.compact(45)
        revision = await store.put("quiet", b"")
        assert [batch.revision for batch in await waiting] == [revision]


async def test_old_history_is_forgotten_by_itself_and_its_space_given_back(
    embedded: EmbeddedHarness,
) -> None:
    embedded.retention = Retention(min_revisions=10, max_revisions=50, max_age_s=600)
    async with embedded.open() as store:
        for number in range(100):
            await store.put("k", b"%d" % number)
        await store.put("gone", b"")
        await store.delete("gone")
        newest = await store.revision()

        async def forgotten(revision: int) -> bool:
            try:
                await store.range("", revision=revision)
            except CompactedError:
                return True
            return False

        await embedded.pass_time(10)
        await eventually(lambda: forgotten(newest - 51))
        assert not await forgotten(newest - 50)
        await embedded.pass_time(620)
        await eventually(lambda: forgotten(newest - 11))
        assert not await forgotten(newest - 10)

        async def rows() -> bool:
            reads = await store._readers.run(
                lambda connection: connection.execute("SELECT count(*) FROM history").fetchone()[0]
            )
            return bool(reads <= 11)

        await eventually(rows)
        assert len(await take_from(store, "", newest - 10, 11)) == 11


async def test_compaction_leaves_only_what_is_current(embedded: EmbeddedHarness) -> None:
    async with embedded.open() as store:
        for number in range(1_200):
            await store.put(f"k/{number % 3}", b"")
        await store.transact((), [DeletePrefix("k/1")])
        await store.put("last", b"")
        await store.compact(await store.revision())
        for table, wanted in (("history", 3), ("live", 3), ("garbage", 0)):
            (count,) = store._writer._sql.execute(f"SELECT count(*) FROM {table}").fetchone()
            assert (table, count) == (table, wanted)


async def test_suspend_does_not_end_leases_that_nobody_could_renew(embedded: EmbeddedHarness) -> None:
    async with embedded.open() as store:
        lease = await store.grant(10)
        await store.put("k", b"", lease=lease)
        await embedded.pass_time(4)
        await embedded.clock.jump(3600)
        left_s = await store.lease_remaining(lease)
        assert left_s is not None
        assert 5 <= left_s <= 7
        await embedded.pass_time(left_s - 0.5)
        assert await store.get("k") is not None
        assert await store.lease_remaining(lease) is not None
        await embedded.pass_time(1)
        assert await store.lease_remaining(lease) is None


async def test_a_lease_ends_within_a_second_of_its_time(embedded: EmbeddedHarness) -> None:
    async with embedded.open() as store:
        for ttl_s in (0.1, 2.5, 7.0):
            lease = await store.grant(ttl_s)
            await store.put("k", b"", lease=lease)
            async with store.watch("k") as batches:
                await embedded.pass_time(ttl_s - 0.05)
                assert await store.get("k") is not None
                await embedded.pass_time(1.05)
                await take(batches, 1)


async def test_the_store_works_after_a_process_died_while_making_it(embedded: EmbeddedHarness) -> None:
    embedded.path.parent.mkdir()
    embedded.path.touch()
    async with embedded.open() as store:
        assert await store.put("a", b"") == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of the file system's size")
async def test_a_message_at_work_names_the_file_but_not_its_place(embedded: EmbeddedHarness) -> None:
    async with embedded.open() as store:
        store._writer._sql.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreUnavailableError) as caught:
            await store.put("a", b"")
        assert "store.db" in caught.value.message
        assert str(embedded.path.parent) not in caught.value.message
