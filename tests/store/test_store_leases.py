"""Conformance: leases. Every kind of store passes it."""

from __future__ import annotations

import math

import pytest

from controlplane.store.port import DeletePrefix, LeaseNotFoundError, Put, Store, modified
from swarmplane.errors import Code, InvalidRequestError
from tests.store.harness import Harness, brief, deletion, eventually, take


async def wait_until_gone(store: Store, key: str) -> None:
    async def gone() -> bool:
        return await store.get(key) is None

    await eventually(gone)


async def test_keys_go_with_their_lease_in_one_revision_and_others_stay(harness: Harness) -> None:
    async with harness.open() as store:
        lease = await store.grant(harness.ttl_s)
        await store.transact((), [Put(key, b"1", lease) for key in ("k/b", "k/a", "other")])
        await store.put("k/free", b"1")
        revision = await store.revision()
        async with store.watch("k/") as batches:
            await harness.pass_time(harness.ttl_s + 1)
            (batch,) = await take(batches, 1)
        assert sorted(brief(event) for event in batch.events) == [deletion("k/a"), deletion("k/b")]
        assert batch.revision == await store.revision() == revision + 1
        assert [kv.key for kv in (await store.range("")).items] == ["k/free"]


async def test_a_lease_never_ends_early(harness: Harness) -> None:
    async with harness.open() as store:
        lease = await store.grant(harness.ttl_s)
        await store.put("k", b"", lease=lease)
        await harness.pass_time(harness.ttl_s * 0.75)
        assert await store.get("k") is not None
        left_s = await store.lease_remaining(lease)
        assert left_s is not None
        assert 0 < left_s <= harness.ttl_s + 1


async def test_keeping_a_lease_alive_gives_it_its_full_time_again(harness: Harness) -> None:
    async with harness.open() as store:
        lease = await store.grant(harness.ttl_s)
        await store.put("k", b"", lease=lease)
        for _ in range(4):
            await harness.pass_time(harness.ttl_s * 0.6)
            assert await store.keep_alive(lease)
        assert await store.get("k") is not None
        await harness.pass_time(harness.ttl_s + 1)
        await wait_until_gone(store, "k")


async def test_a_lease_that_ended_never_comes_back(harness: Harness) -> None:
    async with harness.open() as store:
        ended, revoked = await store.grant(harness.ttl_s), await store.grant(60)
        await store.put("k", b"", lease=ended)
        await harness.pass_time(harness.ttl_s + 1)
        await wait_until_gone(store, "k")
        await store.revoke(revoked)
        for lease in (ended, revoked, 4711):
            assert not await store.keep_alive(lease)
            assert await store.lease_remaining(lease) is None
            with pytest.raises(LeaseNotFoundError) as caught:
                await store.put("k", b"", lease=lease)
            assert caught.value.code is Code.NOT_FOUND
            with pytest.raises(LeaseNotFoundError):
                await store.revoke(lease)
        assert await store.get("k") is None


async def test_revoking_deletes_all_keys_in_one_revision(harness: Harness) -> None:
    async with harness.open() as store:
        lease = await store.grant(60)
        await store.transact((), [Put(f"k/{number}", b"", lease) for number in range(100)])
        await store.transact((), [Put(f"k/{number}", b"", lease) for number in range(100, 200)])
        revision = await store.revision()
        async with store.watch("k/") as batches:
            await store.revoke(lease)
            (batch,) = await take(batches, 1)
        assert len(batch.events) == 200
        assert await store.revision() == revision + 1
        assert (await store.range("k/")).items == ()


async def test_putting_a_key_again_moves_it_to_another_lease_or_off_any(harness: Harness) -> None:
    async with harness.open() as store:
        first, second = await store.grant(60), await store.grant(60)
        for key in ("moved", "freed", "kept", "caught"):
            await store.put(key, b"1", lease=0 if key == "caught" else first)
        await store.put("moved", b"2", lease=second)
        await store.put("freed", b"2")
        await store.put("caught", b"2", lease=first)
        moved = await store.get("moved")
        assert moved is not None
        assert moved.lease == second
        await store.revoke(first)
        assert [kv.key for kv in (await store.range("")).items] == ["freed", "moved"]
        await store.revoke(second)
        assert [kv.key for kv in (await store.range("")).items] == ["freed"]


async def test_a_deleted_key_leaves_its_lease(harness: Harness) -> None:
    async with harness.open() as store:
        lease = await store.grant(60)
        await store.put("a", b"", lease=lease)
        await store.transact((), [DeletePrefix("a")])
        await store.put("a", b"free")
        revision = await store.revision()
        await store.revoke(lease)
        assert await store.get("a") is not None
        assert await store.revision() == revision


async def test_a_lease_is_not_asked_for_when_the_compares_fail(harness: Harness) -> None:
    async with harness.open() as store:
        assert not (await store.transact([modified("a", 7)], [Put("a", b"", 4711)])).succeeded


async def test_leases_and_their_keys_are_durable_and_get_their_full_time_again(harness: Harness) -> None:
    async with harness.open() as store:
        lease = await store.grant(harness.ttl_s)
        await store.put("k", b"", lease=lease)
        await harness.pass_time(harness.ttl_s * 0.75)
    await harness.restart()
    async with harness.open() as store:
        kept = await store.get("k")
        assert kept is not None
        assert kept.lease == lease
        left_s = await store.lease_remaining(lease)
        assert left_s is not None
        assert left_s > harness.ttl_s / 2
        assert await store.keep_alive(lease)
        await harness.pass_time(harness.ttl_s + 1)
        await wait_until_gone(store, "k")


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, math.nan, math.inf, 1e12])
async def test_impossible_times_are_refused(harness: Harness, ttl_s: float) -> None:
    async with harness.open() as store:
        with pytest.raises(InvalidRequestError):
            await store.grant(ttl_s)


async def test_many_leases_end_at_once_and_one_that_was_kept_stays(harness: Harness) -> None:
    async with harness.open() as store:
        leases = [await store.grant(harness.ttl_s) for _ in range(30)]
        for number, lease in enumerate(leases):
            await store.put(f"k/{number:02}", b"", lease=lease)
        await harness.pass_time(harness.ttl_s * 0.75)
        assert await store.keep_alive(leases[7])
        await harness.pass_time(harness.ttl_s * 0.5)

        async def one_left() -> bool:
            return [kv.key for kv in (await store.range("k/")).items] == ["k/07"]

        await eventually(one_left)
        assert await store.lease_remaining(leases[7]) is not None
