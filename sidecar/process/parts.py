"""The parts of one sidecar, made and joined to each other. Nothing runs yet."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sidecar.admin.backends import backend_items
from sidecar.admin.metrics import families
from sidecar.admin.metrics_listener import MetricsServer
from sidecar.admin.server import AdminServer
from sidecar.admin.sources import Sources
from sidecar.backends.finder import Finder
from sidecar.backends.hardware import Hardware
from sidecar.backends.registry import BackendRegistry
from sidecar.backends.target import BackendSpec
from sidecar.dataplane.policy import DataPlanePolicy
from sidecar.dataplane.server import DataPlane
from sidecar.engines.supervisor import EngineSupervisor
from sidecar.process.gateway import gateway_url
from sidecar.process.reload import Reloader, set_log_level
from sidecar.process.searching import Searching
from sidecar.process.watching import HostWatch
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.history_file import HistoryKeeper
from sidecar.routing.outside import Outside
from sidecar.settings import ListenPolicy, redacted
from sidecar.telemetry.assembly import Telemetry
from sidecar.telemetry.policy import TelemetryPolicy
from swarmplane.clock import Clock
from swarmplane.listening import adopted_socket, bound_address, listening_socket
from swarmplane.settings.schema import Settings

if TYPE_CHECKING:
    from sidecar.process.membership import Membership

_ALONE: Mapping[str, Any] = {"connected": False, "joined": False}


@dataclass(frozen=True, slots=True)
class Listeners:
    """Sockets that listen already; who serves them closes them."""

    client: tuple[socket.socket, ...]
    admin: socket.socket
    metrics: socket.socket | None = None

    @property
    def every(self) -> tuple[socket.socket, ...]:
        """All of them."""
        return (*self.client, self.admin, *((self.metrics,) if self.metrics is not None else ()))

    @classmethod
    def bind(cls, policy: ListenPolicy, client_fds: tuple[int, ...], closing: ExitStack) -> Listeners:
        """Take the parent's client listeners, or bind our own. It blocks for names.

        Raises:
            UnavailableError: A port is busy; says by whom and which flag chooses another.
        """
        if client_fds:
            client = tuple(closing.enter_context(adopted_socket(fd)) for fd in client_fds)
        else:
            client = tuple(
                closing.enter_context(listening_socket(address, flag="--listen")) for address in policy.client
            )
        admin = closing.enter_context(listening_socket(policy.admin, flag="--admin-listen"))
        metrics = None
        if policy.metrics is not None:
            metrics = closing.enter_context(listening_socket(policy.metrics, flag="--metrics-listen"))
        return cls(client, admin, metrics)


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything of a sidecar that runs."""

    settings: Settings
    registry: BackendRegistry
    engines: EngineSupervisor
    plane: DataPlane
    admin: AdminServer
    membership: Membership | None
    """None on a host that joined no swarm."""
    finder: Finder
    telemetry: Telemetry
    reloader: Reloader
    watch: HostWatch
    history: HistoryKeeper
    metrics: MetricsServer | None = None


def telemetry_of(settings: Settings, *, node: str, version: str) -> Telemetry:
    """Telemetry of a sidecar whose node has the id (on a lone host: the name) ``node``.

    Reads the exporter's headers from disk.

    Raises:
        InvalidRequestError: They cannot be used.
    """
    return Telemetry(
        TelemetryPolicy.of(settings, os.environ),
        identity={"service.instance.id": node, "host.name": socket.gethostname()},
        version=version,
    )


def host_name(settings: Settings) -> str:
    """What a lone host is called: the wished name, or the machine's."""
    return settings.node.name or socket.gethostname().partition(".")[0].casefold() or "local"


def backends_of(settings: Settings) -> BackendRegistry:
    """A registry that watches every backend of ``settings``.

    Raises:
        InvalidRequestError: A URL can't be used.
        AlreadyExistsError: Two backends have one name.
    """
    import psutil

    registry = BackendRegistry(memory_bytes=psutil.virtual_memory().total, cpus=os.cpu_count() or 0)
    registry.limit_models(settings.upstream.max_models)
    for backend in settings.backends:
        registry.add(BackendSpec.from_settings(backend))
    return registry


