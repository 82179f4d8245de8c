"""One life of a sidecar: bind, build, serve, say so, and stop in order."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import structlog

from sidecar.backends.finder import Finder
from sidecar.backends.hardware import Hardware
from sidecar.engines.supervisor import EngineSupervisor
from sidecar.process.arguments import Arguments
from sidecar.process.examining import Examination
from sidecar.process.parts import Listeners, Parts, backends_of, host_name, join_parts, telemetry_of
from sidecar.process.reach import LOOPBACK, Reach, find_reach, find_source
from sidecar.process.roaming import Roaming
from sidecar.process.services import Service, Stop, serve
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.history_file import HistoryKeeper, load_history
from sidecar.settings import ListenPolicy
from swarmplane.addresses import Address, parse_address
from swarmplane.clock import SystemClock
from swarmplane.datadir import DataDir
from swarmplane.ids import NodeId
from swarmplane.lifeline import on_hangup, on_signals, watch_lifeline
from swarmplane.listening import bound_address, listening_socket
from swarmplane.open_files import raise_open_files
from swarmplane.ports import PEER_PORT
from swarmplane.runtime import remove_ready, write_ready
from swarmplane.settings.load import load
from swarmplane.settings.schema import Settings

if TYPE_CHECKING:
    from sidecar.dataplane.server import DataPlane
    from sidecar.process.membership import Membership
    from swarmplane.identity import NodeRecord

log: structlog.stdlib.BoundLogger = structlog.get_logger()

COLLECT_EVERY: Final = 20_000
"""Allocations between two looks for young cycles; about every thousand requests."""
NEIGHBOURS_FIRST_S: Final = 0.3
"""From the goodbye to the control plane until we refuse: neighbours hear of it meanwhile."""
SPARE_FILES: Final = 1_024
"""Open files beside those of clients: upstream connections that are kept, logs, listeners."""
FIRST_LOOK_S: Final = 3.0
"""How long readiness waits for every backend's first check."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where this sidecar listens and what it tells others."""

    listeners: Listeners
    peer: socket.socket | None
    """None on a host that joined no swarm."""
    advertised: tuple[str, ...]
    reach: Reach | None = None
    """What ``peer`` and ``advertised`` follow from."""

    @property
    def client_url(self) -> str:
        """For people: loopback unless it listens at one other address."""
        first = bound_address(self.listeners.client[0])
        host = LOOPBACK if first.unspecified else first.host
        return f"http://{Address(host, first.port)}"


async def live(settings: Settings, arguments: Arguments) -> None:
    """Run a sidecar until a signal or the end of the lifeline.

    Raises:
        SwarmError: It could not start; the message says what to do.
        ExceptionGroup: A part failed.
    """
    _raise_limits(settings)
    data_dir = DataDir(arguments.data_dir)
    loop = asyncio.get_running_loop()
    stop = Stop(asyncio.Event(), asyncio.Event())
    with ExitStack() as closing:
        record = await _record(data_dir)
        places = await _bind(settings, arguments, record, closing)
        parts = await _build(
            settings, data_dir, record, places, lambda: load(arguments.data_dir, arguments.overrides)
        )
        on_signals(loop, stop.ask)
        on_hangup(loop, parts.reloader.ask)
        if arguments.lifeline_fd is not None:
            watch_lifeline(loop, arguments.lifeline_fd, stop.ask)
        closing.callback(remove_ready, data_dir, "sidecar")

        async def started() -> None:
            await _start(parts, places, data_dir)

        services = (*services_of(parts), Service("settings", parts.reloader.run))
        if record is not None and places.reach is not None and not settings.node.advertise:
            roaming = roaming_of(settings, record.control_addresses, parts, places, data_dir, closing)
            services = (*services, Service("reach", roaming.run))
        if parts.membership is not None:
            services = (*services, relearning_service(settings, parts, parts.membership, data_dir))
        if parts.membership is not None and settings.discovery.mdns:
            services = (
                *services,
                presence_service(settings, parts.membership, parts.plane, places, data_dir),
            )
        await serve(services, stop=stop, started=started)
        log.info("sidecar.stopped")


