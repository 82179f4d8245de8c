"""Real data planes on loopback for tests: alone, or as nodes of a swarm with real certificates."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sidecar.backends.target import Target
from sidecar.core.residents import Resident
from sidecar.core.shown import Shown
from sidecar.dataplane.identity import NodeIdentity
from sidecar.dataplane.peer_tls import PeerTls
from sidecar.dataplane.policy import DataPlanePolicy
from sidecar.dataplane.server import DataPlane
from sidecar.dialects.translate import OLLAMA, OPENAI
from sidecar.routing.current import CurrentRoutes
from sidecar.telemetry.assembly import Telemetry
from swarmplane.credentials.authority import Authority, found_authority, issue
from swarmplane.credentials.files import Credential, save_credential
from swarmplane.credentials.keys import new_private_key, private_key_to_pem
from swarmplane.credentials.names import node_subject
from swarmplane.ids import BackendName, ModelName, NodeId, SubjectId, SwarmId, endpoint_id
from swarmplane.inventory import Backend, BackendModel, Inventory, ModelState
from swarmplane.routes import Endpoint, ModelRoute, NodeEntry, RouteTable, Version
from swarmplane.traits import UNKNOWN_TRAITS, Traits
from tests.fakes.backend import FakeBackend

SWARM = SwarmId("testswarm")
QUICK = DataPlanePolicy(tick_s=0.02, connect_timeout_s=1.0, linger_s=0.5, loading_wait_s=0.0)


@dataclass
class FakeBackends:
    """Implements :class:`sidecar.dataplane.ports.Backends`."""

    targets: dict[BackendName, Target] = field(default_factory=dict)
    failures: list[BackendName] = field(default_factory=list)
    missing: list[tuple[BackendName, str]] = field(default_factory=list)
    residents: dict[tuple[BackendName, str], Resident] = field(default_factory=dict)
    shows: dict[tuple[BackendName, str], Shown] = field(default_factory=dict)
    looked: list[BackendName] = field(default_factory=list)
    """Wanted looks; each is over at once."""
    on_look: Callable[[BackendName], None] | None = None
    """Called for each, to tell :attr:`residents` what there is."""

    def report_failure(self, name: BackendName) -> None:
        self.failures.append(name)

    def resident(self, name: BackendName, model: str) -> Resident | None:
        return self.residents.get((name, model))

    def shown(self, name: BackendName, model: str) -> Shown | None:
        return self.shows.get((name, model))

    def looks(self, name: BackendName) -> int:
        return 2 * self.looked.count(name)

    def look(self, name: BackendName) -> None:
        if self.on_look is not None:
            self.on_look(name)
        self.looked.append(name)

    def report_missing_model(self, name: BackendName, model: str) -> None:
        self.missing.append((name, model))


@dataclass
class Served:
    """A model at a backend, by the backend's spelling and the canonical name."""

    backend: FakeBackend | int
    model: str = "m1"
    canonical: str = ""
    slots: int = 0
    state: ModelState = ModelState.LOADED
    headers: tuple[tuple[bytes, bytes], ...] = ()
    base_path: str = ""
    kind: str = "openai"
    speaks: frozenset[str] = frozenset()
    """Dialects that it speaks besides those of its kind."""
    context: int = 4096
    """Tokens that its model takes, of one of Ollama's those it was trained for; 0: it does not tell."""
    traits: Traits = UNKNOWN_TRAITS

    @property
    def found(self) -> BackendModel:
        """As a probe finds it."""
        traits = self.traits
        return BackendModel(
            self.model,
            ModelName(self.canonical) if self.canonical else None,
            self.state,
            context_length=self.context,
            size_bytes=traits.size_bytes,
            capabilities=traits.capabilities,
            digest=traits.digest,
            quantization=traits.quantization,
            family=traits.family,
            format=traits.format,
            parameter_size=traits.parameter_size,
            trained_context=traits.trained_context,
            modified_s=traits.modified_s,
        )

    @property
    def dialects(self) -> frozenset[str]:
        return self.speaks | {OPENAI, *({OLLAMA} & {self.kind})}

    @property
    def port(self) -> int:
        return self.backend if isinstance(self.backend, int) else self.backend.port


