"""Live, suspect and gone, over real streams and a clock that moves when told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from controlplane.core.membership import Standing
from controlplane.services import keyspace, membership
from swarmplane.codec import records
from swarmplane.credentials.files import Credential
from swarmplane.ids import ModelName, NodeId, SubjectId
from swarmplane.v1 import node_pb2, node_pb2_grpc
from tests.fakes.authority import until
from tests.fakes.clock import FakeClock
from tests.fakes.control import Plane, SidecarEnd, inventory, running_plane


async def standing(plane: Plane, node: NodeId) -> Standing:
    return (await plane.control.nodes.get(node)).standing


async def test_silence_suspects_then_the_lease_ends_then_the_node_is_gone(
    still_plane: Plane, clock: FakeClock
) -> None:
    plane = still_plane
    _, a_credential = await plane.node("ada")
    b, b_credential = await plane.node("bob")
    assert await standing(plane, b) is Standing.NEVER
    async with plane.stream(a_credential) as ada, plane.stream(b_credential, answers=False) as bob:
        await bob.has(inventory("llama"))
        await clock.pass_until(lambda: ada.ready("llama") == 1, within_s=2.0, step_s=0.1)
        assert await standing(plane, b) is Standing.LIVE

        await _pass_until_silent(plane, clock, b, 4.5, ada)
        assert ada.suspects == frozenset()
        await _pass_until_silent(plane, clock, b, 5.5, ada)
        await until(lambda: ada.suspects == {b})
        assert await standing(plane, b) is Standing.SUSPECT
        assert ada.ready("llama") == 1, "suspicion costs, it never excludes"

        await _pass(plane, clock, 3.5, ada)
        await clock.pass_until(lambda: ada.ready("llama") == 0, within_s=4.0, step_s=0.1)
        assert ModelName("llama") in ada.table.models, "known without endpoints: 503, never 404"
        assert await standing(plane, b) is Standing.GONE
        assert ada.table.nodes[b].name == "bob"
        assert bob.last_word is None or bob.ended


async def test_after_an_outage_that_only_the_election_noticed_removals_are_held(
    still_plane: Plane, clock: FakeClock
) -> None:
    plane = still_plane
    _, a_credential = await plane.node("ada")
    b, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada, plane.stream(b_credential):
        await _pass(plane, clock, 1.0, ada)
        plane.control.leadership.outages += 1
        await _pass(plane, clock, 59.0, ada)
        assert await standing(plane, b) is Standing.SUSPECT, "its lease ended long ago"
        await _pass(plane, clock, 3.0, ada)
        # The decision is written by the store's own thread.
        async with asyncio.timeout(10):
            while await standing(plane, b) is not Standing.GONE:  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.01)


async def test_a_heartbeat_ends_a_suspicion(still_plane: Plane, clock: FakeClock) -> None:
    plane = still_plane
    _, a_credential = await plane.node("ada")
    b, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada, plane.stream(b_credential, answers=False) as bob:
        await _pass_until_silent(plane, clock, b, 5.5, ada)
        await until(lambda: ada.suspects == {b})
        await bob.beat()
        await until(lambda: not ada.suspects)
        assert await standing(plane, b) is Standing.LIVE


async def test_a_reset_suspects_at_once_and_a_goodbye_never(plane: Plane) -> None:
    _, a_credential = await plane.node("ada")
    b, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada:
        async with plane.stream(b_credential, incarnation="one") as bob:
            await bob.has(inventory("llama"))
            await ada.knows("llama", 1)
        await until(lambda: ada.suspects == {b})
        async with plane.stream(b_credential, incarnation="two") as bob:
            await until(lambda: not ada.suspects)
            await bob.has(inventory("llama"))
            await ada.knows("llama", 1)
            seen: list[frozenset[str]] = []
            plane.control.membership.subscribe(lambda new: seen.append(frozenset(new)))
            await bob.goodbye()
            await ada.knows("llama", 0)
        assert seen == []
        assert await standing(plane, b) is Standing.GONE
        assert await plane.store.get(f"members/{b}") is None


async def test_an_earlier_lifes_models_are_known_but_not_routable(plane: Plane) -> None:
    _, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada:
        async with plane.stream(b_credential, incarnation="one") as bob:
            await bob.has(inventory("llama"))
            await ada.knows("llama", 1)
        async with plane.stream(b_credential, incarnation="two") as bob:
            await ada.knows("llama", 0)
            await bob.has(inventory("llama"))
            await ada.knows("llama", 1)


async def test_the_same_life_keeps_its_endpoints_over_a_reconnect(plane: Plane) -> None:
    _, a_credential = await plane.node("ada")
    b, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada:
        async with plane.stream(b_credential, incarnation="one") as bob:
            await bob.has(inventory("llama"))
            await ada.knows("llama", 1)
            first = ada.table.nodes[b].session
        async with plane.stream(b_credential, incarnation="one"):
            await until(lambda: ada.table.nodes[b].session > first)
            assert ada.ready("llama") == 1
            assert not any(
                not row.endpoints for update in ada.updates for row in update.models if row.name == "llama"
            )


async def test_a_second_live_process_is_refused_by_name_and_the_first_goes_on(plane: Plane) -> None:
    _, credential = await plane.node("ada")
    async with plane.stream(credential, incarnation="first") as first:
        async with plane.stream(credential, incarnation="copy", welcomed=False) as copy:
            await until(lambda: copy.last_word)
            assert copy.last_word is not None
            reject = copy.last_word.reject
            assert (reject.code, reject.retry) == ("already_exists", True)
            assert reject.retry_after_s > 0
            assert "'ada'" in reject.message
            await until(lambda: copy.ended)
        await first.has(inventory("llama"))
        await first.knows("llama", 1)


async def test_a_new_stream_of_the_same_process_replaces_the_old_one(plane: Plane) -> None:
    _, credential = await plane.node("ada")
    async with plane.stream(credential, incarnation="one") as old:
        async with plane.stream(credential, incarnation="one") as new:
            await until(lambda: old.ended)
            assert old.last_word is not None
            assert old.last_word.reject.code == "stale_epoch"
            await new.has(inventory("llama"))
            await new.knows("llama", 1)
        await until(lambda: not plane.control.sessions.open)


async def test_a_heartbeat_after_the_leases_end_asks_to_connect_again(
    still_plane: Plane, clock: FakeClock
) -> None:
    plane = still_plane
    _, credential = await plane.node("ada")
    async with plane.stream(credential) as ada:
        await clock.pass_until(lambda: not plane.control.mirror.below("members/"), within_s=15)
        await ada.beat()
        await until(lambda: ada.ended)
        assert ada.last_word is not None
        assert ada.last_word.reject.code == "stale_epoch"
        assert ada.last_word.reject.retry


async def test_hello_must_name_the_node_of_the_certificate(plane: Plane) -> None:
    _, a_credential = await plane.node("ada")
    b, _ = await plane.node("bob")
    async with plane.stream(a_credential, node=b, welcomed=False) as impostor:
        await until(lambda: impostor.ended)
        assert impostor.status is grpc.StatusCode.PERMISSION_DENIED


async def test_a_mass_loss_is_held_for_a_minute(still_plane: Plane, clock: FakeClock) -> None:
    plane = still_plane
    nodes: list[tuple[NodeId, Credential]] = [await plane.node(f"n{number}") for number in range(4)]
    async with plane.stream(nodes[0][1]) as ada:
        for node, credential in nodes[1:]:
            async with plane.stream(credential) as end:
                await end.has(inventory(f"model-of-{node}"))
                await until(lambda node=node: _settled(plane, f"model-of-{node}"))  # type: ignore[misc]
        await _pass(plane, clock, 12.0, ada)
        await until(lambda: len(plane.control.mirror.below("members/")) == 1)
        await _pass(plane, clock, 50.0, ada)
        assert all([await standing(plane, node) is Standing.SUSPECT for node, _ in nodes[1:]])
        assert all(ada.ready(f"model-of-{node}") == 1 for node, _ in nodes[1:])
        await _pass(plane, clock, 15.0, ada)
        await until(lambda: all(ada.ready(f"model-of-{node}") == 0 for node, _ in nodes[1:]))
        assert await standing(plane, nodes[0][0]) is Standing.LIVE


async def test_a_pause_of_our_own_removes_nobody(still_plane: Plane, clock: FakeClock) -> None:
    plane = still_plane
    _, a_credential = await plane.node("ada")
    b, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada:
        async with plane.stream(b_credential) as bob:
            await bob.has(inventory("llama"))
            await until(lambda: _settled(plane, "llama"))
        await clock.jump(30.0)
        assert plane.control.membership.held_until_s >= clock.now_s() + 59
        await ada.beat()
        await _pass(plane, clock, 20.0, ada)
        assert ada.ready("llama") == 1
        assert await standing(plane, b) is Standing.SUSPECT


async def test_a_restarted_control_plane_has_everything_and_removes_nobody(
    tmp_path: Path, clock: FakeClock
) -> None:
    root = tmp_path / "founder"
    async with running_plane(root, clock=clock) as plane:
        a, a_credential = await plane.node("ada")
        b, b_credential = await plane.node("bob")
        async with (
            plane.stream(a_credential, incarnation="a1") as ada,
            plane.stream(b_credential, incarnation="b1") as bob,
        ):
            await bob.has(inventory("llama"))
            await until(lambda: _settled(plane, "llama"))
            await clock.advance(0.2)
            await ada.knows("llama", 1)
    async with (
        running_plane(root, clock=clock) as plane,
        plane.stream(a_credential, incarnation="a1", resume=ada.table) as ada,
    ):
        assert not any(update.snapshot for update in ada.updates), "the difference is enough"
        assert ada.ready("llama") == 1
        assert ada.table.nodes[b].name == "bob"
        # bob does not come back for a while, and nobody decides anything.
        await _pass(plane, clock, 40.0, ada)
        assert ada.ready("llama") == 1
        assert await standing(plane, b) is Standing.SUSPECT
        async with plane.stream(b_credential, incarnation="b1") as bob:
            await until(lambda: b not in ada.suspects)
            assert bob.ready("llama") == 1
            assert await standing(plane, b) is Standing.LIVE
            assert await standing(plane, a) is Standing.LIVE


async def test_a_whole_host_that_restarts_is_taken_at_once(tmp_path: Path) -> None:
    """The lease of its earlier life still runs, held by an instance that is no more."""
    root = tmp_path / "founder"
    async with running_plane(root) as plane:
        _, credential = await plane.node("ada")
        async with plane.stream(credential, incarnation="one"):
            pass
    async with running_plane(root) as plane, plane.stream(credential, incarnation="two") as ada:
        assert ada.welcome is not None


async def test_forgotten_models_leave_the_table(still_plane: Plane, clock: FakeClock) -> None:
    plane = still_plane
    _, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada:
        async with plane.stream(b_credential) as bob:
            await bob.has(inventory("llama"))
            await until(lambda: _settled(plane, "llama"))
            await bob.goodbye()
        await clock.advance(0.2)
        await ada.knows("llama", 0)
        plane.wall.ahead_s = 86_401.0
        await _pass(plane, clock, 61.0, ada)
        await until(lambda: ModelName("llama") not in plane.control.table.history.models)
        await clock.advance(0.2)
        await ada.knows("llama", -1)


@pytest.mark.parametrize("by", ["id", "name"])
async def test_a_removed_node_is_denied_and_its_models_are_forgotten(plane: Plane, by: str) -> None:
    _, a_credential = await plane.node("ada")
    b, b_credential = await plane.node("bob")
    stub: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
    async with plane.stream(a_credential) as ada, plane.stream(b_credential) as bob:
        await bob.has(inventory("llama"))
        await ada.knows("llama", 1)
        answer = await stub.Remove(node_pb2.RemoveNodeRequest(node=b if by == "id" else "bob"))
        assert answer.node_id == b
        await ada.knows("llama", -1)
        await until(lambda: b not in ada.table.nodes)
        await until(lambda: ada.policy is not None and SubjectId(b) in ada.policy.denied)
        await until(lambda: bob.ended)
        left = await plane.everything("audit/", "denied/")
        assert not any(b in key or key.endswith("/bob") for key in left)
    async with plane.stream(b_credential, welcomed=False) as bob:
        await until(lambda: bob.ended)
        assert bob.status is grpc.StatusCode.UNAUTHENTICATED


async def test_a_node_that_is_deleted_while_others_are_removed_stops_nobody(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: its record looked up without asking whether there is one; all that follow left out."""
    names = [(await plane.node(name))[0] for name in ("one", "two", "three")]
    ordered = sorted(names)
    monkeypatch.setattr(membership, "_BATCH", 1)
    await until(lambda: plane.control.leadership.leading)
    transact, first = plane.store.transact, True

    async def interfering(*arguments: Any, **more: Any) -> Any:
        nonlocal first
        if first:
            first = False
            await plane.store.delete(keyspace.node(ordered[1]))
            await plane.control.mirror.reached(await plane.store.revision())
        return await transact(*arguments, **more)

    monkeypatch.setattr(plane.store, "transact", interfering)
    await plane.control.membership._remove(ordered, {})
    found = {node: await plane.store.get(keyspace.node(node)) for node in ordered}
    assert found[ordered[1]] is None
    gone = {n: records.parse(records.Node, kv.value).gone for n, kv in found.items() if kv is not None}
    assert gone == {ordered[0]: True, ordered[2]: True}