def _raise_limits(settings: Settings) -> None:
    """As many open files as we may have; said aloud where that is fewer than the settings promise clients."""
    limit, needed = raise_open_files(), settings.client.max_connections + SPARE_FILES
    if limit is not None and limit < needed:
        log.warning(
            "files.few", limit=limit, needed=needed, hint="raise `ulimit -Hn`, or LimitNOFILE of the service"
        )


async def _record(data_dir: DataDir) -> NodeRecord | None:
    if not (data_dir.node / "cert.pem").exists():
        return None
    from sidecar.process.membership import read_identity

    return await read_identity(data_dir)


async def _bind(
    settings: Settings, arguments: Arguments, record: NodeRecord | None, closing: ExitStack
) -> Places:
    policy = ListenPolicy.of(settings)
    listeners = Listeners.bind(policy, arguments.client_fds, closing)
    if record is None:
        return Places(listeners, None, ())
    reach = await find_reach(
        listen=policy.peer,
        default_port=PEER_PORT,
        advertise=settings.node.advertise,
        control=record.control_addresses,
        lan=settings.node.lan,
    )
    peer = closing.enter_context(listening_socket(reach.bind, flag="--peer-listen"))
    return Places(listeners, peer, reach.advertised(bound_address(peer).port), reach)


async def _build(
    settings: Settings,
    data_dir: DataDir,
    record: NodeRecord | None,
    places: Places,
    read: Callable[[], Settings],
) -> Parts:
    clock, registry, software = SystemClock(), backends_of(settings), version("swarmplane")
    engines = EngineSupervisor(settings.engine, data_dir, registry, clock)
    routes = CurrentRoutes(
        NodeId(record.node_id) if record is not None else None,
        node_name=record.node_name if record is not None else host_name(settings),
        clock=clock.now_s,
    )
    known = await asyncio.to_thread(
        load_history, data_dir.history, routes.balancer.history, clock.now_s(), time.time()
    )
    if known:
        log.info("history.loaded", entries=known)
    membership = None
    if record is not None:
        from sidecar.process.membership import Here, become_member

        here = Here(
            data_dir, clock, routes, registry, engines, places.advertised, places.client_url, software
        )
        membership = await become_member(record, here)
    node = record.node_id if record is not None else routes.view.own_name
    hardware = Hardware(data_dir.root)
    await asyncio.to_thread(hardware.look, clock.now_s())
    telemetry = await asyncio.to_thread(telemetry_of, settings, node=node, version=software)
    return join_parts(
        settings,
        clock,
        routes,
        registry,
        engines,
        membership,
        history=HistoryKeeper(data_dir.history, routes.balancer.history, clock, time.time),
        listeners=places.listeners,
        hardware=hardware,
        examine=Examination(data_dir.root, clock),
        telemetry=telemetry,
        read=read,
    )


def services_of(parts: Parts) -> tuple[Service, ...]:
    """In order of their start. Stopping goes the other way: deregister, finish streams, then the rest."""
    drain_s = parts.settings.drain_s

    async def finish_streams() -> None:
        if parts.membership is not None:
            await asyncio.sleep(NEIGHBOURS_FIRST_S)
        left = await parts.plane.drain(drain_s)
        if left:
            log.warning("sidecar.streams_cut", count=left, after_s=drain_s)

    services = [
        Service("backends", parts.registry.run),
        Service("finder", parts.finder.run),
        Service("engines", parts.engines.run),
        Service("host", parts.watch.run),
        Service("history", parts.history.run, parts.history.save),
        Service("admin", parts.admin.run),
        # A second more: the plane itself cuts off at drain_s and closes what is left.
        Service("dataplane", parts.plane.run, finish_streams, drain_s + NEIGHBOURS_FIRST_S + 1.0),
    ]
    if parts.metrics is not None:
        services.insert(3, Service("metrics", parts.metrics.run))
    if parts.membership is not None:
        keeper, control = parts.membership.keeper, parts.membership.control
        services.insert(0, Service("table", keeper.run, keeper.flush))
        services.append(Service("pulls", parts.membership.puller.run))
        services.append(Service("control", control.run, control.drain))
    # First, so that it stops last: it tells of everything that the others still end.
    return (Service("telemetry", parts.telemetry.run), *services)


