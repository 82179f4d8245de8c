"""The sidecar's real control stream against the real control plane, over certificates of the real join."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import grpc

from sidecar.control.session import Host, Session
from sidecar.control.stream import Addresses
from swarmplane.addresses import parse_address
from swarmplane.channels import control_channel, rpc_error_to_swarm_error
from swarmplane.clock import SystemClock
from swarmplane.errors import Code, UnavailableError
from swarmplane.ids import NodeId, random_id
from swarmplane.v1 import node_pb2, node_pb2_grpc
from tests.fakes.authority import until
from tests.fakes.control import Plane, inventory, running_plane
from tests.fakes.streams import Sidecar, sidecar


async def test_two_sidecars_learn_of_each_other(plane: Plane, tmp_path: Path) -> None:
    _, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    where = plane.control_address
    async with (
        sidecar(tmp_path / "a", a_credential, where) as ada,
        sidecar(tmp_path / "b", b_credential, where) as bob,
    ):
        await until(lambda: ada.stream.connected and bob.stream.connected)
        bob.has(inventory("llama"))
        await until(lambda: ada.sees("llama") == "ready")
        (candidate,) = ada.routes.resolve("llama", SystemClock().now_s()).candidates
        assert (candidate.node_name, candidate.peer_addresses) == ("bob", ("127.0.0.1:1",))
        await until(lambda: ada.kept)
        assert ada.stream.state()["connected"]
        bob.routes.begin(candidate.endpoint.id, "somebody")
        bob.stream.wake()
        await until(lambda: _in_flight(ada, "llama") == 1)
        await bob.stream.drain()
        await until(lambda: ada.sees("llama") == "absent")
        assert bob.node not in ada.routes.view.suspects


async def test_a_sidecar_that_looks_in_vain_goes_where_it_is_pointed(plane: Plane, tmp_path: Path) -> None:
    _, credential = await plane.node("ada")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{nobody.getsockname()[1]}"
        async with sidecar(tmp_path / "a", credential, where) as ada:
            await until(lambda: "refused" in ada.stream.state()["reason"])
            ada.kept_addresses = Addresses((plane.control_address, where), ())
            await until(lambda: ada.stream.connected)
            assert ada.stream.state()["address"] == plane.control_address


def test_what_grpc_says_for_want_of_a_reason_is_not_repeated() -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "Internal error from Core"
    )
    found = rpc_error_to_swarm_error(error)
    assert (found.code, found.message) == (Code.UNAVAILABLE, "the stream was reset")


async def test_the_reason_of_a_reset_is_asked_for(plane: Plane, tmp_path: Path) -> None:
    b, credential = await plane.node("bob")
    reset = UnavailableError("the stream was reset")
    async with sidecar(tmp_path / "b", credential, plane.control_address) as bob:
        await until(lambda: bob.stream.connected)
        async with await control_channel(plane.control_address, credential) as channel:
            host = Host(b, random_id(), (), "0", "test", "")
            nothing: list[Any] = [None] * 6
            session: Any = Session(channel, host, *nothing)
            assert await session._reason(reset) is reset
            stub: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
            await stub.Remove(node_pb2.RemoveNodeRequest(node=b))
            await until(lambda: not bob.stream.connected)
            found = await session._reason(reset)
            assert found.code is Code.UNAUTHENTICATED
            assert "removed" in found.message or "join" in found.message


async def test_a_sidecar_that_moved_is_reached_elsewhere(plane: Plane, tmp_path: Path) -> None:
    _, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    where = plane.control_address
    welcomes: list[int] = []
    async with (
        sidecar(tmp_path / "a", a_credential, where) as ada,
        sidecar(tmp_path / "b", b_credential, where) as bob,
    ):
        bob.stream.subscribe(lambda: welcomes.append(1))
        bob.has(inventory("llama"))
        await until(lambda: ada.sees("llama") == "ready")
        session = bob.stream.state()["session"]
        bob.stream.move(("127.0.0.1:9",))
        await until(lambda: _peer_addresses(ada, "llama") == ("127.0.0.1:9",))
        assert bob.stream.state()["session"] > session
        assert len(welcomes) == 2
        assert bob.node not in ada.routes.view.suspects


def _peer_addresses(end: Sidecar, model: str) -> tuple[str, ...]:
    candidates = end.routes.resolve(model, SystemClock().now_s()).candidates
    return candidates[0].peer_addresses if candidates else ()


def _in_flight(end: Sidecar, model: str) -> int:
    candidates = end.routes.resolve(model, SystemClock().now_s()).candidates
    return candidates[0].in_flight if candidates else -1


async def test_a_lost_sidecar_is_suspected_and_its_restart_serves_again(plane: Plane, tmp_path: Path) -> None:
    _, a_credential = await plane.node("ada")
    b, b_credential = await plane.node("bob")
    where = plane.control_address
    async with sidecar(tmp_path / "a", a_credential, where) as ada:
        async with sidecar(tmp_path / "b", b_credential, where) as bob:
            bob.has(inventory("llama"))
            await until(lambda: ada.sees("llama") == "ready")
        await until(lambda: b in ada.routes.view.suspects)
        assert ada.sees("llama") == "ready", "suspicion never excludes"
        async with sidecar(tmp_path / "b", b_credential, where) as bob:
            await until(lambda: ada.sees("llama") != "ready" and not ada.routes.view.suspects)
            bob.has(inventory("llama"))
            await until(lambda: ada.sees("llama") == "ready")


async def test_a_restart_of_the_control_plane_loses_nothing(tmp_path: Path) -> None:
    root = tmp_path / "founder"
    async with running_plane(root) as plane:
        _, a_credential = await plane.node("ada")
        _, b_credential = await plane.node("bob")
        where = plane.control_address
    port = parse_address(where)
    async with (
        sidecar(tmp_path / "a", a_credential, where) as ada,
        sidecar(tmp_path / "b", b_credential, where) as bob,
    ):
        bob.has(inventory("llama"))
        for _ in range(2):
            async with running_plane(root, address=port):
                await until(lambda: ada.stream.connected and bob.stream.connected)
                await until(lambda: ada.sees("llama") == "ready")
            await until(lambda: not ada.stream.connected)
            assert ada.sees("llama") == "ready", "the last good table serves on"


async def test_denials_are_durable_on_the_sidecar(plane: Plane, tmp_path: Path) -> None:
    _, a_credential = await plane.node("ada")
    b, _ = await plane.node("bob")
    async with sidecar(tmp_path / "a", a_credential, plane.control_address) as ada:
        await until(lambda: ada.stream.connected)
        stub: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
        await stub.Remove(node_pb2.RemoveNodeRequest(node=b))
        await until(lambda: ada.durable and b in ada.durable[-1].denied)
        assert b in ada.routes.view.table.denied


async def test_a_cloned_data_directory_is_told_so_and_the_original_serves_on(
    plane: Plane, tmp_path: Path
) -> None:
    _, credential = await plane.node("ada")
    where = plane.control_address
    async with sidecar(tmp_path / "one", credential, where) as original:
        await until(lambda: original.stream.connected)
        async with sidecar(tmp_path / "two", credential, where) as copy:
            await until(lambda: "another live process" in copy.stream.state()["reason"])
            assert not copy.stream.connected
        assert original.stream.connected


async def test_a_stopping_control_plane_ends_streams_without_alarm(plane: Plane, tmp_path: Path) -> None:
    _, credential = await plane.node("ada")
    seen: list[frozenset[NodeId]] = []
    plane.control.membership.subscribe(seen.append)
    async with sidecar(tmp_path / "a", credential, plane.control_address) as ada:
        await until(lambda: ada.stream.connected)
        await plane.control.drain()
        await until(lambda: not plane.control.sessions.open)
        await until(lambda: not ada.stream.connected)
        assert await plane.store.range("instances/") is not None
        assert not plane.control.mirror.below("instances/")