@dataclass
class Node:
    """A running data plane."""

    name: str
    plane: DataPlane
    routes: CurrentRoutes
    backends: FakeBackends
    port: int
    peer_port: int = 0
    tls: PeerTls | None = None
    served: dict[str, Served] = field(default_factory=dict)

    @property
    def id(self) -> NodeId:
        return self.routes.node_id

    def own(self, served: Mapping[str, Served]) -> None:
        """Serve these, by backend name, from now on."""
        self.served = dict(served)
        self.backends.targets = {
            BackendName(name): Target(
                BackendName(name),
                one.kind,
                "127.0.0.1",
                one.port,
                headers=one.headers,
                base_path=one.base_path,
                dialects=one.dialects,
            )
            for name, one in served.items()
        }
        self.routes.set_own(
            Inventory(
                tuple(
                    Backend(
                        BackendName(name),
                        one.kind,
                        models=(one.found,),
                        slots=one.slots,
                    )
                    for name, one in served.items()
                )
            )
        )


@dataclass
class TestSwarm:
    """A certificate authority and nodes that know each other."""

    __test__ = False
    directory: Path
    authority: Authority = field(default_factory=lambda: found_authority(SWARM, time.time()))
    nodes: dict[str, Node] = field(default_factory=dict)
    denied: set[SubjectId] = field(default_factory=set)
    revision: int = 0

    def credential(self, node: NodeId, *, swarm: SwarmId = SWARM, now_s: float | None = None) -> Path:
        """A directory with the credential of ``node``."""
        key = new_private_key()
        subject = node_subject(node, swarm)
        certificate = issue(
            self.authority, key.public_key(), subject, time.time() if now_s is None else now_s
        )
        where = self.directory / f"{node}-{len(list(self.directory.iterdir()))}"
        save_credential(
            where, Credential(self.authority.certificate_pem, certificate, private_key_to_pem(key))
        )
        return where

    def connect(self, *, strategy: str = "local_spillover", aliases: Iterable[tuple[str, str]] = ()) -> None:
        """Give every node a table of what all of them serve."""
        self.revision += 1
        models: dict[str, list[Endpoint]] = {}
        for node in self.nodes.values():
            for name, one in node.served.items():
                endpoint = Endpoint(
                    endpoint_id(node.id, BackendName(name), one.model),
                    node.id,
                    BackendName(name),
                    one.model,
                    slots=one.slots,
                    context_length=one.context,
                    kind=one.kind,
                    traits=one.traits,
                )
                models.setdefault(one.canonical or one.model, []).append(endpoint)
        table = RouteTable(
            SWARM,
            Version(1, self.revision),
            {
                ModelName(name): ModelRoute(
                    ModelName(name), tuple(ends), tuple(alias for alias, model in aliases if model == name)
                )
                for name, ends in models.items()
            },
            {
                node.id: NodeEntry(node.id, node.name, (f"127.0.0.1:{node.peer_port}",), session=1)
                for node in self.nodes.values()
            },
            frozenset(self.denied),
            strategy,
        )
        for node in self.nodes.values():
            node.routes.install(table)


def bound() -> socket.socket:
    """A socket on a free loopback port."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


@contextlib.asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """A port where connections are neither made nor refused: its backlog is full."""
    with contextlib.ExitStack() as held:
        sock = held.enter_context(bound())
        sock.listen(0)
        for _ in range(3):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(sock.getsockname())
        yield sock.getsockname()[1]


@contextlib.asynccontextmanager
async def running_node(
    name: str = "solo",
    served: Mapping[str, Served] | None = None,
    *,
    swarm: TestSwarm | None = None,
    policy: DataPlanePolicy = QUICK,
    draw: Callable[[], float] = lambda: 0.0,
    telemetry: Telemetry | None = None,
    **changes: Any,
) -> AsyncIterator[Node]:
    """A data plane that serves until the block ends; ``changes`` are fields of the policy.

    Its ``telemetry`` is the caller's to run.
    """
    node_id = NodeId(f"{name}id") if swarm is not None else None
    routes = CurrentRoutes(node_id, node_name=name)
    backends = FakeBackends()
    identity = tls = None
    if swarm is not None and node_id is not None:
        identity = NodeIdentity(node_id, name, SWARM, "test", swarm.authority.fingerprint)
        tls = PeerTls(
            swarm.credential(node_id),
            SWARM,
            denied=lambda: routes.view.table.denied,
            connected_s=lambda: 3600.0,
        )
    plane = DataPlane(
        routes,
        backends,
        replace(policy, **changes),
        identity=identity,
        node_name=name,
        tls=tls,
        ring=telemetry.ring if telemetry is not None else None,
        tracing=telemetry.tracing if telemetry is not None else None,
        draw=draw,
    )
    sock = bound()
    node = Node(name, plane, routes, backends, sock.getsockname()[1])
    task = asyncio.get_running_loop().create_task(plane.run())
    try:
        await asyncio.sleep(0)
        await plane.serve_client([sock])
        if swarm is not None:
            peer = bound()
            node.peer_port, node.tls = peer.getsockname()[1], tls
            await plane.serve_peer(peer)
            swarm.nodes[name] = node
        node.own(served or {})
        yield node
        assert plane.counters.faults == 0, "an error in our own code, see the log"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await settle()


async def settle(seconds: float = 0.02) -> None:
    """Let transports that were closed tell their protocols."""
    await asyncio.sleep(seconds)


async def eventually(check: Callable[[], Any], what: str = "condition", within_s: float = 10.0) -> Any:
    """The first true answer of ``check``."""
    ends_s = time.monotonic() + within_s
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < ends_s, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.005)


@dataclass
class Answer:
    """One answer as a strict reader sees it."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool
    """Whether the body ended as its framing says it must."""
    interim: list[tuple[int, dict[str, str]]] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])

    @property
    def events(self) -> list[str]:
        """Data of server-sent events."""
        return [line[5:].strip() for line in self.body.decode().splitlines() if line.startswith("data:")]


