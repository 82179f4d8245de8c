"""A whole control plane in this process on real sockets, and the far end of its streams as tests drive it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc

from controlplane.rpc.alias import register_aliases
from controlplane.rpc.key import register_keys
from controlplane.rpc.policy import register_policies
from controlplane.rpc.register import register_control
from controlplane.rpc.register_authority import register_authority
from controlplane.rpc.server import LiveCertificate, RpcServers
from controlplane.services.aliases import Aliases
from controlplane.services.authority import SwarmAuthority
from controlplane.services.callers import Callers
from controlplane.services.client_keys import ClientKeys
from controlplane.services.control import ControlPolicy, ControlService
from controlplane.services.denials import Denials
from controlplane.services.enrolment import Enrolment
from controlplane.services.founding import open_or_found
from controlplane.services.instances import InstanceFacts
from controlplane.services.mirror import Mirror
from controlplane.services.mutations import Mutations
from controlplane.services.own_credentials import own_credential
from controlplane.services.policies import Policies
from controlplane.services.renewal import Renewal
from controlplane.services.tokens import Tokens
from controlplane.store.embedded import EmbeddedStore
from swarmplane import features
from swarmplane.addresses import Address
from swarmplane.clock import Clock, SystemClock
from swarmplane.codec.inventory import inventory_to_pb
from swarmplane.codec.policies import policy_from_pb
from swarmplane.codec.table import model_route_from_pb, node_entry_from_pb
from swarmplane.codec.version import version_from_pb, version_to_pb
from swarmplane.credentials.files import Credential
from swarmplane.credentials.names import Profile
from swarmplane.datadir import DataDir
from swarmplane.ids import BackendName, InstanceId, ModelName, NodeId, SwarmId, random_id
from swarmplane.inventory import Backend, BackendModel, Inventory, ModelState
from swarmplane.policies import Policy
from swarmplane.routes import RouteDelta, RouteTable, Version, apply_delta
from swarmplane.v1 import sidecar_pb2 as pb
from swarmplane.v1 import sidecar_pb2_grpc
from tests.fakes.authority import ANY_PORT, Instance, WallClock, until

SWARM = SwarmId("test")
LATER = tuple(feature for feature in features.ALL if feature != features.INVENTORY_FIRST)
"""Of a sidecar that says what it has after its Welcome."""


def inventory(*models: str, state: ModelState = ModelState.LOADED, healthy: bool = True) -> Inventory:
    """What a node with one backend has."""
    found = tuple(BackendModel(name, state=state, context_length=4096) for name in models)
    return Inventory((Backend(BackendName("engine"), "openai", healthy, models=found, slots=2),), 2**34, 8)


@dataclass
class SidecarEnd:
    """A sidecar's end of one stream; answers updates by itself unless told otherwise."""

    node: NodeId
    call: Any
    answers: bool = True
    table: RouteTable = field(default_factory=lambda: RouteTable(SWARM))
    policy: Policy | None = None
    welcome: pb.Welcome | None = None
    suspects: frozenset[str] = frozenset()
    draining: bool = False
    loads: list[pb.EndpointLoad] = field(default_factory=list)
    conditions: list[pb.NodeCondition] = field(default_factory=list)
    prefixes: list[pb.EndpointPrefixes] = field(default_factory=list)
    updates: list[pb.RouteUpdate] = field(default_factory=list)
    instances: pb.Instances | None = None
    last_word: pb.ControlMessage | None = None
    ended: bool = False
    status: grpc.StatusCode | None = None
    refuse: str = ""
    """A reason to refuse the next update for."""
    _parts: list[pb.RouteUpdate] = field(default_factory=list)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def send(self, **message: Any) -> None:
        """One message."""
        async with self._writing:
            await self.call.write(pb.SidecarMessage(**message))

    async def beat(self) -> None:
        await self.send(heartbeat=pb.Heartbeat(sequence=1))

    async def has(self, found: Inventory) -> None:
        """Say what this node has."""
        await self.send(inventory=inventory_to_pb(found))

    async def goodbye(self) -> None:
        await self.send(goodbye=pb.Goodbye(reason="test"))
        await until(lambda: self.ended)

    async def knows(self, model: str, endpoints: int) -> None:
        """Wait until the table has so many ready endpoints of ``model``."""
        await until(lambda: self.ready(model) == endpoints)

    def ready(self, model: str) -> int:
        """Ready endpoints of ``model``; -1 where the name is unknown."""
        route = self.table.models.get(ModelName(model))
        return -1 if route is None else sum(e.ready and not e.draining for e in route.endpoints)

    @property
    def rows(self) -> int:
        """Rows that came in updates so far."""
        return sum(
            len(u.models) + len(u.nodes) + len(u.removed_models) + len(u.removed_nodes) for u in self.updates
        )

    async def read(self) -> None:
        """Take in everything until the stream ends."""
        try:
            while isinstance(message := await self.call.read(), pb.ControlMessage):
                await self._take(message)
            self.status = await self.call.code()
        except grpc.aio.AioRpcError as error:
            self.status = error.code()
        except asyncio.CancelledError:
            if not self.call.cancelled():
                raise
        self.ended = True

    async def _take(self, message: pb.ControlMessage) -> None:
        match message.WhichOneof("kind"):
            case "welcome":
                self.welcome = message.welcome
            case "route_update":
                self.updates.append(message.route_update)
                self._parts.append(message.route_update)
                if not message.route_update.more:
                    await self._apply(message.route_update)
            case "policy_update":
                self.policy = policy_from_pb(message.policy_update)
                if self.answers:
                    await self.ack(self.policy.version, message.policy_update.nonce)
            case "suspicion":
                self.suspects = frozenset(message.suspicion.node_ids)
            case "drain":
                self.draining = message.drain.draining
            case "load_digest":
                self.loads.extend(message.load_digest.endpoints)
            case "condition_digest":
                self.conditions.extend(message.condition_digest.nodes)
            case "prefix_digest":
                self.prefixes.extend(message.prefix_digest.endpoints)
            case "instances":
                self.instances = message.instances
            case _:
                self.last_word = message

    async def _apply(self, last: pb.RouteUpdate) -> None:
        parts, self._parts = self._parts, []
        if self.refuse:
            reason, self.refuse = self.refuse, ""
            nack = pb.Nack(version=version_to_pb(self.table.version), nonce=last.nonce, reason=reason)
            await self.send(nack=nack)
            return
        models = tuple(model_route_from_pb(row) for part in parts for row in part.models)
        nodes = tuple(node_entry_from_pb(row) for part in parts for row in part.nodes)
        version = version_from_pb(last.version)
        if last.snapshot:
            self.table = RouteTable(SWARM, version, {m.name: m for m in models}, {n.id: n for n in nodes})
        else:
            no_models = tuple(ModelName(name) for part in parts for name in part.removed_models)
            no_nodes = tuple(NodeId(name) for part in parts for name in part.removed_nodes)
            self.table = apply_delta(self.table, RouteDelta(version, models, no_models, nodes, no_nodes))
        if self.answers:
            await self.ack(version, last.nonce)

    async def ack(self, version: Version, nonce: int) -> None:
        await self.send(ack=pb.Ack(version=version_to_pb(version), nonce=nonce))


