"""The data plane of a host: its listeners, its upstream connections, and what they share."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import secrets
import socket
import ssl
import time
from collections.abc import Collection, Coroutine, Sequence
from typing import Any, Final

from sidecar.dataplane import local
from sidecar.dataplane.attempting import Attempts
from sidecar.dataplane.catalogue import Catalogue
from sidecar.dataplane.connection import ClientConnection
from sidecar.dataplane.contexts import Contexts
from sidecar.dataplane.counters import Counters
from sidecar.dataplane.draining import ACCEPTED_S, served
from sidecar.dataplane.exchange import Exchange
from sidecar.dataplane.headers import passed_through
from sidecar.dataplane.hedging import Hedging
from sidecar.dataplane.identity import NodeIdentity
from sidecar.dataplane.keyring import Keyring
from sidecar.dataplane.listener import Listener, bound_host, client_listener, peer_listener
from sidecar.dataplane.loading import Loading
from sidecar.dataplane.moving import Moving
from sidecar.dataplane.owner_queue import OwnerQueues
from sidecar.dataplane.peer_tls import PeerTls
from sidecar.dataplane.plan import Sole
from sidecar.dataplane.policy import DataPlanePolicy
from sidecar.dataplane.pool import guard_peer_socket
from sidecar.dataplane.ports import Backends, Clock
from sidecar.dataplane.reading import method_of
from sidecar.dataplane.reaping import Reaping
from sidecar.dataplane.recording import Recorder
from sidecar.dataplane.refusing import refusal
from sidecar.dataplane.request import Fault, Request
from sidecar.dataplane.showing import goes_on
from sidecar.dataplane.translation import Translator
from sidecar.dataplane.upstreams import Upstreams
from sidecar.dataplane.writer import Writer
from sidecar.routing.current import CurrentRoutes
from sidecar.telemetry.ring import Ring
from sidecar.telemetry.trace import Tracing
from swarmplane.credentials.tls import PeerIdentity
from swarmplane.errors import Code, SwarmError, UnauthenticatedError

log = logging.getLogger(__name__)

_CONNECTIONS_EVERY: Final = 5
"""Ticks between two looks at all connections."""
_HOUSEKEEP_EVERY: Final = 50
_REAP_EVERY: Final = 10
_ASLEEP_S: Final = 1.0
"""A tick that is so late means that the whole process was stopped, or starved."""
_BACKLOG: Final = 4096
_HANDSHAKE_S: Final = 5.0


class DataPlane:
    """Serves clients and peers from what ``routes`` and ``backends`` hold. Lives on one event loop.

    :meth:`run` must be running while anything is served: it is the parent of every task.

    Args:
        routes: What may serve what.
        backends: This host's inference servers.
        policy: Limits and time-outs.
        identity: This node; None on a host that joined no swarm.
        node_name: Name told to clients; default: the identity's, or the host's.
        tls: Certificates for the hop; None on a host that joined no swarm.
        ring: Where every request that ends leaves its record; None: nowhere.
        tracing: Which requests are traced; None: none.
        clock: The clock of ``routes``.
        draw: Uniform in [0, 1).
    """

    def __init__(
        self,
        routes: CurrentRoutes,
        backends: Backends,
        policy: DataPlanePolicy,
        *,
        identity: NodeIdentity | None = None,
        node_name: str = "",
        tls: PeerTls | None = None,
        ring: Ring | None = None,
        tracing: Tracing | None = None,
        clock: Clock = time.monotonic,
        draw: Clock = random.random,
    ) -> None:
        self.routes = routes
        self.backends = backends
        self.policy = policy
        self.identity = identity
        self.node_name = node_name or (identity.node_name if identity else socket.gethostname())
        self.clock_s = clock
        self.draw = draw
        self.counters = Counters()
        self.active: set[Attempts] = set()
        self.retrying = 0
        self.retry_line: dict[Attempts, None] = {}
        """Those that wait until fewer requests are sent again; the first in front."""
        self.draining = False
        self.now_s, self.awake_s = time.monotonic(), 0.0
        """At the last tick, good enough to notice silence; and when we last noticed that we had not run."""
        self.born_s = time.time()
        self.writer, self.catalogue, self.contexts = Writer(self), Catalogue(self), Contexts(backends, clock)
        self.recorder = Recorder(ring, tracing, backends, self.node_name)
        self.sole, self.own_sole = Sole(routes), Sole(routes)
        self.owner = OwnerQueues(routes, policy, clock=time.monotonic, draw=draw)
        self.moving, self.loading = Moving(self), Loading(self)
        self.hedging, self.reaping = Hedging(self), Reaping(self)
        self.translator, self.keys = Translator(self), Keyring(self)
        self.upstreams = Upstreams(routes, backends, policy, tls, clock=clock, draw=draw)
        routes.balancer.adopt(policy.breaker, policy.slow_start)
        swarm = (identity.swarm_id if identity else secrets.token_hex(6)).encode()
        self.via = b"swarm-" + swarm
        self._own_names = frozenset({swarm.lower(), self.via.lower()})
        self._tls = tls
        self._connections: set[ClientConnection] = set()
        self._servers: list[asyncio.Server] = []
        self._peer_server: asyncio.Server | None = None
        self._buffered = 0
        self._group: asyncio.TaskGroup | None = None
        self._ids, self._id_prefix = itertools.count(1), secrets.token_hex(6).encode()

    # -- life ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Own the tasks of all requests and keep time, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await self._keep_time()
            finally:
                self._group = None
                self.close()

    async def _keep_time(self) -> None:
        for tick in itertools.count():
            await asyncio.sleep(self.policy.tick_s)
            before_s, self.now_s = self.now_s, time.monotonic()
            now_s = self.now_s
            if now_s - before_s > self.policy.tick_s + _ASLEEP_S:
                self.awake_s = now_s
            try:
                for exchange in tuple(self.active):
                    exchange.check(now_s)
                self.owner.check()
                self.moving.look()
                self.hedging.look(now_s)
                self.loading.look(now_s)
                if tick % _REAP_EVERY == 0:
                    self.reaping.look(now_s)
                if tick % _CONNECTIONS_EVERY == 0:
                    for connection in tuple(self._connections):
                        connection.check(now_s)
                    self.upstreams.sweep(now_s)
                if tick % _HOUSEKEEP_EVERY == 0:
                    self.routes.housekeep(self.clock_s())
                    if self._tls is not None and self._tls.connected:
                        self.keys.heard()
            except Exception as error:  # noqa: BLE001
                self.fault(error)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run ``coroutine`` as a child of :meth:`run`; its errors are counted, never raised."""
        if self._group is None:
            coroutine.close()
            raise RuntimeError("the data plane does not run")
        self._group.create_task(self._guarded(coroutine))

    async def _guarded(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except Exception as error:  # noqa: BLE001
            self.fault(error)

    def ended(self, exchange: Attempts) -> None:
        """An exchange is over."""
        self.active.discard(exchange)

    def fault(self, error: BaseException) -> None:
        """An error in our own code: count it and write it down; the request it hit is cut off."""
        self.counters.faults += 1
        log.error("dataplane.failed", exc_info=error)

    def adopt(self, policy: DataPlanePolicy) -> None:
        """Go by the limits and time-outs of ``policy`` that may change while running."""
        self.policy = now = self.policy.adopting(policy)
        self.keys.adopt()
        self.owner.adopt(now)
        self.upstreams.adopt(now)
        self.routes.balancer.adopt(now.breaker, now.slow_start)

    async def serve_client(self, sockets: Sequence[socket.socket]) -> None:
        """Accept clients on bound ``sockets``, which become ours."""
        for sock in sockets:
            await self._serve(sock, client_listener(bound_host(sock), self.policy), None)

    async def serve_peer(self, sock: socket.socket) -> None:
        """Accept peers on a bound socket, with mutual TLS, and no longer on the one before.

        Raises:
            RuntimeError: The data plane was made without a node's credential.
        """
        if self._tls is None:
            raise RuntimeError("a host without a credential has no peers")
        before = self._peer_server
        self._peer_server = await self._serve(sock, peer_listener(), self._tls.server_context)
        if before is not None:
            before.close()
            self._servers.remove(before)

    async def _serve(
        self, sock: socket.socket, listener: Listener, context: ssl.SSLContext | None
    ) -> asyncio.Server:
        sock.setblocking(False)
        server = await asyncio.get_running_loop().create_server(
            lambda: ClientConnection(self, listener),
            sock=sock,
            backlog=_BACKLOG,
            ssl=context,
            ssl_handshake_timeout=_HANDSHAKE_S if context is not None else None,
        )
        self._servers.append(server)
        return server

    async def drain(self, timeout_s: float) -> int:
        """Take nothing new and wait for what runs, at most ``timeout_s``. Returns what was cut off."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        await asyncio.sleep(ACCEPTED_S)
        self.draining = True
        for connection in tuple(self._connections):
            connection.retire()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await served(self._connections, self.active, lambda: self.routes.set_draining(draining=True))
        left = len(self.active)
        self._cut_short()
        # Answers stand in socket buffers until the loop has run once more.
        await asyncio.sleep(0.05)
        self.close()
        return left

    def _cut_short(self) -> None:
        """End everything that runs, so that every client is told why."""
        self.draining = True
        self.loading.look(self.now_s)
        # Those that wait go first: else they would take the places of those that run.
        for exchange in sorted(self.active, key=lambda one: one.runs):
            try:
                exchange.cut_short()
            except Exception as error:  # noqa: BLE001
                self.fault(error)

    def close(self) -> None:
        """Close everything now."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._cut_short()
        for connection in tuple(self._connections):
            connection.end()
        self.upstreams.close()

    def requests(self) -> list[dict[str, object]]:
        """What is in flight, for the admin listener."""
        now_s = time.monotonic()
        return [one.describe(now_s) for one in self.active] + self.loading.requests(now_s)

    # -- connections --------------------------------------------------------------------------------------

    def admit(self, connection: ClientConnection, listener: Listener) -> bool:
        """Whether a new connection is served; a peer's certificate is checked here."""
        transport = connection.transport
        if self.draining or len(self._connections) >= self.policy.max_connections:
            return False
        if listener.peer:
            tls = self._tls
            if tls is None:
                return False
            try:
                connection.peer = tls.accepted(transport.get_extra_info("ssl_object"))
            except Exception as error:  # noqa: BLE001
                log.warning("peer.refused: %s", error)
                return False
            guard_peer_socket(transport.get_extra_info("socket"))
        elif isinstance(name := transport.get_extra_info("peername"), tuple):
            connection.client = str(name[0])
            if not (listener.access.admits_source(connection.client) or self.keys.is_here(connection.client)):
                return False
        self._connections.add(connection)
        self.counters.connections += 1
        self.counters.open_connections += 1
        return True

    @property
    def connections(self) -> Collection[ClientConnection]:
        """Those that are open."""
        return self._connections

    def forget(self, connection: ClientConnection) -> None:
        """A connection ended."""
        if connection in self._connections:
            self._connections.discard(connection)
            self.counters.open_connections -= 1

    def hold_body(self, size: int) -> bool:
        """Count ``size`` more bytes of bodies; False: the process holds too many."""
        self._buffered += size
        self.counters.bytes_in += size
        return self._buffered <= self.policy.max_buffered_bytes

    def release_body(self, request: Request) -> None:
        """The body of ``request`` is not needed any more."""
        self._buffered -= request.size
        request.size = 0
        request.body = b""

    @property
    def buffered_bytes(self) -> int:
        """Bytes of request bodies held now."""
        return self._buffered

    # -- requests -----------------------------------------------------------------------------------------

    def begin(self, connection: ClientConnection, request: Request) -> Exchange | None:
        """Take a request: answered at once (None), or an exchange for the connection to start."""
        self.counters.requests += 1
        if not request.request_id:
            request.request_id = self.new_request_id()
        fault, started_s = request.fault, 0.0
        try:
            if fault is not None:
                raise SwarmError(fault.message, code=fault.code)
            if connection.peer is not None:
                self.counters.hops_in += 1
                if self._tls is not None:
                    self._tls.admit(connection.peer)
            if request.head.relayed or (connection.peer is None and goes_on(self, request)):
                if request.key is not None:
                    self.keys.spend(request.key)
                return Exchange(self, connection, request)
            started_s = time.monotonic()
            answer = self._answer(request)
            connection.write(answer)
            self.counters.completed += 1
            self.recorder.immediate(connection, request, answer, None, started_s)
        except UnauthenticatedError:  # Its certificate ended: who has another connects anew.
            connection.abort()
        except SwarmError as error:
            answer = self.refuse(connection, request, error)
            self.recorder.immediate(connection, request, answer, error, started_s or time.monotonic())
        self.release_body(request)
        connection.settle(close=request.closes or self.draining)
        return None

    def _answer(self, request: Request) -> bytes:
        answer = local.answer(self, request)
        if answer is not None:
            return answer
        path = request.head.path.decode("latin-1")
        if (method := method_of(request.head.path)) is not None and method != request.head.method:
            raise SwarmError(f"{path} takes {method.decode()} only", code=Code.METHOD_NOT_ALLOWED)
        raise SwarmError(f"there is nothing at {path[:256]}; the API is at /v1", code=Code.NOT_FOUND)

    def refuse_early(self, peer: PeerIdentity | None, request: Request) -> Fault | None:
        """What a client that waits for ``100 Continue`` is told instead of it."""
        if not request.head.relayed:
            return Fault(Code.NOT_FOUND, "nothing here takes a body")
        if peer is not None and self.draining:
            return Fault(Code.DRAINING, "this node is draining")
        return None

    def refuse(
        self, connection: ClientConnection, request: Request, error: SwarmError, *, attempts: int = 0
    ) -> bytes:
        """Write the error answer to ``request`` and return it; the caller ends the exchange."""
        self.counters.rejected[error.code] += 1
        answer = refusal(self, connection, request, error, attempts=attempts)
        connection.write(answer)
        return answer

    def new_request_id(self) -> bytes:
        """A fresh id; the process's random prefix makes it unique in the swarm."""
        return b"%b-%08x" % (self._id_prefix, next(self._ids))

    def names_us(self, via: bytes) -> bool:
        """Whether a ``Via`` header says that a request went through this swarm."""
        return passed_through(via, self._own_names)
