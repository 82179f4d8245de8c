"""Where there are many endpoints, a stream hears of the load of those that its clients may be sent to."""

from __future__ import annotations

import pytest

from controlplane.services import audience, push
from swarmplane import features
from swarmplane.codec.conditions import condition_to_pb
from swarmplane.codec.load import (
    encoded_load_entry,
    encoded_report,
    load_digest_message,
    load_entries_from_pb,
    load_entry_to_pb,
)
from swarmplane.conditions import Condition
from swarmplane.ids import EndpointId, NodeId
from swarmplane.load import LoadEntry
from swarmplane.v1 import sidecar_pb2 as pb
from tests.fakes.authority import until
from tests.fakes.control import LATER, Plane, SidecarEnd, inventory

MODELS = [f"m{n}" for n in range(70)]


def load(node: NodeId, *models: str, busy: int = 1) -> pb.Load:
    entries = [LoadEntry(EndpointId(f"{node}/engine/{m}"), {node: busy}, 0, 2) for m in models]
    return pb.Load(endpoints=map(load_entry_to_pb, entries))


def told(end: SidecarEnd) -> set[str]:
    return {entry.endpoint_id.rpartition("/")[2] for entry in end.loads}


async def test_a_stream_hears_of_the_models_in_use_alone(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "REMEMBERED_S", 0.0)
    big, big_credential = await plane.node("big")
    _, ada_credential = await plane.node("ada")
    _, old_credential = await plane.node("old")
    older = tuple(feature for feature in LATER if feature != features.INTEREST)
    async with (
        plane.stream(big_credential) as owner,
        plane.stream(ada_credential) as ada,
        plane.stream(old_credential, speaks=older) as old,
    ):
        await owner.has(inventory(*MODELS))
        for end in (ada, old):
            await end.knows("m69", 1)
        await ada.send(load=pb.Load(uses=["m3"]))
        await owner.send(load=load(big, *MODELS))
        await until(lambda: len(told(old)) == len(MODELS))
        await until(lambda: told(ada) == {"m3"})
        # Another model comes into use: what is known of it is told at once, and the first no more.
        await owner.send(load=load(big, "m5", busy=3))
        await ada.send(load=pb.Load(uses=["m5"]))
        await until(lambda: told(ada) == {"m3", "m5"})
        ada.loads.clear()
        await owner.send(load=load(big, *MODELS))
        await until(lambda: told(ada) == {"m5"})
        assert plane.control.pushes.loads.interval_s == 0.25


async def test_models_that_take_turns_are_told_of_once(plane: Plane) -> None:
    """Kills: only the last word counts; whoever hears of more is told all again; no end of what counts."""
    big, big_credential = await plane.node("big")
    bob, bob_credential = await plane.node("bob")
    _, ada_credential = await plane.node("ada")
    async with (
        plane.stream(big_credential) as owner,
        plane.stream(bob_credential) as other,
        plane.stream(ada_credential) as ada,
    ):
        await owner.has(inventory(*MODELS))
        await other.has(inventory("alone"))
        await ada.knows("m69", 1)
        await ada.knows("alone", 1)
        for end in (owner, other):
            await end.send(condition=condition_to_pb(Condition(valid_s=30.0)))
        sharing = plane.control.pushes.sharing
        await until(lambda: sharing.known_of([big, bob])[0] == {big, bob})
        await ada.send(load=pb.Load(uses=["alone"]))
        await until(lambda: [one.node_id for one in ada.conditions] == [bob])
        for model in ("m1", "alone", "m1", "alone", "m2"):
            await ada.send(load=pb.Load(uses=[model]))
        await until(lambda: {one.node_id for one in ada.conditions} == {big, bob})
        session = plane.control.sessions.open[ada.node]
        await until(lambda: sorted(session.uses or ()) == ["alone", "m1", "m2"])
        assert [one.node_id for one in ada.conditions].count(bob) == 1
        others = sorted(f"x{n}" for n in range(audience.MOST_USES))
        await ada.send(load=pb.Load(uses=others))
        await until(lambda: sorted(session.uses or ()) == others)


