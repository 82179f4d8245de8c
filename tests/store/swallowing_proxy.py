"""A TCP proxy in front of a server, which can go silent in either direction without closing anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Passes bytes on, unless it was told to keep or to swallow them."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.connections = 0
        self.late_s = 0.0
        """How long the first answer on each connection takes longer."""
        self._target_port = target_port
        self._open = 0
        self._swallow = False
        self._kept: list[tuple[asyncio.StreamWriter, bytes]] | None = None
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def swallow_answers(self) -> None:
        """From now on what the server says is lost."""
        self._swallow = True

    def keep_requests(self) -> None:
        """From now on what clients say waits here."""
        self._kept = []

    @property
    def kept(self) -> int:
        """How many pieces wait here."""
        return len(self._kept or [])

    async def deliver(self, count: int | None = None) -> None:
        """What waited here arrives, late; or only the first ``count`` pieces, and the others never."""
        kept, self._kept = self._kept or [], None
        for writer, data in kept[:count]:
            with suppress(ConnectionError, RuntimeError):
                writer.write(data)
                await writer.drain()

    def cut(self) -> None:
        """Close every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        """Close every connection, and wait until nobody uses them."""
        self.cut()
        async with asyncio.timeout(10):
            while self._open:  # noqa: ASYNC110 - at the end of a test only
                await asyncio.sleep(0.01)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers += [writer, up_writer]
        self._open += 1
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(reader, up_writer))
                group.create_task(self._answers(up_reader, writer))
        finally:
            self._open -= 1

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self._kept is not None:
                    self._kept.append((writer, data))
                else:
                    writer.write(data)
                    await writer.drain()
        if self._kept is None:
            writer.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await asyncio.sleep(self.late_s)
            while data := await reader.read(65_536):
                if not self._swallow:
                    writer.write(data)
                    await writer.drain()
        writer.close()


@asynccontextmanager
async def proxied(target_port: int) -> AsyncIterator[Proxy]:
    """A proxy in front of ``target_port`` on this machine."""
    proxy = Proxy(target_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
