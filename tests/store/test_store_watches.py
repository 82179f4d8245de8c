"""Conformance: what watches see. Every kind of store passes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from controlplane.store.port import (
    BOOKMARK_INTERVAL_S,
    CompactedError,
    Delete,
    DeletePrefix,
    Event,
    EventKind,
    KeyValue,
    Put,
    StoreUnavailableError,
    WatchBatch,
)
from tests.store.harness import PATIENCE_S, Harness, brief, deletion, put, take, take_from


async def test_a_watch_sees_every_change_from_entering_on_in_order(harness: Harness) -> None:
    async with harness.open() as store:
        await store.put("k/0", b"before")
        async with store.watch("k/") as batches:
            revisions = [await store.put(f"k/{number % 3}", b"%d" % number) for number in range(5)]
            await store.put("other", b"")
            assert await store.delete("k/1")
            seen = await take(batches, 6)
        assert [batch.revision for batch in seen] == [*revisions, revisions[-1] + 2]
        assert [[brief(event) for event in batch.events] for batch in seen] == [
            *([put(f"k/{number % 3}", b"%d" % number)] for number in range(5)),
            [deletion("k/1")],
        ]


async def test_events_carry_what_is_there_and_what_was(harness: Harness) -> None:
    async with harness.open() as store, store.watch("") as batches:
        lease = await store.grant(60)
        await store.put("a", b"1", lease=lease)
        await store.put("a", b"2")
        await store.delete("a")
        first = KeyValue("a", b"1", 2, 2, lease)
        second = KeyValue("a", b"2", 2, 3)
        wanted = [
            WatchBatch((Event(EventKind.PUT, first, None),), 2),
            WatchBatch((Event(EventKind.PUT, second, first),), 3),
            WatchBatch((Event(EventKind.DELETE, KeyValue("a", b"", 0, 4), second),), 4),
        ]
        assert await take(batches, 3) == wanted
        assert await take_from(store, "", 2, 3) == wanted


async def test_all_changes_of_a_transaction_come_in_one_batch_in_their_order(harness: Harness) -> None:
    async with harness.open() as store:
        await store.transact((), [Put("k/old/2", b""), Put("k/old/1", b""), Put("x", b"")])
        async with store.watch("k/") as batches:
            result = await store.transact(
                (),
                [Put("k/b", b"1"), Put("x", b""), DeletePrefix("k/old/"), Put("k/a", b"2"), Delete("none")],
            )
            (batch,) = await take(batches, 1)
        assert batch.revision == result.revision
        assert [brief(event) for event in batch.events] == [
            put("k/b", b"1"),
            deletion("k/old/1"),
            deletion("k/old/2"),
            put("k/a", b"2"),
        ]


async def test_a_hundred_keys_of_one_transaction_are_one_batch_live_and_from_the_past(
    harness: Harness,
) -> None:
    async with harness.open() as store:
        async with store.watch("k/") as batches:
            result = await store.transact((), [Put(f"k/{number:03}", b"") for number in range(100)])
            (live,) = await take(batches, 1)
        (past,) = await take_from(store, "k/", result.revision, 1)
        assert past == live
        assert len(live.events) == 100


async def test_a_watch_starts_in_the_past_and_goes_on_live(harness: Harness) -> None:
    async with harness.open() as store:
        revisions = [await store.put(f"k/{number}", b"") for number in range(10)]
        async with store.watch("k/", start_revision=revisions[4]) as batches:
            seen = await take(batches, 2)
            revisions += [await store.put("k/new", b"1"), await store.put("k/new", b"2")]
            seen += await take(batches, 6)
        assert [batch.revision for batch in seen] == revisions[4:]


async def test_a_watch_may_start_in_the_future(harness: Harness) -> None:
    async with harness.open() as store, store.watch("", start_revision=5) as batches:
        for number in range(2, 8):
            assert await store.put("a", b"%d" % number) == number
        assert [batch.revision for batch in await take(batches, 3)] == [5, 6, 7]


async def test_nothing_is_missed_or_repeated_between_a_list_and_its_watch(harness: Harness) -> None:
    async with harness.open() as store:
        await store.put("n", b"0")
        stop = asyncio.Event()

        async def count() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                await store.put("n", b"%d" % number)

        async with asyncio.TaskGroup() as group:
            group.create_task(count())
            for _ in range(5):
                page = await store.range("n")
                last = int(page.items[0].value)
                seen = await take_from(store, "n", page.revision + 1, 20)
                assert [int(batch.events[0].kv.value) for batch in seen] == list(range(last + 1, last + 21))
            stop.set()


async def test_a_slow_watch_loses_nothing(harness: Harness) -> None:
    rounds, at_once = 30, 100
    async with harness.open() as store, store.watch("k/") as slow, store.watch("k/") as quick:

        async def write() -> None:
            for _ in range(rounds):
                async with asyncio.TaskGroup() as group:
                    for number in range(at_once):
                        group.create_task(store.put(f"k/{number}", bytes(200)))

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            first = await take(quick, rounds * at_once)
        late = await take(slow, rounds * at_once)
        assert [batch.revision for batch in late] == list(range(2, 2 + rounds * at_once))
        assert late == first


async def test_every_watch_sees_only_its_prefix(harness: Harness) -> None:
    prefixes = ["", "a", "a/", "b", "é"]
    keys = ["a", "a/", "a/1", "a0", "b/1", "é", "z"]
    async with harness.open() as store:
        await store.transact((), [Put(key, b"") for key in keys])
        for key in keys:
            await store.put(key, b"x")
        for prefix in prefixes:
            wanted = [key for key in keys if key.startswith(prefix)]
            both, *single = await take_from(store, prefix, 2, 1 + len(wanted))
            assert [event.kv.key for event in both.events] == wanted
            assert [event.kv.key for batch in single for event in batch.events] == wanted


async def test_a_watch_from_before_compaction_is_told_to_list_again(harness: Harness) -> None:
    async with harness.open() as store:
        first = await store.put("a", b"1")
        second = await store.put("a", b"2")
        third = await store.put("a", b"3")
        await store.compact(third)
        for forgotten in (first, second):
            with pytest.raises(CompactedError):
                await take_from(store, "a", forgotten, 1)
        fourth = await store.put("a", b"4")
        kept = await take_from(store, "a", *((third, 2) if harness.watches_the_compacted else (fourth, 1)))
        assert [brief(event) for batch in kept for event in batch.events][-1] == put("a", b"4")
        if harness.watches_the_compacted:
            assert [brief(event) for event in kept[0].events] == [put("a", b"3")]


async def test_a_deletion_at_the_compacted_revision_is_still_seen(harness: Harness) -> None:
    async with harness.open() as store:
        await store.put("a", b"1")
        await store.delete("a")
        revision = await store.revision()
        await store.compact(revision)
    async with harness.open() as store:
        if not harness.watches_the_compacted:
            # Rather told to list again than left without it.
            with pytest.raises(CompactedError) as caught:
                await take_from(store, "", revision, 1)
            assert caught.value.revision == revision + 1
            return
        (batch,) = await take_from(store, "", revision, 1)
        assert [brief(event) for event in batch.events] == [deletion("a")]


async def test_a_watch_resumes_after_reopening(harness: Harness) -> None:
    async with harness.open() as store, store.watch("k/") as batches:
        revisions = [await store.put("k/1", b"1")]
        (seen,) = await take(batches, 1)
    async with harness.open() as store:
        revisions += [await store.put("k/1", b"2"), await store.put("k/1", b"3")]
        async with store.watch("k/", start_revision=seen.revision + 1) as batches:
            revisions.append(await store.put("k/1", b"4"))
            resumed = await take(batches, 3)
    assert [seen.revision, *(batch.revision for batch in resumed)] == revisions


async def bookmark_of(batches: AsyncIterator[WatchBatch], revision: int) -> WatchBatch:
    """The next bookmark that has come so far; one from before may be under way."""
    while (batch := await anext(batches)).revision < revision:
        assert not batch.events
    return batch


async def test_a_quiet_watch_sends_bookmarks_with_the_revision_it_has_reached(harness: Harness) -> None:
    async with harness.open() as store, store.watch("quiet/") as batches:
        await store.put("quiet/1", b"")
        await take(batches, 1)
        revision = await store.put("loud/1", b"")
        for _ in range(2):
            async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
                passing = group.create_task(harness.pass_time(BOOKMARK_INTERVAL_S))
                assert await bookmark_of(batches, revision) == WatchBatch((), revision)
                passing.cancel()


async def test_a_cancelled_wait_for_the_next_batch_loses_nothing(harness: Harness) -> None:
    async with harness.open() as store, store.watch("k/") as batches:
        for number in range(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await anext(batches)
            revisions = [await store.put("k/1", b"%d" % number), await store.put("k/2", b"")]
            assert [batch.revision for batch in await take(batches, 2)] == revisions


async def test_closing_ends_watches_with_an_error_and_refuses_everything_else(harness: Harness) -> None:
    ended: list[BaseException] = []

    async with asyncio.TaskGroup() as group, harness.open() as store:
        watching = asyncio.Semaphore(0)

        async def watch() -> None:
            async with store.watch("") as batches:
                watching.release()
                try:
                    await take(batches, 1)
                except StoreUnavailableError as error:
                    ended.append(error)

        for _ in range(3):
            group.create_task(watch())
        for _ in range(3):
            await watching.acquire()
    assert len(ended) == 3
    for call in (store.get("a"), store.put("a", b""), store.revision(), store.grant(1), store.keep_alive(1)):
        with pytest.raises(StoreUnavailableError):
            await call


async def test_what_the_body_raises_comes_out_as_it_is(harness: Harness) -> None:
    class BodyError(Exception):
        pass

    with pytest.raises(BodyError):
        async with harness.open() as store, store.watch(""):
            raise BodyError
    async with harness.open() as store:
        assert await store.revision() == 1


async def test_a_watch_that_was_left_is_over(harness: Harness) -> None:
    async with harness.open() as store:
        async with store.watch("") as batches:
            pass
        await store.put("a", b"")
        with pytest.raises(StopAsyncIteration):
            await anext(batches)
