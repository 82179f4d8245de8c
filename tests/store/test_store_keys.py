"""Conformance: revisions, lists, and what a store refuses. Every kind of store passes it.

Mutants that were tried and killed are listed in ``test_store_model``.
"""

from __future__ import annotations

import asyncio
import math

import pytest

from controlplane.store.port import (
    MAX_KEY_BYTES,
    MAX_OPERATIONS,
    MAX_TRANSACTION_BYTES,
    CompactedError,
    Compare,
    Delete,
    DeletePrefix,
    FutureRevisionError,
    KeyValue,
    LeaseNotFoundError,
    Operation,
    Put,
    Relation,
    absent,
    created,
    modified,
)
from swarmplane.errors import Code, InvalidRequestError
from tests.store.harness import Harness

# In the order of their UTF-8 bytes, which is not that of UTF-16: the last two would change places.
AWKWARD = ["\0", "a", "a\0", "a/", "a/b", "a0", "b", "z\x7f", "ÿ", "ÿÿ", "\uffff", "\U0010ffff"]


async def test_an_empty_store_stands_at_revision_one(harness: Harness) -> None:
    async with harness.open() as store:
        assert await store.revision() == 1
        assert await store.get_with_revision("a") == (None, 1)
        page = await store.range("")
        assert (page.items, page.revision, page.more) == ((), 1, False)


async def test_a_put_raises_the_revision_by_one_and_keeps_when_the_key_was_created(harness: Harness) -> None:
    async with harness.open() as store:
        first = await store.put("a", b"1")
        second = await store.put("a", b"2")
        assert (first, second) == (2, 3)
        assert await store.get("a") == KeyValue("a", b"2", create_revision=2, mod_revision=3)
        assert await store.get_with_revision("a") == (await store.get("a"), 3)


async def test_values_are_any_bytes(harness: Harness) -> None:
    async with harness.open() as store:
        for value in (b"", bytes(range(256)), b"\0" * 1000):
            await store.put("v", value)
            found = await store.get("v")
            assert found is not None
            assert found.value == value


async def test_a_value_as_large_as_a_transaction_allows_comes_back(harness: Harness) -> None:
    value = bytes(range(256)) * ((MAX_TRANSACTION_BYTES - 100) // 256)
    async with harness.open() as store:
        await store.put("large", value)
        found = await store.get("large")
        assert found is not None
        assert found.value == value


async def test_a_deleted_key_is_created_anew(harness: Harness) -> None:
    async with harness.open() as store:
        await store.put("a", b"1")
        assert await store.delete("a")
        assert await store.get("a") is None
        revision = await store.put("a", b"2")
        assert await store.get("a") == KeyValue("a", b"2", create_revision=revision, mod_revision=revision)


async def test_what_changes_nothing_leaves_the_revision(harness: Harness) -> None:
    async with harness.open() as store:
        revision = await store.put("a", b"1")
        assert not await store.delete("b")
        assert (await store.transact((), [Delete("b"), DeletePrefix("c")])).revision == revision
        assert (await store.transact((), [])).revision == revision
        assert (await store.transact([absent("a")], [Put("a", b"2")])).revision == revision
        await store.revoke(await store.grant(10))
        assert await store.revision() == revision


async def test_keys_are_listed_in_byte_order(harness: Harness) -> None:
    async with harness.open() as store:
        for key in reversed(AWKWARD):
            await store.put(key, key.encode())
        page = await store.range("")
        assert [kv.key for kv in page.items] == AWKWARD
        assert [kv.value for kv in page.items] == [key.encode() for key in AWKWARD]
        assert not page.more


@pytest.mark.parametrize("prefix", [*AWKWARD, "", "a/b/c", "c"])
async def test_a_prefix_takes_all_that_start_with_it_and_no_more(harness: Harness, prefix: str) -> None:
    async with harness.open() as store:
        await store.transact((), [Put(key, b"") for key in AWKWARD])
        wanted = [key for key in AWKWARD if key.startswith(prefix)]
        assert [kv.key for kv in (await store.range(prefix)).items] == wanted
        await store.transact((), [DeletePrefix(prefix)])
        left = [key for key in AWKWARD if not key.startswith(prefix)]
        assert [kv.key for kv in (await store.range("")).items] == left


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7])
async def test_pages_of_a_list_make_up_the_list_although_it_changes(harness: Harness, limit: int) -> None:
    async with harness.open() as store:
        keys = [f"k/{number}" for number in range(6)]
        await store.transact((), [Put(key, b"") for key in [*keys, "j", "l"]])
        page = await store.range("k/", limit=limit)
        revision, seen, pages = page.revision, list(page.items), 1
        while page.more:
            assert len(page.items) == limit
            await store.transact((), [Put("k/0", b"new"), Put("k/9", b"new"), Delete("k/5")])
            page = await store.range("k/", start_after=seen[-1].key, limit=limit, revision=revision)
            assert page.revision == revision
            seen += page.items
            pages += 1
        assert [(kv.key, kv.value) for kv in seen] == [(key, b"") for key in keys]
        assert pages == math.ceil(len(keys) / limit)


