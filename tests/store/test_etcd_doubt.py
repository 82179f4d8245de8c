"""Writes to etcd whose answer is lost: done once or not at all, and the caller learns which."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from controlplane.store.etcd import endpoint
from controlplane.store.etcd.access import EtcdAccess, EtcdTiming
from controlplane.store.etcd.store import EtcdStore
from controlplane.store.port import (
    Delete,
    DeletePrefix,
    LeaseNotFoundError,
    Put,
    StoreUnavailableError,
    UncertainError,
    absent,
    modified,
)
from swarmplane.errors import UnavailableError
from tests.store.etcd_harness import UNHURRIED, SharedEtcd
from tests.store.harness import eventually
from tests.store.swallowing_proxy import Proxy, proxied

WITHOUT_PINGS = (("grpc.use_local_subchannel_pool", 1),)
"""gRPC's own pings would notice silence too, but later."""


@dataclass
class Lossy:
    """A store whose first member is behind a proxy, and the same store seen directly."""

    store: EtcdStore
    proxy: Proxy
    direct: EtcdStore

    def begin_at_the_proxy(self) -> None:
        endpoints = self.store._client.endpoints
        endpoints._index = next(
            index for index, one in enumerate(endpoints.all) if one.address.port == self.proxy.port
        )


@asynccontextmanager
async def lossy(shared: SharedEtcd, *, alone: bool = False, give_up_s: float = 15.0) -> AsyncIterator[Lossy]:
    prefix = shared.prefix()
    port = shared.etcd.members[0].port
    async with proxied(port) as proxy:
        endpoints = [proxy.endpoint] if alone else [proxy.endpoint, f"127.0.0.1:{port}"]
        timing = EtcdTiming(attempt_s=0.5, give_up_s=give_up_s)
        async with (
            EtcdStore.open(EtcdAccess.of(endpoints, prefix=prefix), timing=timing) as store,
            EtcdStore.open(EtcdAccess.of(shared.etcd.endpoints, prefix=prefix), timing=UNHURRIED) as direct,
        ):
            one = Lossy(store, proxy, direct)
            one.begin_at_the_proxy()
            # So that the connection stands and its marker is known.
            await store.put("warm", b"up")
            one.begin_at_the_proxy()
            yield one


async def kept(proxy: Proxy) -> None:
    """Wait until a request is on its way and waits at ``proxy``, whole."""

    async def there() -> bool:
        return proxy.kept > 0

    await eventually(there)
    await asyncio.sleep(0.1)


async def test_a_write_that_was_done_is_known_to_be_done(single_etcd: SharedEtcd) -> None:
    async with lossy(single_etcd) as one, one.direct.watch("") as batches:
        one.proxy.swallow_answers()
        revision = await one.store.put("a", b"1")
        found = await one.direct.get("a")
        assert found is not None
        assert (found.value, found.mod_revision, found.create_revision) == (b"1", revision, revision)
        assert (await anext(batches)).revision == revision
        # Once: the next thing that happens is the next write.
        later = await one.direct.put("b", b"")
        while (batch := await anext(batches)).revision < later:
            assert not batch.events


async def test_a_compare_and_swap_that_was_done_is_not_taken_for_lost(single_etcd: SharedEtcd) -> None:
    async with lossy(single_etcd) as one:
        first = await one.direct.put("n", b"0")
        one.proxy.swallow_answers()
        result = await one.store.transact([modified("n", first)], [Put("n", b"1")], otherwise=["n"])
        found = await one.direct.get("n")
        assert found is not None
        assert result.succeeded
        assert (found.value, found.mod_revision) == (b"1", result.revision)


async def test_a_compare_that_failed_unheard_is_answered_with_what_is_there(single_etcd: SharedEtcd) -> None:
    async with lossy(single_etcd) as one:
        await one.direct.put("n", b"theirs")
        one.proxy.swallow_answers()
        result = await one.store.transact([absent("n")], [Put("n", b"ours")], otherwise=["n"])
        assert not result.succeeded
        assert [kv and kv.value for kv in result.reads] == [b"theirs"]


async def test_a_write_that_never_arrived_is_made_and_its_late_copy_does_nothing(
    single_etcd: SharedEtcd,
) -> None:
    async with lossy(single_etcd) as one:
        one.proxy.keep_requests()
        async with asyncio.TaskGroup() as group:
            putting = group.create_task(one.store.put("a", b"1"))
            await kept(one.proxy)
            # Without what is sent when the attempt is given up: the member would see that it is not wanted.
            wanted = one.proxy.kept
        revision = putting.result()
        later = await one.direct.put("a", b"2")
        await one.proxy.deliver(wanted)
        await asyncio.sleep(0.3)
        found = await one.direct.get("a")
        assert found is not None
        assert (found.value, found.mod_revision) == (b"2", later)
        assert later == revision + 1


