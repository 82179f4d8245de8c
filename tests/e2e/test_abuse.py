"""Clients that mean harm, against a real host: others are served, limits hold, and memory is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator

import psutil
import pytest

from tests.e2e.hosts import Backend, Host, Swarm, eventually
from tests.e2e.storm import Kind, Storm

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

MODEL = "abused-model"
FLOOD = "flooding-model"
"""At a backend of its own: making so much takes that one's whole time."""
MIB = 1 << 20
MOST_GROWTH_BYTES = 160 * MIB
"""Of 450 hostile connections: what each may hold by its limits is less, half a gigabyte was offered."""
ENV = {
    "SWARMPLANE_CLIENT__HEAD_TIMEOUT_S": "2",
    "SWARMPLANE_CLIENT__BODY_TIMEOUT_S": "2",
    "SWARMPLANE_UPSTREAM__STALL_TIMEOUT_S": "3",
    "SWARMPLANE_CLIENT__MAX_BUFFERED_BYTES": str(64 * MIB),
}
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
SECONDS = 8.0


@pytest.fixture
def backends() -> Iterator[tuple[Backend, Backend]]:
    found = Backend(MODEL), Backend(FLOOD)
    yield found
    for one in found:
        one.close()


class Abuse:
    """What the hostile clients got, by their sort."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.ended: dict[str, list[bytes]] = {}

    async def again(
        self, sort: str, act: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        """Begin anew whenever the host ends it."""
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            told = b""
            try:
                with contextlib.suppress(OSError, EOFError):
                    await act(reader, writer)
                    told = await reader.read(100)
            finally:
                writer.transport.abort()
            self.ended.setdefault(sort, []).append(told[:12])
            await asyncio.sleep(0.1)

    async def drip_head(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A byte from time to time; ends when an answer comes."""
        await self._drip(reader, writer, POST[:40] + b"x-slow: ")

    async def drip_body(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A body that is announced, begun and not continued."""
        writer.write(POST + b"content-length: 1000000\r\n\r\n" + b'{"model": "' + b"x" * 200_000)
        await asyncio.wait_for(reader.readuntil(b"\r\n"), 30)

    async def _drip(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begin: bytes) -> None:
        writer.write(begin)
        while not (reader.at_eof() or reader._buffer or writer.transport.is_closing()):  # type: ignore[attr-defined]
            writer.write(b"a")
            await asyncio.sleep(0.2)

    async def wide_head(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """More head than is taken."""
        writer.write(
            POST + b"".join(b"x-%d: %b\r\n" % (number, b"v" * 90) for number in range(1000)) + b"\r\n"
        )

    async def long_head(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ten thousand bytes of headers are taken; the request is answered like any other."""
        body = b'{"model": "%b", "messages": []}' % MODEL.encode()
        writer.write(
            POST + b"x-long: " + b"v" * 10_000 + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )

    async def never_read(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Asks for ten megabytes and takes none."""
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        body = b'{"model": "%b", "stream": true, "messages": []}' % FLOOD.encode()
        wish = b"x-fake: chunks=2500; size=4000\r\n"
        writer.write(POST + wish + b"content-length: %d\r\n\r\n" % len(body) + body)
        await asyncio.sleep(6)
        writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def run(self, seconds: float) -> None:
        sorts = {
            "drip-head": (200, self.drip_head),
            "drip-body": (100, self.drip_body),
            "wide-head": (20, self.wide_head),
            "long-head": (10, self.long_head),
            "never-read": (50, self.never_read),
        }
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for sort, (count, act) in sorts.items():
                    for _ in range(count):
                        group.create_task(self.again(sort, act))
        # Transports that were cut tell their protocols.
        await asyncio.sleep(0.2)


def resident(host: Host) -> int:
    """Bytes of memory that the sidecar has."""
    return int(psutil.Process(host.pid("sidecar")).memory_info().rss)


def test_hostile_clients_cost_the_others_nothing(swarm: Swarm, backends: tuple[Backend, Backend]) -> None:
    a = swarm.host("a")
    a.up(*(part for one in backends for part in ("--backend", one.url)), env=ENV)
    eventually("it serves", lambda: a.models() == {MODEL, FLOOD})
    kinds = (Kind("delay_s=0.05"), Kind("chunks=5; interval_s=0.02", stream=True))
    Storm([a.ports["listen"]], [MODEL], 8, kinds).run(1.0)
    before, most, stop = resident(a), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.wait(0.1):
            most = max(most, resident(a))

    abuse = Abuse(a.ports["listen"])
    good = Storm([a.ports["listen"]], [MODEL], 8, kinds)
    threads = [
        threading.Thread(target=watch),
        threading.Thread(target=lambda: asyncio.run(abuse.run(SECONDS))),
    ]
    for thread in threads:
        thread.start()
    good.run(SECONDS)
    threads[1].join(60)
    stop.set()
    threads[0].join(10)

    counts = {sort: len(ends) for sort, ends in abuse.ended.items()}
    print(f"good: {good.summary()}; ended: {counts}; memory {before >> 20} to {most >> 20} MiB")  # noqa: T201
    assert all(shot.fine for shot in good.shots), [str(shot) for shot in good.shots if not shot.fine][:3]
    assert len(good.shots) >= 16, "each client twice"
    told = {sort: set(ends) for sort, ends in abuse.ended.items()}
    assert b"HTTP/1.1 431" in told["wide-head"]
    assert told["long-head"] == {b"HTTP/1.1 200"}
    assert b"HTTP/1.1 408" in told["drip-head"], "given up after two seconds"
    assert told["drip-body"], "given up after two seconds"
    assert most - before < MOST_GROWTH_BYTES
    eventually("nothing is left", lambda: not a.get("/requests", admin=True)["items"])
    assert a.models() == {MODEL, FLOOD}
