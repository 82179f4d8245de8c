"""An instance's parts, built once and handed down."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from controlplane.console.metrics import Figures
from controlplane.console.server import Console
from controlplane.process.daily import DailyBackups
from controlplane.process.store_page import store_page
from controlplane.process.storing import OpenStore
from controlplane.process.upkeep import Upkeep
from controlplane.process.whereabouts import Addresses, Whereabouts
from controlplane.rpc.alias import register_aliases
from controlplane.rpc.key import register_keys
from controlplane.rpc.peer import PeerLinks
from controlplane.rpc.policy import register_policies
from controlplane.rpc.register import register_control
from controlplane.rpc.register_authority import register_authority
from controlplane.rpc.server import LiveCertificate, RpcServers
from controlplane.services import keyspace
from controlplane.services.aliases import Aliases
from controlplane.services.authority import SwarmAuthority
from controlplane.services.callers import Callers
from controlplane.services.client_keys import ClientKeys
from controlplane.services.control import ControlPolicy, ControlService
from controlplane.services.denials import Denials
from controlplane.services.enrolment import Enrolment
from controlplane.services.instances import InstanceFacts
from controlplane.services.known import KnownStore
from controlplane.services.leadership import Leadership
from controlplane.services.measured_store import MeasuredStore
from controlplane.services.mirror import Mirror
from controlplane.services.mutations import Mutations
from controlplane.services.policies import Policies
from controlplane.services.renewal import Renewal
from controlplane.services.tokens import Tokens
from controlplane.settings import ListenPolicy, local_address, told_addresses
from controlplane.store.port import Compare, Store
from swarmplane.clock import Clock
from swarmplane.codec import records
from swarmplane.credentials.files import Credential
from swarmplane.datadir import DataDir
from swarmplane.errors import SwarmError
from swarmplane.ids import InstanceId, NodeId, random_id
from swarmplane.settings.schema import Settings

Run = Callable[[], Coroutine[Any, Any, None]]
_STORE_SAYS_S: Final = 1.0
"""How long metrics wait for the store's newest revision."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that runs."""

    instance_id: InstanceId
    authority: SwarmAuthority
    denials: Denials
    certificate: LiveCertificate
    servers: RpcServers
    services: tuple[str, ...]
    """Full names of those on the control listener."""
    console: Console
    control: ControlService
    runs: tuple[tuple[str, Run], ...]
    """Tasks by name, in order of their start."""


def build(
    settings: Settings,
    listening: ListenPolicy,
    data_dir: DataDir,
    opened: OpenStore,
    authority: SwarmAuthority,
    credential: Credential,
    clock: Clock,
) -> Parts:
    """Put an instance together and take its gRPC ports; nothing serves yet.

    Raises:
        UnavailableError: A port is taken.
    """
    measured = MeasuredStore(opened.store)
    mirror = Mirror(measured, clock)
    callers = Callers(KnownStore(measured, mirror, clock), authority.swarm, mirror)
    denials = Denials(measured, clock)
    mutations = Mutations(measured, authority.secret, time.time)
    tokens = Tokens(measured, authority, mutations, time.time)
    certificate = LiveCertificate(credential)
    servers = RpcServers(certificate, callers, denials)
    servers.bind(listening.control, listening.join)
    where = Whereabouts(partial(_told, servers, listening), clock)
    instance = _facts(authority, servers, where, certificate, alone=opened.etcd is None)
    control = ControlService(
        measured, clock, ControlPolicy.of(settings), instance, mutations, unix_s=time.time, mirror=mirror
    )
    services = register_authority(
        servers,
        enrolment=Enrolment(measured, authority, tokens, mutations, time.time),
        renewal=Renewal(authority, callers, time.time),
        tokens=tokens,
        control_addresses=lambda: control.instances.addresses().control_addresses,
        join_addresses=control.instances.join_addresses,
    )
    services += register_control(servers.control, control)
    services += _register_wishes(servers, measured, mutations, control)
    guards = partial(_guards, control.leadership)
    upkeep = Upkeep(measured, authority, data_dir, certificate, clock=clock, unix_s=time.time, guards=guards)
    backups = DailyBackups.of(settings, data_dir, authority, clock)
    figures = partial(_figures, instance, control, measured)
    console = Console(figures, _unready(measured), store_page(opened, control, backups))
    runs = (
        *_runs(denials, upkeep, control, certificate, clock),
        ("whereabouts", where.run),
        *backups.runs(alone=opened.etcd is None),
    )
    return Parts(instance.id, authority, denials, certificate, servers, services, console, control, runs)


def _register_wishes(
    servers: RpcServers, store: MeasuredStore, mutations: Mutations, control: ControlService
) -> tuple[str, ...]:
    """The services of what people set: policies, aliases, API keys."""
    return (
        *register_policies(servers.control, Policies(store, mutations)),
        *register_aliases(servers.control, Aliases(store, mutations, control.catalog)),
        *register_keys(servers.control, ClientKeys(store, mutations, time.time)),
    )


def _runs(
    denials: Denials, upkeep: Upkeep, control: ControlService, certificate: LiveCertificate, clock: Clock
) -> tuple[tuple[str, Run], ...]:
    links = PeerLinks(control.exchange, lambda: certificate.credential, clock)
    return (
        ("denials", denials.run),
        ("upkeep", upkeep.run),
        ("control", control.run),
        ("peers", links.run),
    )


def _guards(leadership: Leadership) -> tuple[Compare, ...] | None:
    return (leadership.guard,) if leadership.leading else None


def _told(servers: RpcServers, listening: ListenPolicy) -> tuple[Addresses, Addresses]:
    return (
        told_addresses(servers.control_bound, listening.advertise),
        told_addresses(servers.join_bound, listening.advertise),
    )


def _facts(
    authority: SwarmAuthority,
    servers: RpcServers,
    where: Whereabouts,
    certificate: LiveCertificate,
    *,
    alone: bool,
) -> InstanceFacts:
    return InstanceFacts(
        id=InstanceId(random_id()),
        swarm=authority.swarm,
        swarm_name=authority.name,
        software_version=version("swarmplane"),
        # Loopback is told only where nothing else is: then all of the swarm is on this machine.
        control_addresses=lambda: where.control or (local_address(servers.control_bound),),
        join_addresses=lambda: where.join,
        prefix_key=authority.secret.prefix_key(),
        local_join=local_address(servers.join_bound),
        called=lambda: certificate.subject.name,
        alone=alone,
    )


async def _figures(instance: InstanceFacts, control: ControlService, store: MeasuredStore) -> Figures:
    try:
        async with asyncio.timeout(_STORE_SAYS_S):
            newest = await store.revision()
    except (SwarmError, TimeoutError):
        newest = None
    states: Counter[str] = Counter()
    for name, kv in control.mirror.below(keyspace.NODES).items():
        record = records.parse(records.Node, kv.value)
        states[control.membership.standing(NodeId(name), record).value] += 1
    seen = control.mirror.revision
    return Figures(
        instance.software_version,
        states,
        leader=control.leads,
        streams=len(control.sessions.open),
        nacks=control.nacks,
        pushes=control.pushes.sent,
        answered=control.answered,
        revision=seen,
        behind=None if newest is None else max(newest - seen, 0),
        store=store.durations,
    )


def _unready(store: Store) -> Callable[[], Awaitable[str]]:
    async def reason() -> str:
        try:
            await store.get(keyspace.SWARM)
        except SwarmError as error:
            return error.message
        return ""

    return reason