async def test_a_list_may_start_before_its_prefix(harness: Harness) -> None:
    async with harness.open() as store:
        await store.transact((), [Put(key, b"") for key in ("a", "b/1", "b/2", "c")])
        assert [kv.key for kv in (await store.range("b/", start_after="a")).items] == ["b/1", "b/2"]
        assert (await store.range("b/", start_after="c")).items == ()


async def test_the_past_can_be_read(harness: Harness) -> None:
    async with harness.open() as store:
        first = await store.put("a", b"1")
        second = await store.put("b", b"1")
        third = (await store.transact((), [Put("a", b"2"), Delete("b")])).revision
        wanted = {
            1: [],
            first: [("a", b"1")],
            second: [("a", b"1"), ("b", b"1")],
            third: [("a", b"2")],
        }
        for revision, items in wanted.items():
            page = await store.range("", revision=revision)
            assert [(kv.key, kv.value) for kv in page.items] == items
            assert page.revision == revision


async def test_the_future_cannot_be_read(harness: Harness) -> None:
    async with harness.open() as store:
        with pytest.raises(FutureRevisionError):
            await store.range("", revision=2)
        with pytest.raises(FutureRevisionError):
            await store.compact(2)


async def test_compaction_forgets_what_was_before(harness: Harness) -> None:
    async with harness.open() as store:
        await store.put("gone", b"1")
        first = await store.put("a", b"1")
        second = (await store.transact((), [Put("a", b"2"), Delete("gone")])).revision
        third = await store.put("b", b"3")
        await store.compact(second)
        with pytest.raises(CompactedError) as caught:
            await store.range("", revision=first)
        assert caught.value.revision == second
        assert caught.value.code is Code.COMPACTED
        kept = await store.range("", revision=second)
        assert [(kv.key, kv.value, kv.create_revision) for kv in kept.items] == [("a", b"2", first)]
        for again in (second, first):
            with pytest.raises(CompactedError):
                await store.compact(again)
        await store.compact(third)
        assert [kv.key for kv in (await store.range("")).items] == ["a", "b"]


