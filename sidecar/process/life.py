"""One life of a sidecar: bind, build, serve, say so, and stop in order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any, Final

import structlog

from sidecar.backends.registry import BackendRegistry
from sidecar.process.arguments import Arguments
from sidecar.process.lifeline import on_hangup, on_signals, watch_lifeline
from sidecar.process.parts import Listeners, Parts, backends_of, build, node_name
from sidecar.process.reload import Reloader
from sidecar.process.services import Service, Stop, serve
from sidecar.routing.current import CurrentRoutes
from sidecar.settings import ListenPolicy
from swarmplane.clock import SystemClock
from swarmplane.datadir import DataDir
from swarmplane.inventory import Inventory
from swarmplane.listening import bound_address
from swarmplane.runtime import remove_ready, write_ready
from swarmplane.settings.load import load
from swarmplane.settings.schema import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

FIRST_LOOK_S: Final = 3.0
"""How long readiness waits for every backend's first check."""


async def live(settings: Settings, arguments: Arguments) -> None:
    """Run a sidecar until a signal or the end of the lifeline.

    Raises:
        SwarmError: It could not start; the message says what to do.
        ExceptionGroup: A part failed.
    """
    data_dir = DataDir(arguments.data_dir)
    loop = asyncio.get_running_loop()
    stop = Stop(asyncio.Event(), asyncio.Event())
    with ExitStack() as closing:
        listeners = Listeners.bind(ListenPolicy.of(settings), arguments.client_fds, closing)
        registry = backends_of(settings)
        routes = CurrentRoutes(None, node_name=node_name(settings, None))
        parts = build(
            settings, data_dir, SystemClock(), listeners, routes, registry, None, version("swarmplane")
        )
        reloader = Reloader(settings, lambda: load(arguments.data_dir, arguments.overrides), registry)
        on_signals(loop, stop.ask)
        on_hangup(loop, reloader.ask)
        if arguments.lifeline_fd is not None:
            watch_lifeline(loop, arguments.lifeline_fd, stop.ask)
        closing.callback(remove_ready, data_dir, "sidecar")

        async def started() -> None:
            await _start(parts, data_dir)

        services = (Service("settings", reloader.run), *services_of(parts))
        await serve(services, stop=stop, started=started)
        log.info("sidecar.stopped")


def services_of(parts: Parts) -> tuple[Service, ...]:
    """In order of their start. Stopping goes the other way: deregister, finish streams, then the rest."""
    drain_s = parts.settings.drain_s

    async def finish_streams() -> None:
        left = await parts.plane.drain(drain_s)
        if left:
            log.warning("sidecar.streams_cut", count=left, after_s=drain_s)

    return (
        Service("backends", parts.registry.run),
        Service("engines", parts.engines.run),
        Service("admin", parts.admin.run),
        # A second more: the plane itself cuts off at drain_s and closes what is left.
        Service("dataplane", parts.plane.run, finish_streams, drain_s + 1.0),
    )


async def _start(parts: Parts, data_dir: DataDir) -> None:
    """Serve, and say so."""
    listeners = parts.listeners
    await asyncio.sleep(0)  # let the data plane's own task begin: it is the parent of every connection's
    client = [str(bound_address(bound)) for bound in listeners.client]
    admin = str(bound_address(listeners.admin))
    await _first_look(parts.registry, parts.unseen)
    await parts.plane.serve_client(listeners.client)
    await parts.admin.serving.wait()
    document = ready_document(parts, client=client, admin=admin)
    await asyncio.to_thread(write_ready, data_dir, "sidecar", document)
    log.info("sidecar.ready", client=client, admin=admin)


def ready_document(parts: Parts, *, client: list[str], admin: str) -> Mapping[str, Any]:
    """``run/sidecar.json``."""
    return {
        "pid": os.getpid(),
        "node_id": "",
        "node_name": node_name(parts.settings, parts.membership),
        "client": client,
        "admin": admin,
        "peer": "",
        "advertised": [],
    }


async def _first_look(registry: BackendRegistry, unseen: Inventory) -> None:
    """Wait until every backend of ``unseen`` was checked once: a host that is ready knows its models."""
    looked = asyncio.Event()

    def check(_inventory: object = None) -> None:
        if not set(unseen.backends) & set(registry.inventory().backends):
            looked.set()

    registry.subscribe(check)
    check()
    try:
        async with asyncio.timeout(FIRST_LOOK_S):
            await looked.wait()
    except TimeoutError:
        log.warning("backends.slow", after_s=FIRST_LOOK_S)
