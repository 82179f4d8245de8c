"""A backend that costs next to nothing: ``python bench/backend.py PORT [PORTS]``. Streams have 50 events.

It answers any POST with a small completion, or with a stream where the body asks for one, one event a turn
of the loop, so that a proxy sees events arrive one by one. It prints its port when it listens; 0 picks a
free one. With PORTS it listens on as many, and prints all.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

EVENTS = 50
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m1","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hello there, how can I help you today?"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":9,"total_tokens":21}}'
)
MODELS = b'{"object":"list","data":[{"id":"m1","object":"model","created":1700000000,"owned_by":"mock"}]}'
EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m1",'
    b'"choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}\n\n'
)
DONE = b"data: [DONE]\n\n"


def _plain(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


WHOLE, LISTING, ONE = _plain(ANSWER), _plain(MODELS), _chunk(EVENT)
LAST = _chunk(DONE) + b"0\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client; requests with ``Content-Length`` only."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = b""
        self._open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        del exc
        self._open = False

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        self._buffer += data
        while (ends := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:ends].lower()
            _, named, rest = head.partition(b"content-length:")
            length = int(rest.partition(b"\r\n")[0]) if named else 0
            if len(self._buffer) < ends + 4 + length:
                return
            body = self._buffer[ends + 4 : ends + 4 + length]
            self._buffer = self._buffer[ends + 4 + length :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get"):
            self.transport.write(LISTING)
        elif b'"stream":true' in body or b'"stream": true' in body:
            self.transport.write(STREAM)
            asyncio.get_running_loop().call_soon(self._stream, EVENTS)
        else:
            self.transport.write(WHOLE)

    def _stream(self, left: int) -> None:
        if not self._open:
            return
        self.transport.write(ONE if left else LAST)
        if left:
            asyncio.get_running_loop().call_soon(self._stream, left - 1)


async def serve(port: int, connection: Callable[[], Connection] = Connection, ports: int = 1) -> None:
    """Serve until killed; the first port, and as many more as make ``ports``."""
    loop = asyncio.get_running_loop()
    bound = [port, *[0] * (ports - 1)]
    servers = [await loop.create_server(connection, "127.0.0.1", one, backlog=4096) for one in bound]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await servers[0].serve_forever()


def run(serving: Coroutine[Any, Any, None]) -> None:
    """Run ``serving`` on the fastest loop there is."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serving)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serving)


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    run(serve(wanted, ports=int(sys.argv[2]) if len(sys.argv) > 2 else 1))
