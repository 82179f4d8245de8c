"""Clients that send next to nothing, for as long as they are let."""

from __future__ import annotations

import asyncio
import json

from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import CHAT, Client, Served, client, request, running_node

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"


async def test_a_few_blank_lines_before_a_request_are_forgiven(http: Client) -> None:
    for _ in range(20):
        http.send(b"\r\n\r\n")
        assert (await http.ask(CHAT)).status == 200


async def test_endless_blank_lines_are_refused(http: Client) -> None:
    http.send(b"\r\n" * 100)
    answer = await http.answer()
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert await http.closed() == b""


async def test_blank_lines_count_into_the_heads_time(backend: FakeBackend) -> None:
    async with (
        running_node(served={"one": Served(backend)}, head_timeout_s=0.3, idle_timeout_s=60) as node,
        client(node) as used,
    ):
        assert (await used.ask(CHAT)).status == 200
        used.send(b"\r\n")
        assert await used.closed(5) == b""


async def test_a_connection_that_says_nothing_ends(backend: FakeBackend) -> None:
    async with (
        running_node(served={"one": Served(backend)}, head_timeout_s=0.3, idle_timeout_s=60) as node,
        client(node) as silent,
        client(node) as used,
    ):
        assert (await used.ask(CHAT)).status == 200
        assert await silent.closed(5) == b""
        await asyncio.sleep(0.4)
        assert (await used.ask(CHAT)).status == 200, "between requests it may be idle for longer"


async def drip(http: Client, pieces: list[bytes], pause_s: float) -> None:
    for piece in pieces:
        http.send(piece)
        await asyncio.sleep(pause_s)


async def test_a_body_that_drips_is_refused(backend: FakeBackend) -> None:
    async with (
        running_node(served={"one": Served(backend)}, body_rate_window_s=0.3, body_timeout_s=60) as node,
        client(node) as http,
    ):
        http.send(HEAD % 500)
        async with asyncio.TaskGroup() as group:
            dripping = group.create_task(drip(http, [b"{ "] * 200, 0.02))
            answer = await http.answer()
            dripping.cancel()
        assert (answer.status, answer.code) == (408, "request_timeout")


async def test_a_slow_body_that_is_fast_enough_is_served(backend: FakeBackend) -> None:
    body = json.dumps({**CHAT, "pad": "x" * 20_000}).encode()
    whole = request(body)
    pieces = [whole[at : at + 2048] for at in range(0, len(whole), 2048)]
    async with (
        running_node(served={"one": Served(backend)}, body_rate_window_s=0.3, min_body_rate=1024) as node,
        client(node) as http,
    ):
        await drip(http, pieces, 0.1)
        assert (await http.answer()).status == 200
