"""Clients that ask and never read: what they cost is bounded, and they are given up in time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.fakes.backend import Behaviour, FakeBackend
from tests.fakes.dataplane import CHAT, Node, Served, client, eventually, request, running_node

ANSWER_BYTES = 400_000
MOST_UNREAD_BYTES = 2 * ANSWER_BYTES
"""What may wait for one client: the answer that did not fit, and less than the next."""


@contextlib.contextmanager
def deaf(node: Node) -> Iterator[socket.socket]:
    """A connection that nobody reads; the system holds little for it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        sock.connect(("127.0.0.1", node.port))
        sock.setblocking(False)
        yield sock


def unread(node: Node) -> int:
    """Bytes of answers that wait for clients."""
    return sum(one.transport.get_write_buffer_size() for one in node.plane.connections)


async def ask_on(sock: socket.socket, times: int, *, every_s: float = 0.01) -> None:
    """Ask again and again, until nobody takes it any more."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        for _ in range(times):
            await loop.sock_sendall(sock, request(CHAT))
            await asyncio.sleep(every_s)


@pytest.mark.parametrize(("clients", "size", "times"), [(20, ANSWER_BYTES, 40), (1, 20_000, 400)])
async def test_answers_do_not_pile_up(backend: FakeBackend, clients: int, size: int, times: int) -> None:
    backend.default = Behaviour(size=size)
    async with running_node(served={"one": Served(backend)}) as node:
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(deaf(node)) for _ in range(clients)]
            async with asyncio.TaskGroup() as group:
                for sock in socks:
                    group.create_task(ask_on(sock, times, every_s=0.005))
            print(f"{unread(node):,} bytes wait for {clients}, {len(backend.asked)} were asked")  # noqa: T201
            assert 0 < unread(node) <= clients * MOST_UNREAD_BYTES
            async with client(node) as http:
                assert (await http.ask(CHAT)).status == 200, "others are served"
        await eventually(lambda: not node.plane.connections and not node.plane.active, "they are gone")
        assert node.plane.buffered_bytes == 0


async def test_what_waited_is_answered_in_order_once_it_reads(backend: FakeBackend) -> None:
    backend.default = Behaviour(size=ANSWER_BYTES)
    async with running_node(served={"one": Served(backend)}) as node, client(node) as http:
        for number in range(12):
            http.post(CHAT, x_request_id=f"number-{number}")
            await asyncio.sleep(0.01)
        for number in range(12):
            answer = await http.answer()
            assert (answer.status, answer.headers["x-request-id"]) == (200, f"number-{number}")
            assert answer.whole
        assert (await http.ask(CHAT)).status == 200


async def test_who_does_not_read_is_given_up(backend: FakeBackend) -> None:
    backend.default = Behaviour(size=ANSWER_BYTES * 10)
    async with running_node(served={"one": Served(backend)}, stall_timeout_s=0.3) as node:
        with deaf(node) as sock:
            await ask_on(sock, 3)
            await eventually(lambda: not node.plane.connections, "the connection is cut")
        assert not node.plane.active


async def test_a_small_answer_that_nobody_reads_holds_no_connection(backend: FakeBackend) -> None:
    """A close would wait until it is read."""
    backend.default = Behaviour(size=60_000)
    async with running_node(served={"one": Served(backend)}, idle_timeout_s=0.3) as node:
        with deaf(node) as sock:
            await eventually(lambda: node.plane.connections, "it is connected")
            while not unread(node):
                await ask_on(sock, 1)
            await eventually(lambda: not node.plane.connections, "the connection is gone")