async def test_compare_and_swap_succeeds_on_what_was_read_and_else_reads_what_is_there(
    harness: Harness,
) -> None:
    async with harness.open() as store:
        revision = await store.put("a", b"1")
        won = await store.transact([modified("a", revision)], [Put("a", b"2")], otherwise=["a"])
        assert (won.succeeded, won.revision, won.reads) == (True, revision + 1, ())
        lost = await store.transact([modified("a", revision)], [Put("a", b"3")], otherwise=["b", "a"])
        assert (lost.succeeded, lost.revision) == (False, revision + 1)
        assert lost.reads == (None, KeyValue("a", b"2", revision, revision + 1))


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        pytest.param(absent("none"), True, id="absent-of-an-absent-key"),
        pytest.param(absent("twice"), False, id="absent-of-a-key-that-is-there"),
        pytest.param(created("twice", 2), True, id="created-then"),
        pytest.param(created("twice", 3), False, id="created-is-not-modified"),
        pytest.param(modified("twice", 3), True, id="modified-then"),
        pytest.param(modified("twice", 2), False, id="modified-is-not-created"),
        pytest.param(modified("none", 0), True, id="an-absent-key-has-revision-0"),
        pytest.param(modified("twice", 2, Relation.GREATER), True, id="modified-after"),
        pytest.param(modified("twice", 3, Relation.GREATER), False, id="not-modified-after"),
        pytest.param(created("twice", 3, Relation.LESS), True, id="created-before"),
        pytest.param(created("twice", 2, Relation.LESS), False, id="not-created-before"),
        pytest.param(created("none", 1, Relation.LESS), True, id="an-absent-key-is-less"),
    ],
)
async def test_compares(harness: Harness, compare: Compare, *, holds: bool) -> None:
    async with harness.open() as store:
        await store.put("twice", b"1")
        await store.put("twice", b"2")
        assert (await store.transact([compare], [])).succeeded is holds
        both = await store.transact([created("twice", 2), compare], [])
        assert both.succeeded is holds


async def test_of_many_who_create_a_key_one_wins_and_the_others_read_its_value(harness: Harness) -> None:
    async with harness.open() as store:
        async with asyncio.TaskGroup() as group:
            tries = [
                group.create_task(
                    store.transact([absent("lock")], [Put("lock", b"%d" % number)], otherwise=["lock"])
                )
                for number in range(20)
            ]
        results = [one.result() for one in tries]
        (winner,) = [number for number, result in enumerate(results) if result.succeeded]
        for result in results:
            if not result.succeeded:
                (read,) = result.reads
                assert read is not None
                assert read.value == b"%d" % winner


async def test_concurrent_increments_by_compare_and_swap_lose_nothing(harness: Harness) -> None:
    async with harness.open() as store:
        await store.put("n", b"0")

        async def increment() -> None:
            for _ in range(5):
                while True:
                    kv = await store.get("n")
                    assert kv is not None
                    step = Put("n", b"%d" % (int(kv.value) + 1))
                    if (await store.transact([modified("n", kv.mod_revision)], [step])).succeeded:
                        break

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(increment())
        found = await store.get("n")
        assert found is not None
        assert (found.value, await store.revision()) == (b"40", 42)


async def test_concurrent_writers_each_get_a_revision_of_their_own(harness: Harness) -> None:
    async with harness.open() as store:
        async with asyncio.TaskGroup() as group:
            puts = [group.create_task(store.put(f"k{number % 7}", b"")) for number in range(300)]
        assert sorted(one.result() for one in puts) == list(range(2, 302))


async def test_an_acknowledged_write_is_in_every_later_read(harness: Harness) -> None:
    async with harness.open() as store:
        for number in range(50):
            revision = await store.put("a", b"%d" % number)
            found, at = await store.get_with_revision("a")
            assert found is not None
            assert (found.value, found.mod_revision) == (b"%d" % number, revision)
            assert at == revision == (await store.range("a")).revision == await store.revision()


async def test_a_transaction_makes_one_revision_or_nothing(harness: Harness) -> None:
    async with harness.open() as store:
        await store.put("old/1", b"")
        await store.put("old/2", b"")
        result = await store.transact((), [Put("new/1", b""), Put("new/2", b""), DeletePrefix("old/")])
        page = await store.range("")
        assert [(kv.key, kv.mod_revision) for kv in page.items] == [
            ("new/1", result.revision),
            ("new/2", result.revision),
        ]
        with pytest.raises(LeaseNotFoundError):
            await store.transact((), [Put("new/1", b"changed"), Put("new/3", b"", lease=4711)])
        assert await store.range("") == page


