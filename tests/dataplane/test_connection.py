"""Keep-alive, pipelining, expectations, backpressure, limits of time, and draining."""

from __future__ import annotations

import asyncio
import json

from tests.fakes.backend import Behaviour, FakeBackend
from tests.fakes.dataplane import CHAT, STREAM, Client, Node, Served, client, eventually, running_node

BODY = json.dumps(CHAT).encode()
EXPECTING = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
    b"content-length: %d\r\n\r\n" % len(BODY)
)


async def test_pipelined_answers_come_in_order(http: Client, backend: FakeBackend) -> None:
    delays = ["0.2", "0", "0.1", "0", "0.05"]
    for number, delay in enumerate(delays):
        http.post({**CHAT, "n": number}, x_fake=f"delay_s={delay}", x_request_id=f"r{number}")
    ids = [(await http.answer()).headers["x-request-id"] for _ in delays]
    assert ids == [f"r{number}" for number in range(len(delays))]
    assert [json.loads(seen.body)["n"] for seen in backend.asked] == list(range(len(delays)))


async def test_pipelined_streams_do_not_mix(http: Client) -> None:
    for _ in range(3):
        http.post(STREAM, x_fake="chunks=5;interval_s=0.01")
    for _ in range(3):
        answer = await http.answer()
        assert len(answer.events) == 6