async def test_a_stream_is_told_by_what_it_hears_now(plane: Plane) -> None:
    """Kills: what a node heard before its update to a version that names its models."""
    _, big_credential = await plane.node("big")
    ada, credential = await plane.node("ada")
    older = tuple(feature for feature in LATER if feature != features.INTEREST)
    async with plane.stream(big_credential) as owner:
        await owner.has(inventory(*MODELS))
        async with plane.stream(credential, incarnation="one", speaks=older) as old:
            await old.knows("m69", 1)
            heard = plane.control.pushes._audience.hearing
            before = heard(plane.control.sessions.open[ada])
            assert before is not None
            assert len(before.endpoints) == len(MODELS)
            async with plane.stream(credential, incarnation="one") as new:
                await new.knows("m69", 1)
                after = heard(plane.control.sessions.open[ada])
                assert after is not None
                assert after.endpoints == frozenset()


async def test_a_stream_hears_how_those_nodes_are(plane: Plane) -> None:
    _, big_credential = await plane.node("big")
    bob, bob_credential = await plane.node("bob")
    _, ada_credential = await plane.node("ada")
    async with (
        plane.stream(big_credential) as owner,
        plane.stream(bob_credential) as other,
        plane.stream(ada_credential) as ada,
    ):
        await owner.has(inventory(*MODELS))
        await other.has(inventory("alone"))
        await ada.knows("m69", 1)
        await ada.knows("alone", 1)
        for end in (owner, other):
            await end.send(condition=condition_to_pb(Condition(valid_s=30.0)))
        await ada.send(load=pb.Load(uses=["alone"]))
        await until(lambda: {told.node_id for told in ada.conditions} == {bob})


def test_an_encoded_digest_is_the_digest() -> None:
    entries = [
        LoadEntry(EndpointId(f"n{n}/engine/{'m' * n}"), {"a": n, "b": 2}, n, 4, n * 1000) for n in range(60)
    ]
    encoded = [encoded_load_entry(encoded_report(entry), entry.age_ms) for entry in entries]
    message = pb.ControlMessage.FromString(load_digest_message(encoded, 0.75))
    assert message.WhichOneof("kind") == "load_digest"
    assert load_entries_from_pb(message.load_digest.endpoints) == tuple(entries)
    assert message.load_digest.load_interval_s == 0.75
    assert pb.ControlMessage.FromString(load_digest_message((), 0.0)).load_digest == pb.LoadDigest()


async def test_who_comes_a_moment_later_gets_the_same_first_update_and_then_the_difference(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: an update that is kept for ever; one kept for who has something else."""
    monkeypatch.setattr(push, "_LARGE", 0)
    monkeypatch.setattr(push, "_FIRST_S", 60.0)
    _, a_credential = await plane.node("ada")
    b, b_credential = await plane.node("bob")
    async with plane.stream(a_credential, first=inventory("one")) as ada:
        await ada.knows("one", 1)
        async with plane.stream(b_credential, first=inventory("two"), incarnation="b") as bob:
            assert bob.updates[0].snapshot
            assert bob.updates[0].version == ada.updates[0].version
            await bob.knows("one", 1)
            await bob.knows("two", 1)
            assert not any(update.snapshot for update in bob.updates[1:])
        async with plane.stream(b_credential, incarnation="b", resume=bob.table) as back:
            assert not back.updates[0].snapshot, "it has something, and gets the difference"
        monkeypatch.setattr(push, "_FIRST_S", 0.0)
        async with plane.stream(b_credential, incarnation="c") as late:
            assert late.updates[0].snapshot
            assert late.updates[0].version.revision > bob.table.version.revision
            assert b in late.table.nodes
