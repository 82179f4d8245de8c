"""A client that leaves: its upstream is closed at once, and nothing of it stays."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.fakes.backend import Behaviour, FakeBackend
from tests.fakes.dataplane import (
    CHAT,
    STREAM,
    Client,
    Node,
    Served,
    black_hole,
    client,
    eventually,
    running_node,
)

QUICKLY_S = 2.0
"""What a busy machine may need for what takes milliseconds."""
WAYS = {
    "plain-waiting": (CHAT, "hang=1"),
    "plain-mid-body": (CHAT, "pieces=50;interval_s=0.05;size=5000"),
    "stream-waiting": (STREAM, "hang=1"),
    "stream-running": (STREAM, "chunks=1000;interval_s=0.02"),
    "stream-flooding": (STREAM, "chunks=200000;size=4000"),
    "large-body-running": (CHAT, "size=9000000;pieces=300;interval_s=0.02"),
}


def _nothing_left(*nodes: Node) -> bool:
    return all(
        not node.plane.active
        and not node.plane.buffered_bytes
        and not node.plane.retrying
        and all(not load.in_flight_by_origin for load in node.routes.load_report())
        and all(node.routes.in_flight(key) == 0 for key in node.routes.view.own)
        for node in nodes
    )


async def _leave(entry: Node, backend: FakeBackend, way: str, *, reset: bool) -> float:
    body, fake = WAYS[way]
    async with client(entry) as http:
        http.post(body, x_fake=fake)
        await eventually(lambda: backend.asked, "the backend was asked")
        if way in {"stream-running", "stream-flooding"}:
            await http.head()
        else:
            await asyncio.sleep(0.1)
        seen = backend.asked[0]
        assert seen.disconnected_s is None
        left_s = time.time()
        http.abort() if reset else http.close()
        await eventually(lambda: seen.disconnected_s is not None, "the backend saw it", QUICKLY_S)
        return (seen.disconnected_s or 0) - left_s


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("way", WAYS)
async def test_direct(node: Node, backend: FakeBackend, way: str, reset: bool) -> None:
    assert await _leave(node, backend, way, reset=reset) < QUICKLY_S
    await eventually(lambda: _nothing_left(node), "nothing left")
    await eventually(lambda: backend.open_connections == 0, "no upstream left")
    assert node.plane.counters.cancelled == 1
    assert node.plane.counters.open_connections == 0


@pytest.mark.parametrize("way", WAYS)
async def test_across_the_hop(pair: tuple[Node, Node], backend: FakeBackend, way: str) -> None:
    a, b = pair
    assert await _leave(a, backend, way, reset=False) < QUICKLY_S
    await eventually(lambda: _nothing_left(a, b), "nothing left")
    await eventually(lambda: backend.open_connections == 0, "no upstream left")


async def test_while_connecting() -> None:
    async with black_hole() as port, running_node(served={"one": Served(port)}) as node:
        async with client(node) as http:
            http.post(CHAT)
            await eventually(lambda: node.plane.active)
            await asyncio.sleep(0.1)
            assert node.plane.active
        await eventually(lambda: _nothing_left(node), "nothing left")


async def test_while_a_retry_waits(backend: FakeBackend) -> None:
    backend.default = Behaviour(status=500)
    served = {"one": Served(backend), "two": Served(backend)}
    async with running_node(served=served, draw=lambda: 0.999) as node, client(node) as http:
        http.post(CHAT)
        await eventually(lambda: node.plane.retrying or node.plane.counters.retries)
        http.close()
        await eventually(lambda: _nothing_left(node), "nothing left")


async def test_pipelined_requests_leave_with_their_client(node: Node, backend: FakeBackend) -> None:
    async with client(node) as http:
        for _ in range(5):
            http.post(CHAT, x_fake="hang=1")
        await eventually(lambda: backend.asked)
        http.close()
        await eventually(lambda: _nothing_left(node), "nothing left")
    await asyncio.sleep(0.1)
    assert len(backend.asked) == 1, "those behind it were never sent"


async def test_a_half_sent_request_leaves_nothing(node: Node) -> None:
    async with client(node) as http:
        http.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n"
            + b"x" * 50_000
        )
        await eventually(lambda: node.plane.buffered_bytes)
    await eventually(lambda: not node.plane.buffered_bytes, "the half body is freed")


async def test_a_request_after_a_left_one_is_served(node: Node, backend: FakeBackend) -> None:
    for _ in range(30):
        async with client(node) as http:
            http.post(STREAM, x_fake="chunks=1000;interval_s=0.01")
            await http.head()
    async with client(node) as http:
        assert (await http.ask(CHAT)).status == 200
    await eventually(lambda: _nothing_left(node), "nothing left")
    await eventually(lambda: backend.open_connections <= 1, "at most the pooled one")


async def test_many_clients_leave_at_random(node: Node, backend: FakeBackend) -> None:
    async def one(number: int) -> None:
        async with client(node) as http:
            http.post(STREAM, x_fake="chunks=50;interval_s=0.01")
            await asyncio.sleep(number % 7 * 0.02)

    async with asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task(one(number))
    await eventually(lambda: _nothing_left(node), "nothing left")
    await eventually(lambda: backend.open_connections == 0 or node.plane.counters.open_connections == 0)


async def test_one_client_leaving_disturbs_no_other(http: Client, node: Node) -> None:
    http.post(STREAM, x_fake="chunks=40;interval_s=0.01")
    for _ in range(10):
        async with client(node) as other:
            other.post(STREAM, x_fake="chunks=1000;interval_s=0.01")
            await other.head()
    answer = await http.answer()
    assert answer.whole
    assert answer.events[-1] == "[DONE]"