@dataclass
class Plane(Instance):
    """An instance with its control service."""

    control: ControlService = field(kw_only=True)

    async def node(self, name: str) -> tuple[NodeId, Credential]:
        """Enrol a node over the ordinary path."""
        credential = await self.member("node", name=name)
        subject = credential.facts().subject
        assert subject.profile is Profile.NODE
        return NodeId(subject.name), credential

    @asynccontextmanager
    async def stream(
        self,
        credential: Credential,
        *,
        incarnation: str = "",
        resume: RouteTable | None = None,
        answers: bool = True,
        speaks: tuple[str, ...] = LATER,
        first: Inventory | None = None,
        node: NodeId | None = None,
        welcomed: bool = True,
        reads: bool = True,
    ) -> AsyncIterator[SidecarEnd]:
        """A stream of the node with ``credential``, from Hello on; cut off at the end.

        ``first`` is what the node has, said right after Hello.
        """
        node = node or NodeId(credential.facts().subject.name)
        channel = await self.channel(credential)
        call: Any = sidecar_pb2_grpc.SidecarServiceStub(channel).Connect()
        end = SidecarEnd(node, call, answers)
        if resume is not None:
            end.table = replace(resume, swarm=SWARM)
        hello = pb.Hello(
            node_id=node,
            incarnation=incarnation or random_id(),
            last_version=version_to_pb(end.table.version),
            features=speaks,
            peer_addresses=[f"10.0.0.1:{1000 + len(node)}"],
            software_version="1.2.3",
            platform="test-x",
            client_url="http://127.0.0.1:1",
        )
        if first is not None:
            hello.features.append(features.INVENTORY_FIRST)
        await call.write(pb.SidecarMessage(hello=hello))
        if first is not None:
            await call.write(pb.SidecarMessage(inventory=inventory_to_pb(first)))
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(end.read() if reads else asyncio.sleep(0))
            try:
                if welcomed and reads:
                    await until(lambda: end.updates or end.ended)
                    assert end.welcome is not None, end.last_word
                yield end
            finally:
                call.cancel()
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reading