def roaming_of(
    settings: Settings,
    control: Sequence[str],
    parts: Parts,
    places: Places,
    data_dir: DataDir,
    closing: ExitStack,
) -> Roaming:
    """What keeps the peer listener of ``places`` where others reach this host."""
    membership, listener, reach = parts.membership, places.peer, places.reach
    if membership is None or listener is None or reach is None:
        raise RuntimeError("a host without a swarm has no peers")
    listen, port = ListenPolicy.of(settings).peer, bound_address(listener).port

    async def find() -> Reach | None:
        if not await find_source(control):
            return None
        return await find_reach(
            listen=listen, default_port=PEER_PORT, advertise=(), control=control, lan=settings.node.lan
        )

    async def move(to: Reach) -> None:
        nonlocal listener
        if listener is not None and to.bind.host != bound_address(listener).host:
            listener = listening_socket(Address(to.bind.host, port), flag="--peer-listen")
            await parts.plane.serve_peer(closing.enter_context(listener))
        now = replace(places, peer=listener, advertised=to.advertised(port), reach=to)
        membership.control.move(now.advertised)
        await asyncio.to_thread(write_ready, data_dir, "sidecar", ready_document(parts, now))

    roaming = Roaming(reach, find, move)
    membership.control.subscribe(roaming.look_soon)
    return roaming


def relearning_service(
    settings: Settings, parts: Parts, membership: Membership, data_dir: DataDir
) -> Service:
    """What asks others where the control plane is, when it is nowhere that this host knows."""
    from sidecar.process.relearning import relearning_of

    relearning = relearning_of(settings, membership, lambda: parts.plane.routes.view.table, data_dir)
    return Service("relearning", relearning.run)


def presence_service(
    settings: Settings, membership: Membership, plane: DataPlane, places: Places, data_dir: DataDir
) -> Service:
    """What tells the local network of this host."""
    # Only here: it loads the library for multicast.
    from sidecar.process.presence import Told, presence_of

    told = Told(
        tuple(bound_address(one) for one in places.listeners.client),
        lambda: plane.policy.gateway,
        parse_address(settings.join_listener()),
        version("swarmplane"),
    )
    presence = presence_of(settings, membership, data_dir, told, lambda: membership.control.peer_addresses)
    return Service("mdns", presence.run)


async def _start(parts: Parts, places: Places, data_dir: DataDir) -> None:
    """Serve, and say so."""
    await asyncio.sleep(0)  # let the data plane's own task begin: it is the parent of every connection's
    document = ready_document(parts, places)
    if places.peer is not None:
        # First: others may be told of this address as soon as the control stream stands.
        await parts.plane.serve_peer(places.peer)
    await _first_look(parts.finder)
    await parts.plane.serve_client(places.listeners.client)
    await parts.admin.serving.wait()
    if parts.metrics is not None:
        await parts.metrics.serving.wait()
    await asyncio.to_thread(write_ready, data_dir, "sidecar", document)
    _settle_memory()
    log.info("sidecar.ready", **{key: value for key, value in document.items() if key != "pid" and value})


def ready_document(parts: Parts, places: Places) -> Mapping[str, Any]:
    """``run/sidecar.json``."""
    identity = parts.membership.identity if parts.membership is not None else None
    return {
        "pid": os.getpid(),
        "node_id": identity.node_id if identity is not None else "",
        "node_name": parts.plane.node_name,
        "client": [str(bound_address(bound)) for bound in places.listeners.client],
        "admin": str(bound_address(places.listeners.admin)),
        "metrics": _place(places.listeners.metrics),
        "peer": _place(places.peer),
        "advertised": list(places.advertised),
    }


def _place(listener: socket.socket | None) -> str:
    return str(bound_address(listener)) if listener is not None else ""


async def _first_look(finder: Finder) -> None:
    """Wait until every backend was checked once: a host that is ready knows its models."""
    try:
        async with asyncio.timeout(FIRST_LOOK_S):
            await finder.settle()
    except TimeoutError:
        log.warning("backends.slow", after_s=FIRST_LOOK_S)


def _settle_memory() -> None:
    """Spare the collector what lives as long as the process, and look for cycles less often.

    Requests make next to none: the default of one pass every 700 allocations was a tenth of the path's CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 20, 50)
