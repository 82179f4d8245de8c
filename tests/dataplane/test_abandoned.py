"""Requests that are abandoned in every phase leave nothing behind: no entry, no slot, no place, no byte.

Who leaves: the client, the backend, the owner of a hop. Mutants that these tests killed: no cancel when the
client's connection ends; a half-read body kept; the place in the line kept; the count at the endpoint kept;
the reaper blind for entries, for slots with a lease, and for slots without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.dataplane.connection import ClientConnection
from sidecar.dataplane.owner_queue import OwnerQueues
from tests.fakes.backend import Behaviour, FakeBackend, running_backend
from tests.fakes.dataplane import (
    CHAT,
    STREAM,
    Client,
    Node,
    Served,
    TestSwarm,
    black_hole,
    client,
    eventually,
    request,
    running_node,
)

Body = dict[str, Any]
HANG = Behaviour(hang=True)
PHASES = [
    pytest.param(STREAM, "chunks=2000;interval_s=0.01", True, id="streaming"),
    pytest.param(CHAT, "hang=1", False, id="before-the-first-byte"),
    pytest.param(CHAT, "size=60000;pieces=600;interval_s=0.02", False, id="collecting-a-whole-answer"),
    pytest.param(STREAM, "chunks=5;interval_s=30;comments=3", False, id="comments-only"),
]


def left(node: Node) -> dict[str, int]:
    """What a plane holds for requests; all of it must be 0."""
    plane = node.plane
    lines = {id(line): line for line in plane.owner.lines.values()}.values()
    return {
        "active": len(plane.active),
        "buffered": plane.buffered_bytes,
        "retrying": plane.retrying,
        "retry_line": len(plane.retry_line),
        "in_flight": sum(node.routes.in_flight(endpoint) for endpoint in _endpoints(node)),
        "waiting": sum(len(line.waiting) + line.queue.waiting for line in lines),
        "slots": sum(len(line.places) + len(line.freely) for line in lines),
    }


def _endpoints(node: Node) -> set[Any]:
    return {end.id for route in node.routes.view.models.values() for end in route.endpoints}


async def nothing_is_left(*nodes: Node, reaped: int = 0) -> None:
    def clean() -> bool:
        return not any(value for node in nodes for value in left(node).values())

    try:
        await eventually(clean, "nothing is left", within_s=20)
    except AssertionError:
        pytest.fail(f"left: {[left(node) for node in nodes]}")
    assert sum(node.plane.counters.reaped for node in nodes) == reaped


async def asked(backend: FakeBackend, count: int = 1) -> None:
    await eventually(lambda: len(backend.asked) >= count, "the backend was asked")


async def came(one: Client, body: Body, fake: str, *, streams: bool, backend: FakeBackend) -> None:
    """Bring a request into its phase."""
    one.post(body, x_fake=fake)
    await asked(backend)
    if streams:
        await one.head()
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(("body", "fake", "streams"), PHASES)
@pytest.mark.parametrize("slots", [0, 1])
async def test_the_client_leaves(
    backend: FakeBackend, body: Body, fake: str, streams: bool, slots: int
) -> None:
    async with running_node(served={"one": Served(backend, slots=slots)}) as node:
        async with client(node) as one:
            await came(one, body, fake, streams=streams, backend=backend)
        await nothing_is_left(node)
        await eventually(lambda: not backend.running, "the backend is left in peace")


@pytest.mark.parametrize(("body", "fake", "streams"), PHASES)
@pytest.mark.parametrize("slots", [0, 1])
async def test_the_client_leaves_at_the_other_end_of_a_hop(
    swarm: TestSwarm, backend: FakeBackend, body: Body, fake: str, streams: bool, slots: int
) -> None:
    async with (
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend, slots=slots)}, swarm=swarm) as b,
    ):
        swarm.connect()
        async with client(a) as one:
            await came(one, body, fake, streams=streams, backend=backend)
        await nothing_is_left(a, b)
        await eventually(lambda: not backend.running, "the backend is left in peace")


@pytest.mark.parametrize(("body", "fake", "streams"), PHASES)
async def test_the_backend_goes(backend: FakeBackend, body: Body, fake: str, streams: bool) -> None:
    async with (
        running_node(served={"one": Served(backend, slots=1)}) as node,
        client(node) as one,
    ):
        await came(one, body, fake, streams=streams, backend=backend)
        await backend.stop()
        await nothing_is_left(node)


@pytest.mark.parametrize(("body", "fake", "streams"), PHASES)
async def test_the_owner_goes(
    swarm: TestSwarm, backend: FakeBackend, body: Body, fake: str, streams: bool
) -> None:
    """B cuts all its connections, as a killed process does; A and B both forget the request."""
    async with (
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend)}, swarm=swarm) as b,
        client(a) as one,
    ):
        swarm.connect()
        await came(one, body, fake, streams=streams, backend=backend)
        for connection in tuple(b.plane.connections):
            connection.transport.abort()
        b.plane.close()
        await nothing_is_left(a, b)


async def leaves_while(node: Node, others: tuple[Node, ...], check: Callable[[], object]) -> None:
    """A client asks ``node``, and leaves once ``check`` says that its request is where it should be."""
    async with client(node) as one:
        one.post(CHAT)
        await eventually(check, "the phase is reached")
    await nothing_is_left(node, *others)


async def test_while_connecting_to_a_backend() -> None:
    async with black_hole() as port, running_node(served={"one": Served(port)}) as node:
        await leaves_while(node, (), lambda: node.plane.active)


async def test_while_connecting_to_an_owner(swarm: TestSwarm, backend: FakeBackend) -> None:
    async with (
        black_hole() as port,
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend)}, swarm=swarm) as b,
    ):
        b.peer_port = port
        swarm.connect()
        await leaves_while(a, (b,), lambda: a.plane.active)


async def test_while_queued_here(backend: FakeBackend) -> None:
    backend.default = HANG
    async with running_node(served={"one": Served(backend, slots=1)}) as node:
        async with client(node) as first:
            first.post(CHAT)
            await asked(backend)
            async with client(node) as second:
                second.post(CHAT)
                await eventually(lambda: left(node)["waiting"], "it waits")
            await eventually(lambda: not left(node)["waiting"], "its place is free")
            assert left(node)["slots"] == 1
        await nothing_is_left(node)


async def test_while_queued_at_an_owner(swarm: TestSwarm, backend: FakeBackend) -> None:
    backend.default = HANG
    async with (
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend, slots=1)}, swarm=swarm) as b,
    ):
        swarm.connect()
        async with client(a) as first:
            first.post(CHAT)
            await asked(backend)
            async with client(a) as second:
                second.post(CHAT)
                await eventually(lambda: left(b)["waiting"], "it waits at B")
            await eventually(lambda: not left(b)["waiting"], "its place is free")
        await nothing_is_left(a, b)


async def test_while_moving_to_an_idle_owner(swarm: TestSwarm, backend: FakeBackend) -> None:
    """It waits at B until C serves too; wherever the move is when the client leaves, nothing is left."""
    backend.default = HANG
    async with (
        running_backend(default=HANG) as other,
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend, slots=1)}, swarm=swarm) as b,
        running_node("c", {"two": Served(other, slots=1)}, swarm=swarm) as c,
    ):
        swarm.connect()
        async with client(a) as first, client(a) as second:
            first.post(CHAT)
            second.post(CHAT)
            await eventually(lambda: backend.running + other.running == 2, "both run")
            async with client(a) as third:
                third.post(CHAT)
                await eventually(lambda: left(b)["waiting"] + left(c)["waiting"], "the third waits")
                first.abort()
                await asyncio.sleep(0.03)
        await nothing_is_left(a, b, c)


@pytest.mark.parametrize("reset", [False, True])
async def test_while_its_body_arrives(node: Node, reset: bool) -> None:
    async with client(node) as one:
        whole = request({**CHAT, "padding": "x" * 200_000})
        one.send(whole[:100_000])
        await eventually(lambda: node.plane.buffered_bytes > 50_000, "a part of the body is there")
        one.abort() if reset else one.close()
        await nothing_is_left(node)


async def test_while_its_body_waits_for_an_owners_consent(swarm: TestSwarm, backend: FakeBackend) -> None:
    """A body over 64 KB crosses the hop only when the owner says so; the client leaves before."""
    backend.default = HANG
    async with (
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend, slots=1)}, swarm=swarm) as b,
    ):
        swarm.connect()
        async with client(a) as one:
            one.post({**CHAT, "padding": "x" * 200_000})
            await eventually(lambda: a.plane.active, "it is on its way")
        await nothing_is_left(a, b)


async def test_while_a_retry_waits_for_its_turn(backend: FakeBackend) -> None:
    backend.default = Behaviour(reset_at=0)
    async with (
        running_backend(default=Behaviour(reset_at=0)) as other,
        running_node(served={"one": Served(backend), "two": Served(other)}, draw=lambda: 0.999) as node,
    ):
        await leaves_while(node, (), lambda: backend.asked or other.asked)


# -- what only the reaper can put right -------------------------------------------------------------------


async def test_an_entry_that_a_defect_lost_is_reaped_and_counted(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The defect: a connection ends, and its request is not cancelled."""
    backend.default = HANG
    monkeypatch.setattr(ClientConnection, "_leave", lambda _: None)
    async with running_node(served={"one": Served(backend, slots=1)}) as node:
        async with client(node) as one:
            one.post(CHAT)
            await asked(backend)
        await asyncio.sleep(0.1)
        assert (left(node)["active"], left(node)["slots"]) == (1, 1), "lost"
        await nothing_is_left(node, reaped=1)
        await eventually(lambda: not backend.running, "the backend is left in peace")


@pytest.mark.parametrize("another_waits", [False, True])
async def test_a_slot_that_a_defect_lost_is_reaped_and_counted(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, another_waits: bool
) -> None:
    """The defect: an ended request keeps its slot. Who waits for it is served once it is reaped."""
    keep = OwnerQueues.leave
    async with running_node(served={"one": Served(backend, slots=1)}) as node, client(node) as one:
        monkeypatch.setattr(OwnerQueues, "leave", lambda *_, **__: None)
        assert (await one.ask(CHAT)).status == 200
        assert (left(node)["active"], left(node)["slots"]) == (0, 1), "lost"
        monkeypatch.setattr(OwnerQueues, "leave", keep)
        if another_waits:
            assert (await one.ask(CHAT)).status == 200
        await nothing_is_left(node, reaped=1)