@asynccontextmanager
async def running_plane(
    root: Path,
    *,
    clock: Clock | None = None,
    policy: ControlPolicy | None = None,
    address: Address = ANY_PORT,
) -> AsyncIterator[Plane]:
    """A control plane on free ports; entering again with the same ``root`` is a restart."""
    clock, wall, data_dir = clock or SystemClock(), WallClock(), DataDir(root)
    data_dir.control_plane.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with EmbeddedStore.open(data_dir.control_plane / "store.db", clock=clock) as store:
        authority = await open_or_found(store, data_dir, swarm_name="test", unix_s=wall)
        certificate = LiveCertificate(own_credential(authority, data_dir, wall()))
        mirror = Mirror(store, clock)
        callers, denials = Callers(store, authority.swarm, mirror), Denials(store, SystemClock())
        servers = RpcServers(certificate, callers, denials)
        servers.bind(address, ANY_PORT)
        mutations = Mutations(store, authority.secret, wall)
        tokens = Tokens(store, authority, mutations, wall)
        enrolment = Enrolment(store, authority, tokens, mutations, wall)
        figures = policy or ControlPolicy()
        control = _control(store, clock, figures, authority, servers, mutations, wall, mirror)
        services = register_authority(
            servers,
            enrolment=enrolment,
            renewal=Renewal(authority, callers, wall),
            tokens=tokens,
            control_addresses=tuple,
            join_addresses=tuple,
        )
        services += register_control(servers.control, control)
        services += register_policies(servers.control, Policies(store, mutations))
        services += register_aliases(servers.control, Aliases(store, mutations, control.catalog))
        services += register_keys(servers.control, ClientKeys(store, mutations, wall))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(denials.run()), group.create_task(control.run())]
            await denials.loaded.wait()
            await control.mirror.loaded.wait()
            await servers.start(services)
            plane = Plane(
                store, data_dir, authority, servers, certificate, denials, wall, services,
                enrolment, tokens, mutations, control=control,
            )  # fmt: skip
            try:
                yield plane
            finally:
                await plane.close()
                for task in tasks:
                    task.cancel()


def _control(
    store: EmbeddedStore,
    clock: Clock,
    policy: ControlPolicy,
    authority: SwarmAuthority,
    servers: RpcServers,
    mutations: Mutations,
    wall: WallClock,
    mirror: Mirror,
) -> ControlService:
    def addresses() -> tuple[str, ...]:
        return (str(servers.control_bound),)

    facts = InstanceFacts(
        InstanceId(random_id()),
        authority.swarm,
        authority.name,
        "0",
        addresses,
        addresses,
        prefix_key=authority.secret.prefix_key(),
    )
    return ControlService(store, clock, policy, facts, mutations, unix_s=wall, mirror=mirror)