def join_parts(
    settings: Settings,
    clock: Clock,
    routes: CurrentRoutes,
    registry: BackendRegistry,
    engines: EngineSupervisor,
    membership: Membership | None,
    *,
    history: HistoryKeeper,
    listeners: Listeners,
    hardware: Hardware,
    telemetry: Telemetry,
    examine: Callable[[], Awaitable[Mapping[str, Any]]],
    read: Callable[[], Settings],
) -> Parts:
    """Make the data plane and the admin listener, and let ``routes`` follow this host's backends."""
    registry.subscribe(routes.set_own)
    registry.on_figures(Outside(routes).told)
    routes.set_own(registry.inventory())
    plane = DataPlane(
        routes,
        registry,
        DataPlanePolicy.of(settings),
        identity=membership.identity if membership is not None else None,
        node_name=membership.identity.node_name if membership is not None else host_name(settings),
        tls=membership.tls if membership is not None else None,
        ring=telemetry.ring,
        tracing=telemetry.tracing,
        clock=clock.now_s,
    )
    searching = Searching(settings, registry, clock, listeners.every)
    watch = HostWatch(routes, registry, clock, hardware, _gateway(plane, listeners, membership))
    reloader = Reloader(settings, read, registry, _adopting(plane, watch, searching, registry))
    sources = _sources(settings, clock, routes, membership, plane, registry, reloader, telemetry, examine)
    telemetry.tell(routes.balancer.history.decoded, routes.balancer.cache_told, plane.keys.used_tokens)
    return Parts(
        settings,
        registry,
        engines,
        plane,
        AdminServer(sources, listeners.admin),
        membership,
        searching.finder,
        telemetry,
        reloader,
        watch,
        history,
        MetricsServer(sources, listeners.metrics) if listeners.metrics is not None else None,
    )


def _adopting(
    plane: DataPlane, watch: HostWatch, searching: Searching, registry: BackendRegistry
) -> Callable[[Settings], None]:
    """Takes settings into use that were read again; what follows from those of the start is told now."""
    watch.tell()

    def adopt(now: Settings) -> None:
        plane.adopt(DataPlanePolicy.of(now))
        searching.adopt(now)
        registry.limit_models(now.upstream.max_models)
        watch.tell()

    return adopt


def _gateway(plane: DataPlane, listeners: Listeners, membership: Membership | None) -> Callable[[], str]:
    """The URL of this host as a gateway, as known when it is asked for; empty while it is none."""
    clients = tuple(bound_address(one) for one in listeners.client)

    def url() -> str:
        told = membership.control.peer_addresses if membership is not None else ()
        return gateway_url(clients, told) if plane.policy.gateway else ""

    return url


def _sources(
    settings: Settings,
    clock: Clock,
    routes: CurrentRoutes,
    membership: Membership | None,
    plane: DataPlane,
    registry: BackendRegistry,
    reloader: Reloader,
    telemetry: Telemetry,
    examine: Callable[[], Awaitable[Mapping[str, Any]]],
) -> Sources:
    """What the admin listener shows, and what telemetry exports of it."""
    sources = Sources(
        routes=routes,
        clock=clock,
        config=lambda: redacted(reloader.in_force()),
        version=version("swarmplane"),
        joined=membership is not None,
        requests=plane.requests,
        backends=lambda: backend_items(registry),
        control=membership.control.state if membership is not None else lambda: _ALONE,
        metrics=telemetry.families,
        traces=telemetry.recent.documents,
        set_log_level=lambda level: set_log_level(level, settings.log.format),
        settle=telemetry.catch_up,
        reload=reloader.answer,
        examine=examine,
    )
    telemetry.export_instead(lambda: families(sources))
    return sources
