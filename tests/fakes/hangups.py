"""A relay of connections that ends them while they are idle, or just as the next request arrives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field


@dataclass
class Hangups:
    """How connections through the relay die.

    Args:
        target: Port that they lead to.
        idle_s: Seconds after the last byte of an answer, drawn anew each time; None: not by time.
        as_written: Whether this connection dies as bytes of a further request arrive, which are lost.
        reset: Whether it dies by RST, not FIN.
        settled: Pieces that came from the client before any of this may happen: the handshake of TLS.
    """

    target: int
    idle_s: Callable[[], float] | None = None
    as_written: Callable[[], bool] = lambda: False
    reset: Callable[[], bool] = lambda: False
    settled: int = 1
    port: int = 0
    idle_ends: int = 0
    written_ends: int = 0
    _live: set[asyncio.BaseTransport] = field(default_factory=set)

    async def connected(self, inner: _Inner) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            await loop.create_connection(lambda: _Outer(inner), "127.0.0.1", self.target)


class _End(asyncio.Protocol):
    """One end; what comes goes to the other one."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.other: _End | None = None

    def connection_lost(self, _: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()


class _Outer(_End):
    """Towards the target."""

    def __init__(self, inner: _Inner) -> None:
        super().__init__()
        self.inner = inner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.other, self.inner.other = self.inner, self
        for data in self.inner.early:
            self.transport.write(data)
        self.inner.early.clear()

    def data_received(self, data: bytes) -> None:
        self.inner.transport.write(data)
        self.inner.answered()


class _Inner(_End):
    """Towards the client."""

    def __init__(self, how: Hangups, group: asyncio.TaskGroup) -> None:
        super().__init__()
        self.how, self.group = how, group
        self.early: list[bytes] = []
        self.pieces = 0
        self.idle = False
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.how._live.add(transport)
        self.group.create_task(self.how.connected(self))

    def connection_lost(self, exc: Exception | None) -> None:
        self.how._live.discard(self.transport)
        self._calm()
        super().connection_lost(exc)

    def _calm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def data_received(self, data: bytes) -> None:
        self._calm()
        idle, self.idle = self.idle, False
        if idle and self.pieces >= self.how.settled and self.how.as_written():
            self.how.written_ends += 1
            self.end()
            return
        self.pieces += 1
        if self.other is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def answered(self) -> None:
        self._calm()
        self.idle = True
        if self.how.idle_s is not None and self.pieces >= self.how.settled:
            self.timer = asyncio.get_running_loop().call_later(self.how.idle_s(), self.idle_end)

    def idle_end(self) -> None:
        self.how.idle_ends += 1
        self.end()

    def end(self) -> None:
        if self.how.reset():
            self.transport.abort()
        else:
            self.transport.close()


@contextlib.asynccontextmanager
async def hanging_up(how: Hangups) -> AsyncIterator[Hangups]:
    """Relay on a free port until the block ends."""
    async with asyncio.TaskGroup() as group:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Inner(how, group), "127.0.0.1", 0)
        how.port = server.sockets[0].getsockname()[1]
        try:
            yield how
        finally:
            server.close()
            for transport in tuple(how._live):
                transport.close()