async def test_increments_through_losses_are_neither_lost_nor_doubled(single_etcd: SharedEtcd) -> None:
    async with lossy(single_etcd) as one:
        revision = await one.store.put("n", b"0")
        for number in range(1, 7):
            one.begin_at_the_proxy()
            if number % 3 == 1:
                one.proxy.swallow_answers()
            elif number % 3 == 2:
                one.proxy.keep_requests()
            result = await one.store.transact([modified("n", revision)], [Put("n", b"%d" % number)])
            assert result.succeeded
            revision = result.revision
            await one.proxy.deliver()
            one.proxy._swallow = False
            one.proxy.cut()
        found = await one.direct.get("n")
        assert found is not None
        assert (found.value, found.mod_revision) == (b"6", revision)


async def test_a_deletion_that_was_done_is_known_to_be_done(single_etcd: SharedEtcd) -> None:
    async with lossy(single_etcd) as one:
        await one.direct.put("a", b"1")
        one.proxy.swallow_answers()
        assert await one.store.delete("a")
        assert await one.direct.get("a") is None
        one.begin_at_the_proxy()
        assert not await one.store.delete("a")


async def test_what_may_do_nothing_is_left_uncertain(single_etcd: SharedEtcd) -> None:
    async with lossy(single_etcd) as one:
        one.proxy.swallow_answers()
        for then in ([DeletePrefix("a")], [Delete("a")]):
            one.begin_at_the_proxy()
            with pytest.raises(UncertainError, match="read again"):
                await one.store.transact((), then)


async def test_where_nobody_answers_a_write_is_uncertain_and_a_read_unavailable(
    single_etcd: SharedEtcd,
) -> None:
    async with lossy(single_etcd, alone=True, give_up_s=1.5) as one:
        one.proxy.swallow_answers()
        with pytest.raises(UncertainError, match="read again"):
            await one.store.put("a", b"1")
        with pytest.raises(StoreUnavailableError, match="majority"):
            await one.store.get("a")
        # Whether these were sent at all depends on when the connection is given up.
        with pytest.raises(UnavailableError):
            await one.store.grant(10)
        with pytest.raises(UnavailableError):
            await one.store.keep_alive(4711)
        # What was in doubt does not stand in the way of what comes next.
        one.proxy._swallow = False
        one.proxy.cut()

        async def writes() -> bool:
            try:
                return await one.store.put("a", b"2") > 0
            except (StoreUnavailableError, UncertainError):
                return False

        await eventually(writes)
        found = await one.direct.get("a")
        assert found is not None
        assert found.value == b"2"


async def test_a_cancelled_write_leaves_its_marker_usable(single_etcd: SharedEtcd) -> None:
    async with lossy(single_etcd) as one:
        one.proxy.keep_requests()
        async with asyncio.TaskGroup() as group:
            putting = group.create_task(one.store.put("a", b"cancelled"))
            await kept(one.proxy)
            await one.proxy.deliver(one.proxy.kept)
            one.proxy.swallow_answers()

            async def done() -> bool:
                return await one.direct.get("a") is not None

            await eventually(done)
            putting.cancel()
        for number in range(3):
            await one.store.put("b", b"%d" % number)
        found = await one.direct.get("b")
        assert found is not None
        assert found.value == b"2"


async def test_leases_are_granted_and_revoked_once(
    single_etcd: SharedEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_OPTIONS", WITHOUT_PINGS)
    async with lossy(single_etcd) as one:
        one.proxy.swallow_answers()
        lease = await one.store.grant(60)
        one.begin_at_the_proxy()
        assert await one.store.keep_alive(lease)
        assert await one.direct.lease_remaining(lease) is not None
        one.begin_at_the_proxy()
        await one.store.revoke(lease)
        assert await one.direct.lease_remaining(lease) is None
        with pytest.raises(LeaseNotFoundError):
            await one.direct.revoke(lease)


async def test_history_is_compacted_once(single_etcd: SharedEtcd) -> None:
    async with lossy(single_etcd) as one:
        revision = await one.direct.put("a", b"")
        one.proxy.swallow_answers()
        await one.store.compact(revision)


async def test_a_watch_behind_a_silent_proxy_goes_on_elsewhere_and_loses_nothing(
    single_etcd: SharedEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_OPTIONS", WITHOUT_PINGS)
    async with lossy(single_etcd) as one, one.store.watch("k/") as batches:
        revisions = [await one.direct.put("k/1", b"1")]
        seen = [(await anext(batches)).revision]
        one.proxy.swallow_answers()
        revisions += [await one.direct.put("k/1", b"%d" % number) for number in range(50)]
        async with asyncio.timeout(15):
            while len(seen) < len(revisions):
                batch = await anext(batches)
                seen += [batch.revision] if batch.events else []
        assert seen == revisions