async def test_pipelined_bytes_are_bounded(http: Client, backend: FakeBackend) -> None:
    http.post(CHAT, x_fake="delay_s=0.2")
    await eventually(lambda: backend.asked)
    for _ in range(4):
        http.post({**CHAT, "pad": "x" * 40_000})
    answers = [await http.answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert answers[-1].headers["connection"] == "close"
    assert await http.closed() == b""
    assert len(backend.asked) == 3


async def test_100_continue_is_sent_before_the_body(http: Client) -> None:
    http.send(EXPECTING)
    status, _ = await http.head()
    assert status == 100
    http.send(BODY)
    assert (await http.answer()).status == 200


async def test_a_body_that_comes_without_waiting_is_served_too(http: Client) -> None:
    http.send(EXPECTING + BODY)
    answer = await http.answer()
    assert answer.status == 200
    assert [status for status, _ in answer.interim] in ([], [100])


async def test_no_100_continue_for_what_is_refused(http: Client) -> None:
    http.send(
        b"PUT /nothing HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
    )
    answer = await http.answer()
    assert answer.status == 404
    assert not answer.interim
    assert await http.closed() == b""


async def test_an_expectation_behind_another_request_waits_for_its_turn(http: Client) -> None:
    http.post(CHAT, x_fake="delay_s=0.2")
    http.send(EXPECTING + BODY)
    assert (await http.answer()).status == 200
    assert (await http.answer()).status == 200


async def test_connection_close_is_obeyed_and_said(http: Client) -> None:
    answer = await http.ask(CHAT, connection="close")
    assert answer.status == 200
    assert answer.headers["connection"] == "close"
    assert await http.closed() == b""


async def test_a_slow_reader_bounds_what_is_held(node: Node, backend: FakeBackend) -> None:
    """The backend could send 400 MB; a client that reads nothing stops it after what sockets hold."""
    async with client(node) as http:
        http.post(STREAM, x_fake="chunks=100000;size=4000")
        connection = await eventually(lambda: next(iter(node.plane._connections), None))
        await eventually(lambda: connection.paused, "its client reads nothing")
        last = -1
        while backend.bytes_written != last:
            last = backend.bytes_written
            await asyncio.sleep(0.3)
        assert last < 60_000_000
        assert connection.transport.get_write_buffer_size() < 2_000_000
        assert connection.paused
        while backend.bytes_written < last + 5_000_000:
            assert await asyncio.wait_for(http.reader.read(1 << 20), 10), "it goes on"


async def test_a_reader_that_never_reads_is_cut_off(backend: FakeBackend) -> None:
    async with (
        running_node(served={"one": Served(backend)}, stall_timeout_s=0.4) as node,
        client(node) as http,
    ):
        http.writer.transport.pause_reading()  # type: ignore[attr-defined]
        http.post(STREAM, x_fake="chunks=100000;size=4000")
        await eventually(lambda: node.plane.active)
        await eventually(lambda: not node.plane.active, "given up")
        await eventually(lambda: backend.open_connections == 0)


async def test_a_slow_reader_of_one_stream_delays_no_other(node: Node) -> None:
    async with client(node) as slow, client(node) as quick:
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        slow.post(STREAM, x_fake="chunks=100000;size=4000")
        for _ in range(5):
            assert (await quick.ask(STREAM)).events[-1] == "[DONE]"


async def test_draining_finishes_what_runs_and_takes_nothing_new(node: Node, backend: FakeBackend) -> None:
    async with client(node) as running, client(node) as idle:
        assert (await idle.ask(CHAT)).status == 200
        running.post(STREAM, x_fake="chunks=20;interval_s=0.03")
        await running.head()
        async with asyncio.TaskGroup() as group:
            drained = group.create_task(node.plane.drain(10))
            assert await idle.closed() == b"", "idle connections end at once"
            rest = await running.closed()
        assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert drained.result() == 0
    try:
        async with client(node) as late:
            late.post(CHAT)
            assert await late.closed() == b""
    except ConnectionRefusedError:
        pass
    assert len(backend.asked) == 2


async def test_who_was_let_in_before_a_drain_is_served_once(node: Node) -> None:
    """Kills: a 503 to a client whose connection this process took and no other will."""
    async with client(node) as early, client(node) as late, asyncio.TaskGroup() as group:
        await eventually(lambda: len(node.plane.connections) == 2)
        drained = group.create_task(node.plane.drain(10))
        first = await early.ask(CHAT)
        await eventually(lambda: node.plane.draining)
        second = await late.ask(CHAT)
        assert [(one.status, one.headers.get("connection")) for one in (first, second)] == [
            (200, None),
            (200, "close"),
        ]
        await early.closed()
        assert await drained == 0


async def test_draining_has_an_end(node: Node, backend: FakeBackend) -> None:
    async with client(node) as http:
        http.post(STREAM, x_fake="chunks=100000;interval_s=0.05")
        await http.head()
        assert await node.plane.drain(0.2) == 1
        await http.closed()
    await eventually(lambda: backend.open_connections == 0)


async def test_answers_while_draining_say_close(node: Node) -> None:
    async with client(node) as http:
        http.post(CHAT, x_fake="delay_s=0.3")
        await eventually(lambda: node.plane.active)
        async with asyncio.TaskGroup() as group:
            group.create_task(node.plane.drain(5))
            answer = await http.answer()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"


async def test_requests_in_flight_are_listed(node: Node, http: Client) -> None:
    assert node.plane.requests() == []
    http.post(STREAM, x_fake="chunks=1000;interval_s=0.01", x_request_id="me")
    await http.head()
    (listed,) = node.plane.requests()
    assert listed["request_id"] == "me"
    assert (listed["model"], listed["node"], listed["streaming"]) == ("m1", "solo", True)
    json.dumps(listed)


async def test_counters_count(node: Node, http: Client, backend: FakeBackend) -> None:
    await http.ask(CHAT)
    await http.ask({"model": "nope"})
    backend.default = Behaviour(status=500)
    await http.ask(CHAT)
    counters = node.plane.counters
    assert (counters.requests, counters.completed, counters.connections) == (3, 1, 1)
    rejected = {code.slug: count for code, count in counters.rejected.items() if count}
    assert rejected == {"model_not_found": 1, "upstream_failed": 1}


async def test_many_connections_at_once(node: Node) -> None:
    async def one() -> None:
        async with client(node) as http:
            for _ in range(3):
                assert (await http.ask(STREAM)).events[-1] == "[DONE]"

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(one())
    assert not node.plane.active