async def test_cordon_drains_the_node_and_uncordon_ends_it(plane: Plane) -> None:
    _, a_credential = await plane.node("ada")
    b, b_credential = await plane.node("bob")
    stub: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
    async with plane.stream(a_credential) as ada:
        async with plane.stream(b_credential, incarnation="one") as bob:
            await bob.has(inventory("llama"))
            await ada.knows("llama", 1)
            cordoned = await stub.Cordon(node_pb2.CordonNodeRequest(node="bob", request_id="r1"))
            assert cordoned.cordoned
            await ada.knows("llama", 0)
            await until(lambda: bob.draining and ada.table.nodes[b].cordoned)
            assert ada.table.models[ModelName("llama")].endpoints[0].draining
        await until(lambda: b not in plane.control.sessions.open)
        assert b not in plane.control.membership.suspects, "an end after Drain is no reset"
        async with plane.stream(b_credential, incarnation="one") as bob:
            await until(lambda: bob.draining)
            uncordoned = await stub.Uncordon(
                node_pb2.UncordonNodeRequest(node=b, expected_revision=cordoned.revision)
            )
            assert not uncordoned.cordoned
            await ada.knows("llama", 1)
            await until(lambda: not bob.draining)


def _settled(plane: Plane, model: str) -> bool:
    route = plane.control.table.history.models.get(ModelName(model))
    return route is not None and any(endpoint.ready for endpoint in route.endpoints)


async def _pass(plane: Plane, clock: FakeClock, seconds: float, *beating: SidecarEnd) -> None:
    """Move on in half seconds; the sidecars given are heard after each."""
    for _ in range(round(seconds * 2)):
        await clock.advance(0.5)
        for end in beating:
            if end.node in plane.control.sessions.open:
                await end.beat()
                await until(lambda end=end: plane.control.sessions.silent_s(end.node) < 0.5)  # type: ignore[misc]


async def _pass_until_silent(
    plane: Plane, clock: FakeClock, node: NodeId, for_s: float, *beating: SidecarEnd
) -> None:
    """Move on until ``node`` was silent for ``for_s``, or up to half a second more.

    What it says by itself (answers to updates) may be heard late: give it a stream that does not answer.
    """
    while plane.control.sessions.silent_s(node) < for_s:
        await _pass(plane, clock, 0.5, *beating)
