"""What was learned from one request's head must never be said of another one.

Mutants seen to be killed: the head that stands first in the queue kept for what was read last; a body that
found no room counted and not given back.
"""

from __future__ import annotations

from sidecar.dataplane.reader import RequestReader
from tests.fakes.backend import Behaviour, FakeBackend
from tests.fakes.dataplane import CHAT, Client, Node, Served, client, eventually, request, running_node


def reader_of(node: Node) -> RequestReader:
    (connection,) = node.plane.connections
    return connection


async def test_behind_an_offered_upgrade_every_request_keeps_its_own_head(
    http: Client, backend: FakeBackend
) -> None:
    first = request(b"", connection="upgrade", upgrade="h2c", x_whose="first")
    other = request(CHAT, x_whose="other")
    http.send(first + other)
    assert [(await http.answer()).status for _ in range(2)] == [400, 200]
    for _ in range(3):
        http.send(other)
        assert (await http.answer()).status == 200
    assert [seen.header("x-whose") for seen in backend.asked] == ["other"] * 4


async def test_what_is_refused_once_is_refused_again(backend: FakeBackend) -> None:
    """Behind a request that waits until the client reads, one of a page that may not act here."""
    backend.default = Behaviour(size=900_000)
    async with running_node(served={"one": Served(backend)}) as node, client(node) as http:
        await eventually(lambda: node.plane.connections, "it is connected")
        asked, connection = 0, reader_of(node)
        while not connection.paused:
            http.post(CHAT)
            asked += 1
            await eventually(lambda: connection.bytes_out > asked * 900_000, "its answer is written")  # noqa: B023
        backend.default = Behaviour()
        page = request(CHAT, origin="https://elsewhere.example")
        http.post(CHAT)
        await eventually(lambda: len(connection._queue) == 1, "it waits")
        http.send(page)
        await eventually(lambda: len(connection._queue) == 2, "both wait")
        answers = [(await http.answer()).status for _ in range(asked + 2)]
        assert answers == [200] * (asked + 1) + [403]
        for _ in range(2):
            http.send(page)
            assert (await http.answer()).status == 403
        assert len(backend.asked) == asked + 1


async def test_bodies_that_find_no_room_are_not_counted_for_ever(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend)}, max_buffered_bytes=4_000) as node:
        async with client(node) as http, client(node) as busy:
            small = {**CHAT, "x": "y" * 2_000}
            assert (await http.ask(small)).status == 200
            assert (await http.ask(small)).status == 200
            backend.default = Behaviour(hang=True)
            busy.post(small)
            await eventually(lambda: node.plane.active, "it runs")
            assert (await http.ask(small)).status == 503, "no room for two"
        await eventually(lambda: not node.plane.active, "they left")
        await eventually(lambda: node.plane.buffered_bytes == 0, "nothing is held")
