"""Files on their way to this host's Ollama (``/api/blobs/<digest>``), from which it makes models.

They are gigabytes: what came goes on at once, and the client is read no faster than the backend takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import httptools

from sidecar.dataplane.answers import CLOSE, CONTINUE, response
from sidecar.dataplane.headers import Header, to_header
from sidecar.dataplane.managing import admit
from sidecar.dataplane.refusing import refusal
from sidecar.dataplane.writer import cors_lines
from sidecar.dialects.translate import OLLAMA
from swarmplane.errors import Code, InvalidRequestError, SwarmError
from swarmplane.trusting import trust

if TYPE_CHECKING:
    from sidecar.backends.target import Target
    from sidecar.dataplane.connection import ClientConnection
    from sidecar.dataplane.reading import Framing
    from sidecar.dataplane.request import Request
    from sidecar.dataplane.server import DataPlane

_HELD_BYTES: Final = 1024 * 1024
"""Of one upload: from so much on the client is not read."""
_LOW_BYTES: Final = 256 * 1024
_MOST_ANSWER_BYTES: Final = 1024 * 1024


def taker(plane: DataPlane, connection: ClientConnection, request: Request) -> Target:
    """The backend that takes the file which ``request`` brings.

    Raises:
        SwarmError: It may not, or there is none.
    """
    if connection.peer is not None:
        raise SwarmError("files go to the host that they are sent to", code=Code.FORBIDDEN)
    admit(plane, request.head, None, connection.client)
    if plane.draining:
        raise SwarmError("this node is draining", code=Code.DRAINING)
    targets = [target for target in plane.backends.targets.values() if OLLAMA in target.dialects]
    if not targets:
        raise InvalidRequestError("no backend of this host can do that: it takes an Ollama")
    # As for what is created: it must find there what was sent before.
    return min(targets, key=lambda target: target.name)


class Upload:
    """One file; the active exchange of its connection from the request's head on."""

    __slots__ = (
        "_chunked", "_connection", "_ended", "_gone", "_heard", "_held", "_left", "_parts", "_plane",
        "_request", "_size", "_started_s", "_target", "_wake", "_writer",
    )  # fmt: skip

    def __init__(
        self,
        plane: DataPlane,
        connection: ClientConnection,
        request: Request,
        framing: Framing,
        target: Target,
    ) -> None:
        self._plane, self._connection, self._request, self._target = plane, connection, request, target
        self._chunked = framing.chunked
        self._left = framing.length
        """As the client announced it; of a chunked one nobody knows."""
        self._parts: list[bytes] = []
        self._held = self._size = 0
        self._ended = self._gone = self._heard = False
        self._wake = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._started_s = time.monotonic()
        plane.counters.requests += 1
        if not request.request_id:
            request.request_id = plane.new_request_id()
        if framing.expects:
            connection.transport.write(CONTINUE)
        plane.spawn(self._run())

    # -- the client ---------------------------------------------------------------------------------------

    def push(self, data: bytes) -> None:
        """A piece of the file came."""
        self._parts.append(data)
        self._size += len(data)
        self._held += len(data)
        self._plane.counters.bytes_in += len(data)
        if self._held >= _HELD_BYTES:
            self._connection.hold()
        self._wake.set()

    def finish(self) -> None:
        """The file is whole."""
        self._ended = True
        self._wake.set()

    def cancel(self) -> None:
        """The client left: the backend drops what it has."""
        self._plane.counters.cancelled += 1
        self._gone = True
        self._parts.clear()
        if self._writer is not None:
            self._writer.transport.abort()
        self._wake.set()

    def client_paused(self) -> None:
        """The client reads slowly; the answer is short."""

    def client_resumed(self) -> None:
        """It caught up."""

    # -- the backend --------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            status, headers, body = await self._exchange()
        except (OSError, TimeoutError, httptools.HttpParserError):
            if self._here:
                self._refuse(
                    SwarmError("this host's Ollama did not take the file", code=Code.UPSTREAM_FAILED)
                )
            return
        finally:
            if self._writer is not None:
                self._writer.transport.abort()
        if self._here:
            self._answer(status, headers, body)

    @property
    def _here(self) -> bool:
        """Whether the client still waits for an answer."""
        return self._connection.serves(self)

    async def _exchange(self) -> tuple[int, list[Header], bytes]:
        policy, target = self._plane.policy, self._target
        context = await asyncio.to_thread(trust, target.ca_file) if target.tls else None
        async with asyncio.timeout(policy.connect_timeout_s):
            reader, self._writer = await asyncio.open_connection(target.host, target.port, ssl=context)
        if self._gone:
            raise ConnectionResetError
        self._writer.write(self._head())
        said = _Said(head_only=self._request.head.method == b"HEAD")
        async with asyncio.TaskGroup() as group:
            hearing = group.create_task(self._hear(reader, said))
            with contextlib.suppress(ConnectionError):
                await self._send(self._writer, policy.stall_timeout_s)
            # A backend that refuses early closes: what it said counts all the same.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(policy.first_byte_timeout_s):
                    await hearing
        if self._gone or not said.status:
            raise ConnectionResetError
        return said.status, said.headers, bytes(said.body)

    async def _hear(self, reader: asyncio.StreamReader, said: _Said) -> None:
        try:
            # Not until it closes: some keep a connection that they were asked to close.
            while not said.whole and len(said.body) < _MOST_ANSWER_BYTES:
                if not (data := await reader.read(65_536)):
                    break
                said.parser.feed_data(data)
        except (OSError, httptools.HttpParserError, httptools.HttpParserUpgrade):
            said.status = 0
        finally:
            self._heard = True
            self._wake.set()

    async def _send(self, writer: asyncio.StreamWriter, limit_s: float) -> None:
        while True:
            self._wake.clear()
            parts, self._parts = self._parts, []
            for part in parts:
                writer.write(b"%x\r\n%b\r\n" % (len(part), part) if self._chunked else part)
                try:
                    async with asyncio.timeout(limit_s):
                        await writer.drain()
                except TimeoutError:
                    writer.transport.abort()
                    return
                self._held -= len(part)
                if self._held <= _LOW_BYTES:
                    self._connection.read_on()
            if self._gone or self._heard:
                return
            if self._ended and not self._parts:
                break
            if not self._parts:
                # The connection sees to a client that sends nothing more.
                await self._wake.wait()
        if self._chunked:
            writer.write(b"0\r\n\r\n")

    def _head(self) -> bytes:
        head, target = self._request.head, self._target
        host = f"[{target.host}]" if ":" in target.host else target.host
        size = b"transfer-encoding: chunked" if self._chunked else b"content-length: %d" % self._left
        return b"%b %b%b HTTP/1.1\r\nhost: %b\r\nvia: 1.1 %b\r\n%b%bx-request-id: %b\r\n%b\r\n%b\r\n" % (
            head.method, target.base_path.encode(), head.target, f"{host}:{target.port}".encode(),
            self._plane.via, b"".join([b"%b: %b\r\n" % (name.lower(), one) for name, one in target.headers]),
            b"".join(head.forward), self._request.request_id, size, CLOSE,
        )  # fmt: skip

    # -- the answer ---------------------------------------------------------------------------------------

    def _answer(self, status: int, headers: list[Header], body: bytes) -> None:
        plane, request = self._plane, self._request
        kind = next((value for name, value in headers if name == b"content-type"), b"application/json")
        extra = b"x-request-id: %b\r\nx-swarm-node: %b\r\nx-swarm-backend: %b\r\n%b%b" % (
            request.request_id, to_header(plane.node_name), to_header(self._target.name),
            cors_lines(request.head), CLOSE if self._closes else b"",
        )  # fmt: skip
        head_only = request.head.method == b"HEAD"
        plane.counters.completed += 1
        self._end(response(status, body, content_type=kind, extra=extra, head_only=head_only), None)

    def _refuse(self, error: SwarmError) -> None:
        self._request.closes = self._closes
        self._end(refusal(self._plane, self._connection, self._request, error, attempts=1), error)

    @property
    def _closes(self) -> bool:
        # What is left of the file can't be told from a request.
        return not self._ended or self._request.closes or self._plane.draining

    def _end(self, answer: bytes, error: SwarmError | None) -> None:
        request, connection = self._request, self._connection
        connection.write(answer)
        request.size = self._size
        self._plane.recorder.immediate(connection, request, answer, error, self._started_s)
        request.size = 0
        connection.read_on()
        connection.uploaded(close=self._closes)


class _Said:
    """The backend's answer, of which only a short one makes sense."""

    __slots__ = ("_head_only", "body", "headers", "parser", "status", "whole")

    def __init__(self, *, head_only: bool) -> None:
        self._head_only = head_only
        self.whole = False
        self.parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: list[Header] = []
        self.body = bytearray()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser: a header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Parser: a head is whole; one of 1xx is not the answer's."""
        status = self.parser.get_status_code()
        if status >= 200:  # noqa: PLR2004
            self.status, self.whole = status, self._head_only
        else:
            self.headers.clear()

    def on_body(self, data: bytes) -> None:
        """Parser: a piece of the body."""
        self.body += data

    def on_message_complete(self) -> None:
        """Parser: a message is whole; one of 1xx is not the answer."""
        self.whole = bool(self.status)
