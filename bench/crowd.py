"""Many clients in one process: streams held at a time, and keep-alive connections that are idle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import backend

BODY = b'{"model":"m1","messages":[{"role":"user","content":"Hello?"}],"stream":%s}'
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n"
)
AT_ONCE = 100
"""Clients that connect at the same time."""
END = b"\r\n0\r\n\r\n"


def request(*, stream: bool) -> bytes:
    """A request with a small prompt."""
    body = BODY % (b"true" if stream else b"false")
    return HEAD % len(body) + body


class Client(asyncio.Protocol):
    """One connection, which keeps what it was sent."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = bytearray()
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        del exc
        self.closed = True

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        self.received += data

    @property
    def events(self) -> int:
        """Events with a token so far."""
        return self.received.count(b"data: {")

    @property
    def ended(self) -> bool:
        """Whether the stream ended as it should: its own end marker, then that of HTTP."""
        return b"data: [DONE]\n\n" in self.received and self.received.endswith(END)

    @property
    def answered(self) -> bool:
        """Whether the whole plain answer is here."""
        return self.received.startswith(b"HTTP/1.1 200") and self.received.endswith(backend.ANSWER)


async def connect(port: int, count: int) -> list[Client]:
    """``count`` clients, a few at a time; those that nobody took are closed.

    Raises:
        OSError: The machine holds no more connections.
    """
    loop, clients = asyncio.get_running_loop(), list[Client]()
    while len(clients) < count:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(loop.create_connection(Client, "127.0.0.1", port))
                for _ in range(min(AT_ONCE, count - len(clients)))
            ]
        clients += [task.result()[1] for task in tasks]
    return clients


async def ask(clients: list[Client], *, stream: bool) -> None:
    """Send a request on each connection, a few at a time, waiting for the beginning of their answers."""
    words = request(stream=stream)
    for start in range(0, len(clients), AT_ONCE):
        some = clients[start : start + AT_ONCE]
        for client in some:
            client.received.clear()
            if not client.closed:
                client.transport.write(words)
        await until(lambda some=some: all(c.received or c.closed for c in some), 10.0)  # type: ignore[misc]


async def until(true: Callable[[], bool], within_s: float) -> bool:
    """Wait for ``true``, at most ``within_s``; whether it came."""
    ends_s = time.monotonic() + within_s
    while not true():
        if time.monotonic() > ends_s:
            return False
        await asyncio.sleep(0.02)
    return True


def close(clients: list[Client]) -> None:
    """End all connections."""
    for client in clients:
        client.transport.abort()