class Client:
    """A raw connection: what is sent is exactly what the test says. ``patience_s``: for a head."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, patience_s: float = 20.0
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._patience_s = patience_s

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def post(self, body: Any, path: str = "/v1/chat/completions", **headers: str) -> None:
        """Send one request with a JSON body (or bytes)."""
        self.send(request(body, path, **headers))

    async def ask(self, body: Any, path: str = "/v1/chat/completions", **headers: str) -> Answer:
        self.post(body, path, **headers)
        return await self.answer()

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        host = "" if "host" in headers else "host: localhost\r\n"
        self.send(f"{method} {path} HTTP/1.1\r\n{host}{lines}\r\n".encode())
        return await self.answer(head_only=method == "HEAD")

    async def head(self) -> tuple[int, dict[str, str]]:
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), self._patience_s)
        lines = raw.decode("latin-1").split("\r\n")
        assert lines[0].startswith("HTTP/1.1 "), lines[0]
        headers: dict[str, str] = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(": ")
            assert name == name.lower(), "lower-case names"
            assert name not in headers or name == "via", f"{name} stands twice"
            headers[name] = value
        return int(lines[0].split(" ")[1]), headers

    async def answer(self, *, head_only: bool = False) -> Answer:
        """Read one final answer."""
        interim = []
        status, headers = await self.head()
        while status < 200:
            interim.append((status, headers))
            status, headers = await self.head()
        body, whole = b"", True
        if not head_only and status not in {204, 304}:
            body, whole = await asyncio.wait_for(self._body(headers), 30)
        return Answer(status, headers, body, whole, interim)

    async def _body(self, headers: Mapping[str, str]) -> tuple[bytes, bool]:
        assert not ("content-length" in headers and "transfer-encoding" in headers)
        parts = []
        try:
            if headers.get("transfer-encoding") == "chunked":
                while True:
                    size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
                    part = await self.reader.readexactly(size + 2)
                    assert part.endswith(b"\r\n")
                    if not size:
                        return b"".join(parts), True
                    parts.append(part[:-2])
            if "content-length" in headers:
                return await self.reader.readexactly(int(headers["content-length"])), True
            return await self.reader.read(-1), True
        except asyncio.IncompleteReadError as error:
            return b"".join([*parts, error.partial]), False
        except ConnectionError:
            return b"".join(parts), False

    async def closed(self, within_s: float = 10) -> bytes:
        """Read to the end of the connection; returns what still came."""
        try:
            return await asyncio.wait_for(self.reader.read(-1), within_s)
        except ConnectionError:
            return b""

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()


def request(body: Any, path: str = "/v1/chat/completions", **headers: str) -> bytes:
    """A request with a JSON body (or bytes) as a client would send it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = {"host": "localhost", "content-type": "application/json", **given}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{text}content-length: {len(raw)}\r\n\r\n".encode() + raw


@contextlib.asynccontextmanager
async def client(node: Node | int) -> AsyncIterator[Client]:
    """A connection to a node's client listener."""
    port = node if isinstance(node, int) else node.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    one = Client(reader, writer)
    try:
        yield one
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 5)


CHAT = {"model": "m1", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**CHAT, "stream": True}
