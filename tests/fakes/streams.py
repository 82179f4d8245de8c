"""The sidecar's real control stream, with as much of a sidecar as takes part in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.control.certificate import NodeCertificate
from sidecar.control.inbox import Keeping
from sidecar.control.outbox import Facts
from sidecar.control.session import Host
from sidecar.control.stream import Addresses, ControlStream
from sidecar.routing.current import CurrentRoutes
from swarmplane.clock import SystemClock
from swarmplane.conditions import Condition
from swarmplane.credentials.files import Credential, save_credential
from swarmplane.ids import NodeId, SwarmId, random_id
from swarmplane.inventory import Inventory
from swarmplane.routes import RouteTable


@dataclass
class Sidecar:
    """What of a sidecar takes part in the control stream."""

    node: NodeId
    stream: ControlStream
    routes: CurrentRoutes
    found: Inventory = field(default_factory=Inventory)
    kept: list[RouteTable] = field(default_factory=list)
    durable: list[RouteTable] = field(default_factory=list)
    condition: Condition | None = None
    kept_addresses: Addresses = field(default_factory=lambda: Addresses((), ()))

    def has(self, found: Inventory) -> None:
        self.found = found
        self.routes.set_own(found)
        self.stream.wake()

    def sees(self, model: str) -> str:
        """ready, loading, absent… or unknown."""
        resolution = self.routes.resolve(model, SystemClock().now_s())
        return resolution.state if resolution.route is not None else "unknown"


@asynccontextmanager
async def sidecar(
    directory: Path, credential: Credential, address: str, *, routes: CurrentRoutes | None = None
) -> AsyncIterator[Sidecar]:
    """A control stream that runs; cut off at the end unless it was drained."""
    save_credential(directory, credential)
    node = NodeId(credential.facts().subject.name)
    routes = routes or CurrentRoutes(node)
    if not routes.view.table.swarm:
        routes.install(RouteTable(SwarmId(credential.facts().subject.swarm)))
    made: list[Sidecar] = []

    def soon(table: RouteTable) -> None:
        made[0].kept.append(table)

    async def durably(table: RouteTable) -> None:
        made[0].durable.append(table)

    async def remember(addresses: Addresses, node_name: str, swarm_name: str) -> None:
        assert addresses.control
        assert node_name
        assert swarm_name == "test"

    async def recall() -> Addresses:
        return made[0].kept_addresses

    stream = ControlStream(
        Host(node, random_id(), ("127.0.0.1:1",), "0", "test", "http://127.0.0.1:2"),
        Addresses((address,), ()),
        Facts(routes, lambda: made[0].found, tuple, lambda: made[0].condition),
        Keeping(soon, durably, str),
        NodeCertificate(directory, lambda: None),
        remember,
        recall,
        SystemClock(),
    )
    made.append(Sidecar(node, stream, routes))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(stream.run())
        try:
            yield made[0]
        finally:
            task.cancel()