@pytest.mark.parametrize(
    "then",
    [
        pytest.param([Put("a", b"1"), Put("a", b"2")], id="put-twice"),
        pytest.param([Put("a", b"1"), Delete("a")], id="put-then-deleted"),
        pytest.param([Delete("a"), Put("a", b"1")], id="deleted-then-put"),
        pytest.param([DeletePrefix("a"), Put("a/b", b"1")], id="put-under-a-deleted-prefix"),
        pytest.param([Put("a/b", b"1"), DeletePrefix("")], id="put-while-all-is-deleted"),
    ],
)
async def test_a_transaction_that_changes_a_key_twice_is_refused(
    harness: Harness, then: list[Operation]
) -> None:
    async with harness.open() as store:
        with pytest.raises(InvalidRequestError):
            await store.transact((), then)
        assert await store.revision() == 1


async def test_deletes_of_a_transaction_may_overlap(harness: Harness) -> None:
    async with harness.open() as store:
        await store.transact((), [Put("a/1", b""), Put("a/2", b"")])
        await store.transact((), [Delete("a/1"), DeletePrefix("a/"), Delete("a/1"), DeletePrefix("a/2")])
        assert (await store.range("")).items == ()
        assert await store.revision() == 3


async def test_the_limits_are_refused_just_beyond_and_taken_just_within(harness: Harness) -> None:
    async with harness.open() as store:
        await store.put("k" * MAX_KEY_BYTES, b"")
        await store.transact(
            [absent(f"c{number}") for number in range(MAX_OPERATIONS)],
            [Put(f"p{number}", b"") for number in range(MAX_OPERATIONS)],
        )
        revision = await store.revision()
        too_much = [
            store.put("k" * (MAX_KEY_BYTES + 1), b""),
            store.put("é" * (MAX_KEY_BYTES // 2) + "x", b""),
            store.put("k", bytes(MAX_TRANSACTION_BYTES)),
            store.transact((), [Put(f"k{number}", bytes(400_000)) for number in range(4)]),
            store.transact((), [Delete(f"k{number}") for number in range(MAX_OPERATIONS + 1)]),
            store.transact([absent(f"k{number}") for number in range(MAX_OPERATIONS + 1)], []),
            store.transact((), [], otherwise=["k"] * (MAX_OPERATIONS + 1)),
        ]
        for call in too_much:
            with pytest.raises(InvalidRequestError) as caught:
                await call
            assert caught.value.code is Code.REQUEST_TOO_LARGE
        assert await store.revision() == revision


async def test_impossible_keys_are_refused(harness: Harness) -> None:
    async with harness.open() as store:
        for call in (
            store.put("", b""),
            store.get(""),
            store.delete(""),
            store.put("\ud800", b""),
            store.range("\ud800"),
            store.transact([absent("")], []),
            store.transact([], [], otherwise=[""]),
        ):
            with pytest.raises(InvalidRequestError):
                await call


async def test_a_leader_that_lost_its_key_can_write_no_more(harness: Harness) -> None:
    async with harness.open() as store:
        lease = await store.grant(60)
        won = await store.transact([absent("leader")], [Put("leader", b"A", lease)])
        fence = [created("leader", won.revision)]
        assert (await store.transact(fence, [Put("data", b"1")])).succeeded
        await store.revoke(lease)
        assert (await store.transact([absent("leader")], [Put("leader", b"B")])).succeeded
        assert not (await store.transact(fence, [Put("data", b"2")])).succeeded
        found = await store.get("data")
        assert found is not None
        assert found.value == b"1"


async def test_everything_is_there_after_reopening(harness: Harness) -> None:
    async with harness.open() as store:
        revision = await store.put("a", b"1")
        await store.put("b", b"2")
        await store.delete("b")
        await store.compact(revision)
        before = await store.range("")
    async with harness.open() as store:
        assert await store.range("") == before
        assert await store.put("c", b"") == before.revision + 1
        with pytest.raises(CompactedError):
            await store.range("", revision=revision - 1)
        assert [kv.key for kv in (await store.range("", revision=revision + 1)).items] == ["a", "b"]
