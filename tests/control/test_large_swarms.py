"""Where there are many endpoints, a stream hears of the load of those that its clients may be sent to."""

from __future__ import annotations

from swarmplane import features
from swarmplane.codec.conditions import condition_to_pb
from swarmplane.codec.load import (
    encoded_load_entry,
    load_digest_message,
    load_entries_from_pb,
    load_entry_to_pb,
)
from swarmplane.conditions import Condition
from swarmplane.ids import EndpointId, NodeId
from swarmplane.load import LoadEntry
from swarmplane.v1 import sidecar_pb2 as pb
from tests.fakes.authority import until
from tests.fakes.control import Plane, SidecarEnd, inventory

MODELS = [f"m{n}" for n in range(70)]


def load(node: NodeId, *models: str, busy: int = 1) -> pb.Load:
    entries = [LoadEntry(EndpointId(f"{node}/engine/{m}"), {node: busy}, 0, 2) for m in models]
    return pb.Load(endpoints=map(load_entry_to_pb, entries))


def told(end: SidecarEnd) -> set[str]:
    return {entry.endpoint_id.rpartition("/")[2] for entry in end.loads}


async def test_a_stream_hears_of_the_models_in_use_alone(plane: Plane) -> None:
    big, big_credential = await plane.node("big")
    _, ada_credential = await plane.node("ada")
    _, old_credential = await plane.node("old")
    older = tuple(feature for feature in features.ALL if feature != features.INTEREST)
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
    message = pb.ControlMessage.FromString(load_digest_message(map(encoded_load_entry, entries), 0.75))
    assert message.WhichOneof("kind") == "load_digest"
    assert load_entries_from_pb(message.load_digest.endpoints) == tuple(entries)
    assert message.load_digest.load_interval_s == 0.75
    assert pb.ControlMessage.FromString(load_digest_message((), 0.0)).load_digest == pb.LoadDigest()
