"""A host whose address changes while it runs is reached again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.process.reach import Reach
from sidecar.process.roaming import Roaming
from swarmplane.addresses import Address
from swarmplane.errors import UnavailableError
from tests.fakes.authority import until
from tests.fakes.dataplane import TestSwarm, bound, running_node

HOME = Reach(Address("10.0.0.5", 11403), ("10.0.0.5",))
AWAY = Reach(Address("10.9.0.7", 11403), ("10.9.0.7",))


class Network:
    """Where the host is, and where it moved."""

    def __init__(self) -> None:
        self.now: Reach | None = HOME
        self.moves: list[Reach] = []
        self.failures = 0

    async def find(self) -> Reach | None:
        return self.now

    async def move(self, to: Reach) -> None:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("the address is not ours yet")
        self.moves.append(to)


async def test_it_moves_once_when_the_address_changed() -> None:
    network = Network()
    roaming = Roaming(HOME, network.find, network.move)
    await roaming.look()
    network.now = None
    await roaming.look()
    assert network.moves == [], "no way to the control plane is no reason to move"
    network.now = AWAY
    await roaming.look()
    await roaming.look()
    assert network.moves == [AWAY]


async def test_what_fails_is_tried_again() -> None:
    network = Network()
    network.now, network.failures = AWAY, 1
    roaming = Roaming(HOME, network.find, network.move)
    await roaming.look()
    assert network.moves == []
    await roaming.look()
    assert network.moves == [AWAY]


@pytest.mark.parametrize("asked", [True, False])
async def test_it_looks_when_asked_and_from_time_to_time(*, asked: bool) -> None:
    network = Network()
    roaming = Roaming(HOME, network.find, network.move, look_s=30 if asked else 0.05)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(roaming.run())
        network.now = AWAY
        if asked:
            roaming.look_soon()
        await until(lambda: network.moves == [AWAY])
        running.cancel()


async def test_the_peer_listener_moves(tmp_path: Path) -> None:
    async with running_node("a", {}, swarm=TestSwarm(tmp_path)) as node:
        new = bound()
        port = new.getsockname()[1]
        await node.plane.serve_peer(new)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", node.peer_port)
