"""What membership writes to the store: two transactions for a change, none for heartbeats.

Mutants that were tried and are killed: an inventory that is written beside the claim; one that is written
again though it stands; a member of a silent node that stays, or ends at once; of one that left unheard that
stays; of another instance's node that ends; a lease that is not kept; a heartbeat under an ended one that is
taken; a claim that takes an old picture for the truth. Either condition on a removed node alone suffices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from controlplane.services import keyspace
from controlplane.store.port import Operation
from swarmplane.codec import records
from swarmplane.ids import ModelName, NodeId
from swarmplane.v1 import node_pb2, node_pb2_grpc
from tests.fakes.authority import until
from tests.fakes.clock import FakeClock
from tests.fakes.control import Plane, inventory


class Counting:
    """Counts the transactions that write, and what the store is asked for leases."""

    def __init__(self, plane: Plane, patch: pytest.MonkeyPatch) -> None:
        self.written: list[list[str]] = []
        self.leases = 0
        transact, grant, keep_alive = plane.store.transact, plane.store.grant, plane.store.keep_alive

        async def counted(compares: Any, then: Sequence[Operation], **more: Any) -> Any:
            done = await transact(compares, then, **more)
            if done.succeeded and then:
                self.written.append([getattr(operation, "key", "") for operation in then])
            return done

        async def granted(ttl_s: float) -> int:
            self.leases += 1
            return await grant(ttl_s)

        async def kept(lease: int) -> bool:
            self.leases += 1
            return await keep_alive(lease)

        for name, method in (("transact", counted), ("grant", granted), ("keep_alive", kept)):
            patch.setattr(plane.store, name, method)


async def test_a_change_of_membership_is_two_transactions(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, watcher = await plane.node("ada")
    _, credential = await plane.node("bob")
    async with plane.stream(watcher) as ada:
        counting = Counting(plane, monkeypatch)
        async with plane.stream(credential, incarnation="one", first=inventory("llama")) as bob:
            await ada.knows("llama", 1)
            joined = len(counting.written)
            await bob.has(inventory("llama"))
            await bob.beat()
            await asyncio.sleep(0.1)
            assert len(counting.written) == joined, "it stands"
            await bob.goodbye()
            await ada.knows("llama", 0)
            left = len(counting.written)
        async with plane.stream(credential, incarnation="two", first=inventory("llama")):
            await ada.knows("llama", 1)
            back = len(counting.written)
    assert joined == 2, counting.written
    assert left - joined == 2, counting.written
    assert back - left == 2, counting.written


async def test_a_reconnect_of_the_same_life_writes_its_session_alone(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, watcher = await plane.node("ada")
    bob, credential = await plane.node("bob")
    async with plane.stream(watcher) as ada:
        async with plane.stream(credential, incarnation="one", first=inventory("llama")):
            await ada.knows("llama", 1)
        counting = Counting(plane, monkeypatch)
        before = ada.table.nodes[bob].session
        async with plane.stream(credential, incarnation="one", first=inventory("llama")):
            await until(lambda: ada.table.nodes[bob].session > before)
            assert ada.ready("llama") == 1
        assert counting.written == [[keyspace.member(bob)]]
        counting.written.clear()
        async with plane.stream(credential, incarnation="one", first=inventory("llama", "other")) as again:
            await ada.knows("other", 1)
            assert counting.written == [
                [keyspace.member(bob), keyspace.inventory(bob)],
                [keyspace.route(ModelName("other"))],
            ]
            await again.has(inventory("llama"))
            await ada.knows("other", -1)
        counting.written.clear()
        before = ada.table.nodes[bob].session
        async with plane.stream(credential, incarnation="one", first=inventory("llama")):
            await until(lambda: ada.table.nodes[bob].session > before)
        assert counting.written == [[keyspace.member(bob)]], "though it was said later than with Hello"


async def test_heartbeats_write_nothing_and_renew_one_lease(
    still_plane: Plane, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = still_plane
    credentials = [(await plane.node(f"n{number}"))[1] for number in range(3)]
    async with (
        plane.stream(credentials[0]) as one,
        plane.stream(credentials[1]) as two,
        plane.stream(credentials[2]) as three,
    ):
        counting = Counting(plane, monkeypatch)
        for _ in range(20):
            for end in (one, two, three):
                await end.beat()
            await until(lambda: all(plane.control.sessions.silent_s(n) == 0 for n in _open(plane)))
            for _ in range(4):
                await clock.advance(0.5)
        assert counting.written == []
        # In 40 s: the controller's and the nodes' once a second, and the instance's.
        assert counting.leases <= 40 + 40 + 14
        assert len(_open(plane)) == 3


def _open(plane: Plane) -> list[NodeId]:
    return list(plane.control.sessions.open)


async def test_the_member_of_a_silent_node_ends_and_of_nobody_else(
    still_plane: Plane, clock: FakeClock
) -> None:
    plane = still_plane
    ada, a_credential = await plane.node("ada")
    bob, b_credential = await plane.node("bob")
    elsewhere = records.Member(instance_id="other").SerializeToString()
    await plane.store.put(keyspace.member(NodeId("cleo")), elsewhere)
    async with plane.stream(a_credential) as alive, plane.stream(b_credential):
        for _ in range(22):
            await alive.beat()
            await until(lambda: plane.control.sessions.silent_s(ada) == 0)
            await clock.advance(0.5)
        await until(lambda: bob not in plane.control.mirror.below(keyspace.MEMBERS))
        assert await plane.store.get(keyspace.member(ada)) is not None
        assert await plane.store.get(keyspace.member(NodeId("cleo"))) is not None, "that is for the other"


async def test_the_member_of_a_node_that_nobody_saw_leave_ends_too(
    still_plane: Plane, clock: FakeClock
) -> None:
    """As after a farewell, or a claim, that the store took without saying so."""
    plane = still_plane
    ada, credential = await plane.node("ada")
    async with plane.stream(credential):
        plane.control.sessions.open[ada].left = True
    await until(lambda: not plane.control.sessions.open)
    for _ in range(18):
        await clock.advance(0.5)
    assert await plane.store.get(keyspace.member(ada)) is not None
    await clock.pass_until(lambda: ada not in plane.control.mirror.below(keyspace.MEMBERS), within_s=6)


async def test_a_lease_that_is_gone_is_granted_anew(plane: Plane) -> None:
    ada, a_credential = await plane.node("ada")
    bob, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as before:
        await plane.store.revoke(plane.control.sessions.open[ada].lease)
        async with plane.stream(b_credential) as after:
            assert plane.control.sessions.open[bob].lease
            await before.beat()
            await until(lambda: before.ended)
            await after.beat()
            assert await plane.store.get(keyspace.member(bob)) is not None
        assert before.last_word is not None
        assert before.last_word.reject.code == "stale_epoch"


async def test_a_claim_from_an_old_picture_is_made_again(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, credential = await plane.node("ada")
    async with plane.stream(credential, incarnation="one") as first:
        await first.goodbye()
    stale = dict(plane.control.mirror.below(keyspace.NODES))
    key = keyspace.node(ada)
    kv = await plane.store.get(key)
    assert kv is not None
    await plane.store.put(key, kv.value)
    below = plane.control.mirror.below
    monkeypatch.setattr(
        plane.control.mirror, "below", lambda prefix: stale if prefix == keyspace.NODES else below(prefix)
    )
    async with plane.stream(credential, incarnation="two") as second:
        assert second.welcome is not None


async def test_a_node_that_was_removed_is_refused_whatever_the_picture_shows(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, credential = await plane.node("ada")
    mirror = plane.control.mirror
    shown = {prefix: dict(mirror.below(prefix)) for prefix in (keyspace.NODES, keyspace.DENIALS)}
    below = mirror.below
    monkeypatch.setattr(mirror, "below", lambda prefix: shown.get(prefix) or below(prefix))
    await _remove(plane, ada)
    async with plane.stream(credential, welcomed=False) as end:
        await until(lambda: end.ended)
        assert ada not in plane.control.sessions.open
        assert await plane.store.get(keyspace.member(ada)) is None


async def _remove(plane: Plane, node: NodeId) -> None:
    stub: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
    await stub.Remove(node_pb2.RemoveNodeRequest(node=node))
