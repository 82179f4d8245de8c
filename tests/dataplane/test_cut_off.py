"""The end of a drain: what still runs then is ended so that nobody takes it for whole, or gets nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json

from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import CHAT, STREAM, Node, Served, TestSwarm, client, eventually, running_node


async def test_a_stream_that_outlasts_the_drain_ends_with_an_error_event(
    node: Node, backend: FakeBackend
) -> None:
    async with client(node) as http:
        http.post(STREAM, x_fake="chunks=100000;interval_s=0.05")
        await eventually(lambda: any(one["streaming"] for one in node.plane.requests()))
        cut = await node.plane.drain(0.2)
        answer = await http.answer()
        assert cut == 1
        assert answer.whole, "a proper end of the body"
        assert json.loads(answer.events[-1])["error"]["code"] == "draining"
        assert "[DONE]" not in answer.events
        assert await http.closed() == b""
    await eventually(lambda: backend.open_connections == 0)


async def test_an_answer_that_never_began_is_refused_as_draining(node: Node) -> None:
    async with client(node) as plain, client(node) as stream:
        plain.post(CHAT, x_fake="hang=1")
        stream.post(STREAM, x_fake="hang=1")
        await eventually(lambda: len(node.plane.active) == 2)
        assert await node.plane.drain(0.1) == 2
        for http in (plain, stream):
            answer = await http.answer()
            assert (answer.status, answer.code) == (503, "draining")
            assert answer.headers["connection"] == "close"
            assert answer.headers["retry-after"] == "1"
            assert await http.closed() == b""


async def test_who_waits_for_a_slot_is_refused_too(backend: FakeBackend) -> None:
    async with (
        running_node(served={"one": Served(backend, slots=1)}) as node,
        client(node) as first,
        client(node) as second,
    ):
        first.post(CHAT, x_fake="hang=1")
        await eventually(lambda: len(node.plane.active) == 1)
        second.post(CHAT, x_fake="hang=1")
        await eventually(lambda: len(node.plane.active) == 2)
        assert await node.plane.drain(0.1) == 2
        assert [(await http.answer()).code for http in (first, second)] == ["draining"] * 2
        assert len(backend.asked) == 1


async def test_a_request_that_is_still_being_read_is_refused_too(node: Node) -> None:
    async with client(node) as http:
        http.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n{")
        await eventually(lambda: node.plane.buffered_bytes)
        await node.plane.drain(0.1)
        assert (await http.answer()).code == "draining"


async def test_stopping_at_once_says_so_too(backend: FakeBackend) -> None:
    """A second Ctrl-C cancels the drain and then the data plane."""
    async with running_node(served={"one": Served(backend)}) as node, client(node) as http:
        http.post(STREAM, x_fake="chunks=100000;interval_s=0.05")
        await eventually(lambda: any(one["streaming"] for one in node.plane.requests()))
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(node.plane.drain(30))
            await asyncio.sleep(0.05)
            draining.cancel()
        node.plane.close()
        answer = await http.answer()
        assert answer.whole
        assert json.loads(answer.events[-1])["error"]["code"] == "draining"


async def test_a_sender_moves_elsewhere(swarm: TestSwarm, backend: FakeBackend) -> None:
    async with contextlib.AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(running_node(name, served, swarm=swarm))
            for name, served in (("a", {}), ("b", {"one": Served(backend)}), ("c", {"one": Served(backend)}))
        ]
        swarm.connect()
        http = await stack.enter_async_context(client(nodes[0]))
        http.post(CHAT, x_fake="delay_s=1")
        owner = await eventually(lambda: next((node for node in nodes[1:] if node.plane.active), None))
        assert await owner.plane.drain(0.1) == 1
        answer = await http.answer()
        assert (answer.status, answer.headers["x-swarm-attempts"]) == (200, "2")
