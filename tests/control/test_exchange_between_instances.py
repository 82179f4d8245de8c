"""What instances tell each other of the nodes connected to them, and what they believe of it.

Mutants that were tried and are killed: what others told is passed on; others believed of a node connected
here; a departed node's words kept; suspicions kept after the link is lost; nothing told of nodes that came
before the listener; loads kept after the link is lost; anything kept of a dead instance's node or of one that
was removed, or dropped of one that came here or went elsewhere; a departure believed of whoever told it last
but one.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from controlplane.services import keyspace
from controlplane.services.denials import denial
from controlplane.services.exchange import Share
from swarmplane.codec.conditions import condition_to_pb
from swarmplane.codec.load import load_entry_to_pb
from swarmplane.codec.prefixes import prefixes_to_pb
from swarmplane.conditions import Condition, NodeCondition
from swarmplane.credentials import csr, keys
from swarmplane.credentials.files import Credential
from swarmplane.credentials.names import control_subject, instance_id
from swarmplane.ids import EndpointId, InstanceId, ModelName, NodeId, SubjectId
from swarmplane.load import LoadEntry
from swarmplane.prefixes import EndpointPrefixes
from swarmplane.v1 import node_pb2, node_pb2_grpc, peer_pb2, peer_pb2_grpc
from swarmplane.v1 import sidecar_pb2 as pb
from tests.fakes.authority import CALL_S, until
from tests.fakes.clock import FakeClock
from tests.fakes.control import Plane, inventory, running_plane

OTHER = InstanceId("other")


async def _says_all(end: Any, node: NodeId, in_flight: int) -> EndpointId:
    """Load, condition and caches, as a sidecar says them."""
    endpoint = EndpointId(f"{node}/engine/llama")
    entry = LoadEntry(endpoint, {"x": in_flight}, 0, 2)
    digest = EndpointPrefixes(endpoint, ModelName("llama"), b"12345678", 1)
    await end.send(load=pb.Load(endpoints=[load_entry_to_pb(entry)]))
    await end.send(condition=condition_to_pb(Condition(free_bytes=5, valid_s=60.0)))
    await end.send(prefixes=pb.Prefixes(endpoints=[prefixes_to_pb(digest)]))
    return endpoint


async def test_a_share_has_all_of_the_own_nodes_and_then_what_changed(plane: Plane) -> None:
    exchange = plane.control.exchange
    b, credential = await plane.node("bob")
    async with plane.stream(credential) as bob:
        await bob.has(inventory("llama"))
        endpoint = await _says_all(bob, b, 3)
        await until(
            lambda: plane.control.pushes.sharing.known_of([b]) == (frozenset({b}), frozenset({endpoint}))
        )
        async with aclosing(exchange.shares()) as shares:
            first = await anext(shares)
            assert [one.in_flight_by_origin for one in first.loads] == [{"x": 3}]
            assert [one.node for one in first.conditions] == [b]
            assert [one.blocks for one in first.prefixes] == [b"12345678"]
            assert (first.suspects, first.departed) == (frozenset(), frozenset())
            stranger = EndpointId("elsewhere/engine/llama")
            news = NodeCondition(NodeId("elsewhere"), Condition(free_bytes=1, valid_s=60.0))
            exchange.take(Share(OTHER, (LoadEntry(stranger, {"x": 9}),), frozenset(), conditions=(news,)))
            quiet = await anext(shares)
            assert (quiet.loads, quiet.conditions, quiet.prefixes) == ((), (), ()), "nothing is passed on"
            await _says_all(bob, b, 1)
            changed = await anext(shares)
            assert [one.in_flight_by_origin for one in changed.loads] == [{"x": 1}]
    await until(lambda: b in plane.control.membership.suspects)
    async with aclosing(exchange.shares()) as shares:
        broke = await anext(shares)
        assert broke.suspects == {b}, "its stream broke: all instances are to know"


async def test_others_are_believed_of_their_nodes_alone(plane: Plane, tmp_path: Path) -> None:
    async with running_plane(tmp_path / "there") as there:
        x, x_credential = await there.node("xavier")
        async with there.stream(x_credential) as xavier:
            endpoint = await _says_all(xavier, x, 4)
            await until(
                lambda: there.control.pushes.sharing.known_of([x]) == (frozenset({x}), frozenset({endpoint}))
            )
            async with aclosing(there.control.exchange.shares()) as shares:
                share = replace(await anext(shares), instance=OTHER)
    b, credential = await plane.node("bob")
    pushes = plane.control.pushes
    async with plane.stream(credential) as bob:
        own = await _says_all(bob, b, 2)
        await until(lambda: pushes.in_flight(b) == 2)
        lie = LoadEntry(own, {"x": 99})
        plane.control.exchange.take(replace(share, loads=(*share.loads, lie), suspects=frozenset({x})))
        assert pushes.in_flight(b) == 2
        assert [one.in_flight_by_origin for one in pushes.loads.of([endpoint])] == [{"x": 4}]
        conditions, prefixes = pushes.sharing.told([x], [endpoint])
        assert conditions[0].condition is not None
        assert prefixes
        plane.control.exchange.take(Share(OTHER, (), frozenset(), departed=frozenset({x, b})))
        assert pushes.loads.of([endpoint]) == ()
        assert pushes.sharing.told([x], [endpoint])[1] == ()
        assert pushes.in_flight(b) == 2, "it is here"


async def test_a_suspicion_is_as_good_as_its_link(plane: Plane) -> None:
    """A member that another live instance holds is suspected if, and as long as, that instance says so."""
    b, credential = await plane.node("bob")
    async with plane.stream(credential):
        pass
    control = plane.control
    member = await plane.store.get(f"members/{b}")
    assert member is not None
    record = pb_member(member.value, OTHER)
    await plane.store.put(f"instances/{OTHER}", b"")
    await plane.store.put(f"members/{b}", record)
    await until(lambda: b not in control.membership.suspects)
    control.exchange.take(Share(OTHER, (), frozenset({b})))
    assert control.membership.suspects == {b}
    control.exchange.lost(OTHER)
    assert control.membership.suspects == frozenset()


def pb_member(value: bytes, instance: InstanceId) -> bytes:
    """The membership in ``value``, held by ``instance``."""
    from swarmplane.codec import records

    record = records.parse(records.Member, value)
    record.instance_id = instance
    return record.SerializeToString()


def _told(name: str, instance: InstanceId = OTHER, in_flight: int = 4) -> tuple[EndpointId, Share]:
    """All that an instance tells of a node."""
    node, endpoint = NodeId(name), EndpointId(f"{name}/engine/llama")
    condition = NodeCondition(node, Condition(free_bytes=5, valid_s=60.0))
    digest = EndpointPrefixes(endpoint, ModelName("llama"), b"12345678", 1)
    load = LoadEntry(endpoint, {"x": in_flight}, 0, 2)
    return endpoint, Share(instance, (load,), frozenset(), conditions=(condition,), prefixes=(digest,))


def _known(plane: Plane, endpoint: EndpointId) -> tuple[bool, bool, bool]:
    """Load, condition and caches: whether each is known."""
    pushes, node = plane.control.pushes, NodeId(endpoint.partition("/")[0])
    nodes, endpoints = pushes.sharing.known_of([node])
    return endpoint in pushes.loads.endpoints_of([node]), node in nodes, endpoint in endpoints


async def test_a_lost_link_voids_loads_and_a_dead_instance_all_that_it_told(plane: Plane) -> None:
    exchange, third = plane.control.exchange, InstanceId("third")
    stayed, told = _told("stayed")
    moved, told_before = _told("moved")
    _, told_after = _told("moved", third)
    b, credential = await plane.node("bob")
    here, told_of_bob = _told(b)
    for share in (told, told_before, told_after, told_of_bob):
        exchange.take(share)
    for instance in (OTHER, third):
        await plane.store.put(f"instances/{instance}", b"")
    async with plane.stream(credential) as bob:
        await _says_all(bob, b, 2)
        await until(lambda: plane.control.pushes.in_flight(b) == 2)
        exchange.take(Share(OTHER, (), frozenset(), departed=frozenset({NodeId("moved")})))
        assert _known(plane, moved) == (True, True, True), "it had gone on before the news came"
        exchange.lost(OTHER)
        assert _known(plane, stayed) == (False, True, True)
        assert _known(plane, moved) == _known(plane, here) == (True, True, True)
        exchange.take(told)
        assert _known(plane, stayed) == (True, True, True), "the link is back, and tells all anew"
        await plane.store.delete(f"instances/{OTHER}")
        await until(lambda: _known(plane, stayed) == (False, False, False))
        assert _known(plane, moved) == _known(plane, here) == (True, True, True)


async def test_nothing_is_kept_of_a_node_that_was_removed_at_another_instance(plane: Plane) -> None:
    control = plane.control
    b, credential = await plane.node("bob")
    async with plane.stream(credential):
        pass
    await until(lambda: b in control.membership.suspects)
    endpoint, told = _told(b)
    control.exchange.take(told)
    control.reported(NodeId("somebody"), b, "refused")
    assert control.reachability.unreachable_reason(b)
    assert _known(plane, endpoint) == (True, True, True)
    assert control.sessions.sighting(b) is not None
    await plane.store.delete(f"nodes/{b}")
    await until(lambda: control.sessions.sighting(b) is None)
    assert _known(plane, endpoint) == (False, False, False)
    assert not control.reachability.unreachable_reason(b)


async def test_what_was_seen_of_a_node_is_forgotten_once_it_is_elsewhere(plane: Plane) -> None:
    control = plane.control
    b, credential = await plane.node("bob")
    async with plane.stream(credential, incarnation="one"):
        pass
    await until(lambda: b in control.membership.suspects)
    member = await plane.store.get(f"members/{b}")
    assert member is not None
    await plane.store.put(f"members/{b}", member.value)
    await control.mirror.reached(await plane.store.revision())
    assert control.sessions.sighting(b) is not None, "it still names this instance"
    await plane.store.put(f"instances/{OTHER}", b"")
    await plane.store.put(f"members/{b}", pb_member(member.value, OTHER))
    await until(lambda: control.sessions.sighting(b) is None)
    async with plane.stream(credential, incarnation="one"):
        await plane.store.put(f"members/{b}", pb_member(member.value, OTHER))
        await control.mirror.reached(await plane.store.revision())
        assert control.sessions.sighting(b) is not None, "its stream is here"


async def test_what_does_not_fit_into_a_share_follows(plane: Plane) -> None:
    """However much there is: no message is larger than others take."""
    exchange, pushes = plane.control.exchange, plane.control.pushes
    b, credential = await plane.node("bob")
    async with plane.stream(credential) as bob:
        ids = [EndpointId(f"{b}/engine/{n}") for n in range(20)]
        origins = {f"origin{n}": 1 for n in range(8_000)}
        for key in ids:
            await bob.send(load=pb.Load(endpoints=[load_entry_to_pb(LoadEntry(key, origins, 0, 2))]))
        await until(lambda: pushes.loads.endpoints_of([b]) == set(ids))
        told: list[int] = []
        async with aclosing(exchange.shares()) as shares:
            while sum(told) < len(ids):
                told.append(len((await anext(shares)).loads))
    assert max(told) == 7
    assert sum(told) == len(ids)


async def test_the_nodes_of_a_dead_instance_have_time_to_come_back(
    still_plane: Plane, clock: FakeClock
) -> None:
    """Also those that were here before: how their old stream ended here says nothing of now."""
    plane, control = still_plane, still_plane.control
    b, credential = await plane.node("bob")
    async with plane.stream(credential):
        pass
    await until(lambda: b in control.membership.suspects)
    member = await plane.store.get(f"members/{b}")
    assert member is not None
    await plane.store.put(f"instances/{OTHER}", b"")
    await plane.store.put(f"members/{b}", pb_member(member.value, OTHER))
    await until(lambda: b not in control.membership.suspects)
    await plane.store.delete(f"instances/{OTHER}")
    await control.mirror.reached(await plane.store.revision())
    await clock.advance(1.0)
    assert b not in control.membership.suspects
    await clock.advance(5.0)
    assert b in control.membership.suspects


def _instance_credential(plane: Plane, name: str) -> Credential:
    key = keys.new_private_key()
    public = csr.public_key_of(csr.make_csr(key))
    subject = control_subject(plane.authority.swarm, name)
    certificate = plane.authority.certificate(public, subject, plane.wall())
    return Credential(plane.authority.ca_pem, certificate, keys.private_key_to_pem(key))


async def _ended(call: Any) -> grpc.StatusCode:
    """With what a stream ends."""
    try:
        async with asyncio.timeout(CALL_S):
            while isinstance(await call.read(), peer_pb2.ShareUpdate):
                pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    code: grpc.StatusCode = await call.code()
    return code


async def test_one_instance_is_denied_alone(plane: Plane) -> None:
    """Also one with a certificate of an earlier version, whose instances share one name, is let in."""
    calls = {}
    for name in ("one", "two", ""):
        stub: Any = peer_pb2_grpc.PeerServiceStub(await plane.channel(_instance_credential(plane, name)))
        calls[name] = stub.Share(peer_pb2.ShareRequest(instance_id=name or "old"))
        assert isinstance(await calls[name].read(), peer_pb2.ShareUpdate)
    await plane.store.transact((), [denial(instance_id("one"), "test", 0.0)])
    assert await _ended(calls["one"]) is grpc.StatusCode.UNAUTHENTICATED
    for name in ("two", ""):
        assert isinstance(await calls[name].read(), peer_pb2.ShareUpdate)
        calls[name].cancel()
    again: Any = peer_pb2_grpc.PeerServiceStub(await plane.channel(_instance_credential(plane, "one")))
    assert await _ended(again.Share(peer_pb2.ShareRequest(instance_id="one"))) is (
        grpc.StatusCode.UNAUTHENTICATED
    )


@pytest.mark.parametrize(("called", "denied"), [("another", True), ("", False), ("itself", False)])
async def test_an_instance_goes_with_the_node_of_its_host(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, called: str, denied: bool
) -> None:
    """Not where the store is this instance's alone, and not itself: its host is stopped by whoever leaves."""
    b, _ = await plane.node("bob")
    monkeypatch.setattr(plane.control.nodes, "_beside", lambda: b if called == "itself" else called)
    stub: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
    await stub.Remove(node_pb2.RemoveNodeRequest(node=b))
    assert await plane.store.get(keyspace.denied(SubjectId(b))) is not None
    assert (await plane.store.get(keyspace.denied(instance_id(b))) is not None) is denied
