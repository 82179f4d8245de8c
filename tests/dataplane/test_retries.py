"""Failures before the first byte are repaired elsewhere; after it they are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from swarmplane.inventory import ModelState
from tests.fakes.backend import Behaviour, FakeBackend, running_backend
from tests.fakes.dataplane import CHAT, STREAM, Client, Node, Served, client, eventually, running_node


@contextlib.asynccontextmanager
async def two(**policy: Any) -> AsyncIterator[tuple[Node, FakeBackend, FakeBackend]]:
    """A host with the same model at two backends; with draws of 0 the first is asked first."""
    async with running_backend() as first, running_backend() as second:
        served = {"a": Served(first), "b": Served(second)}
        async with running_node(served=served, **policy) as node:
            yield node, first, second


BROKEN = {
    "500": Behaviour(status=500),
    "502": Behaviour(status=502),
    "503": Behaviour(status=503),
    "504": Behaviour(status=504),
    "reset-at-once": Behaviour(reset_at=0),
    "closed-at-once": Behaviour(close_at=0),
    "reset-in-the-head": Behaviour(reset_at=20),
    "truncated-body": Behaviour(close_at=200, size=5000),
    "truncated-chunks": Behaviour(close_at=200, framing="chunked", size=5000),
    "reset-in-the-body": Behaviour(reset_at=1000, size=5000),
    "too-short-for-its-length": Behaviour(extra_length=10, close=True),
    "bad-chunk": Behaviour(framing="chunked", pieces=4, bad_chunk=True),
    "no-http": Behaviour(raw="SSH-2.0-OpenSSH\\r\\n"),
    "both-framings": Behaviour(
        raw="HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n{}"
    ),
    "truncated-eof-json": Behaviour(framing="eof", close_at=150, size=5000),
    "switching": Behaviour(raw="HTTP/1.1 101 Switching\\r\\nupgrade: x\\r\\nconnection: upgrade\\r\\n\\r\\n"),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_another_endpoint_answers(how: str) -> None:
    async with two() as (node, first, second), client(node) as http:
        first.default = BROKEN[how]
        answer = await http.ask(CHAT)
        assert answer.status == 200, answer.body
        assert answer.json["object"] == "chat.completion"
        assert answer.headers["x-swarm-attempts"] == "2"
        assert answer.headers["x-swarm-backend"] == "b"
        assert (len(first.asked), len(second.asked)) == (1, 1)
        assert (await http.ask(CHAT)).status == 200
        assert node.plane.retrying == 0


STREAM_BROKEN = {
    "reset-at-once": Behaviour(reset_at=0),
    "closed-after-the-head": Behaviour(close_at=110),
    "only-comments": Behaviour(comments=3, close_at=160),
}


@pytest.mark.parametrize("how", STREAM_BROKEN)
async def test_another_endpoint_streams(how: str) -> None:
    async with two() as (node, first, _), client(node) as http:
        first.default = STREAM_BROKEN[how]
        answer = await http.ask(STREAM)
        assert answer.events[-1] == "[DONE]"
        assert answer.headers["x-swarm-attempts"] == "2"


async def test_a_refused_connection_is_tried_elsewhere_and_reported() -> None:
    async with two() as (node, first, second), client(node) as http:
        await first.stop()
        answer = await http.ask(CHAT)
        assert answer.status == 200
        assert node.backends.failures == ["a"]
        assert (await http.ask(CHAT)).headers["x-swarm-attempts"] == "1", "it is ejected"
        assert len(second.asked) == 2


async def test_nobody_reachable_is_no_replica(node: Node, backend: FakeBackend) -> None:
    await backend.stop()
    async with client(node) as http:
        answer = await http.ask(CHAT)
        assert (answer.status, answer.code) == (503, "no_replica")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.json["swarm"]["state"] == "absent"
        assert str(backend.port) not in answer.body.decode()
        assert "127.0.0.1" not in answer.body.decode()
        assert (await http.get("/healthz")).status == 200


async def test_attempts_used_up_says_how_many(http: Client, backend: FakeBackend) -> None:
    backend.default = Behaviour(status=500)
    answer = await http.ask(CHAT)
    assert (answer.status, answer.code) == (502, "upstream_failed")
    assert "1 node was tried" in answer.json["error"]["message"]
    assert answer.json["error"]["type"] == "api_error"


async def test_both_broken_is_one_502() -> None:
    async with two() as (node, first, second), client(node) as http:
        first.default = second.default = Behaviour(reset_at=0)
        answer = await http.ask(CHAT)
        assert answer.status == 502
        assert "2 nodes were tried" in answer.json["error"]["message"]
        assert answer.headers["x-swarm-attempts"] == "2"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_full_backend_is_a_move(status: int) -> None:
    async with two() as (node, first, _), client(node) as http:
        first.default = Behaviour(status=status, retry_after="7")
        assert (await http.ask(CHAT)).headers["x-swarm-backend"] == "b"
        assert node.plane.counters.retries == 0
        assert node.plane.counters.moves == 1
        await http.ask(CHAT)
        assert len(first.asked) == 1, "its Retry-After binds"


async def test_all_full_is_429_at_once() -> None:
    async with two() as (node, first, second), client(node) as http:
        first.default = Behaviour(status=429, retry_after="9")
        second.default = Behaviour(status=503, retry_after="5")
        answer = await http.ask(CHAT)
        assert (answer.status, answer.code) == (429, "saturated")
        assert answer.json["error"]["type"] == "rate_limit_error"
        assert 5 <= int(answer.headers["retry-after"]) <= 8
        again = await http.ask(CHAT)
        assert (again.status, len(first.asked), len(second.asked)) == (429, 1, 1)


async def test_a_date_is_understood_and_holds_for_as_long() -> None:
    """The date counts against the answer's own: nobody's clock matters. Kills: dates read as a second."""
    raw = (
        r"HTTP/1.1 503 Busy\r\ndate: Wed, 21 Oct 2026 07:28:00 GMT\r\n"
        r"retry-after: Wed, 21 Oct 2026 07:28:40 GMT\r\ncontent-length: 2\r\n\r\n{}"
    )
    async with two() as (node, first, second), client(node) as http:
        first.default = Behaviour(raw=raw)
        second.default = Behaviour(status=429, retry_after="90")
        answer = await http.ask(CHAT)
        assert (answer.status, answer.headers["retry-after"]) == (429, "40")
        waits = [until_s - node.plane.clock_s() for until_s in node.routes.overlay.full.values()]
        assert sorted(round(wait_s, -1) for wait_s in waits) == [40, 90]


async def test_a_full_answer_without_a_time_holds_for_longer_each_time() -> None:
    """Until it serves again. Kills: streaks that never grow, that outlive a success, or count a burst."""
    async with two() as (node, first, _):
        first.default = Behaviour(status=429)
        upstreams, key = node.plane.upstreams, f"{node.id}/a/m1"
        async with client(node) as one, client(node) as other:
            for http in (one, other):
                http.post(CHAT, x_swarm_strategy="failover", x_fake="status=429; delay_s=0.2")
            await eventually(lambda: first.running == 2, "both are asked before either is refused")
            assert (await one.answer()).status == (await other.answer()).status == 429
            assert upstreams.full == {key: 1, f"{node.id}/b/m1": 1}
            upstreams.full.popitem()
            for times in (2, 3):
                node.routes._overlay = replace(node.routes._overlay, full={})
                await one.ask(CHAT)
                assert upstreams.full == {key: times}
            node.routes._overlay = replace(node.routes._overlay, full={})
            first.default = Behaviour()
            await one.ask(CHAT)
            assert upstreams.full == {}


async def test_a_loading_model() -> None:
    async with running_backend() as backend:
        served = {"one": Served(backend, state=ModelState.LOADING)}
        async with running_node(served=served) as node, client(node) as http:
            answer = await http.ask(CHAT)
            assert (answer.status, answer.code) == (503, "model_loading")
            assert answer.json["swarm"]["state"] == "loading"
            assert int(answer.headers["retry-after"]) > 0
            assert not backend.asked


async def test_a_backend_that_says_it_loads(http: Client, backend: FakeBackend) -> None:
    backend.default = Behaviour(status=503, body='{"error":{"message":"Loading model","code":503}}')
    answer = await http.ask(CHAT)
    assert (answer.status, answer.code) == (503, "model_loading")


async def test_a_model_the_backend_lost_is_gone(node: Node, backend: FakeBackend) -> None:
    backend.default = Behaviour(status=404, body='{"error":{"message":"The model `m1` does not exist."}}')
    async with client(node) as http:
        answer = await http.ask(CHAT)
        assert (answer.status, answer.code) == (503, "no_replica")
        assert node.backends.missing == [("one", "m1")]
        await http.ask(CHAT)
        assert len(backend.asked) == 1, "it is not asked again"


async def test_a_path_the_backend_does_not_serve_is_the_clients(http: Client, backend: FakeBackend) -> None:
    backend.default = Behaviour(status=404, body='{"error":"not found"}')
    assert (await http.ask(CHAT, "/v1/other")).status == 404


async def test_what_is_not_stateless_is_sent_once() -> None:
    async with two() as (node, first, second), client(node) as http:
        first.default = Behaviour(reset_at=0)
        assert (await http.ask(CHAT, "/v1/images/generations")).status == 502
        assert (await http.ask({**CHAT, "store": True})).status == 502
        response = {"model": CHAT["model"], "input": "Hello"}
        assert (await http.ask(response, "/v1/responses")).status == 502
        assert not second.asked
        assert (await http.ask({**response, "store": False}, "/v1/responses")).status == 200


async def test_a_reused_connection_that_died_is_replayed_once(
    http: Client, node: Node, backend: FakeBackend
) -> None:
    await http.ask(CHAT)
    backend.script.append(Behaviour(close_at=0))
    answer = await http.ask(CHAT)
    assert answer.status == 200
    assert answer.headers["x-swarm-attempts"] == "1", "a replay is no attempt"
    assert node.plane.counters.replays == 1
    assert node.plane.counters.retries == 0
    assert len(backend.asked) == 3


async def test_it_is_replayed_only_once(http: Client, backend: FakeBackend) -> None:
    await http.ask(CHAT)
    backend.default = Behaviour(close_at=0)
    assert (await http.ask(CHAT)).status == 502
    assert len(backend.asked) == 3


async def test_backends_that_close_idle_connections_cost_nothing() -> None:
    async with (
        running_backend(idle_close_s=0.03) as backend,
        running_node(served={"one": Served(backend)}) as node,
        client(node) as http,
    ):
        for number in range(60):
            answer = await http.ask(CHAT)
            assert (answer.status, answer.headers["x-swarm-attempts"]) == (200, "1")
            await asyncio.sleep(0.026 + number % 8 * 0.001)


async def test_idle_upstream_connections_are_dropped_in_time(backend: FakeBackend) -> None:
    async with (
        running_node(served={"one": Served(backend)}, idle_backend_s=0.1) as node,
        client(node) as http,
    ):
        await http.ask(CHAT)
        assert backend.open_connections == 1
        await eventually(lambda: backend.open_connections == 0, "the idle connection is closed")


MID_STREAM = {
    "fin": Behaviour(chunks=10, close_at=900),
    "rst": Behaviour(chunks=10, reset_at=900),
    "mid-line": Behaviour(chunks=10, close_at=930),
    "bad-chunk": Behaviour(chunks=10, bad_chunk=True),
}


@pytest.mark.parametrize("how", MID_STREAM)
async def test_a_stream_that_breaks_says_so(how: str, http: Client, backend: FakeBackend, node: Node) -> None:
    backend.default = MID_STREAM[how]
    answer = await http.ask(STREAM)
    assert answer.whole, "the chunks end properly"
    events = answer.events
    error = json.loads(events[-1])["error"]
    assert (error["type"], error["code"]) == ("api_error", "upstream_failed")
    assert "[DONE]" not in events
    assert all("choices" in json.loads(event) for event in events[:-1]), "whole events only"
    assert len(events) > 2
    assert len(backend.asked) == 1, "never sent again"
    assert await http.closed() == b""
    assert node.plane.counters.broken == 1


async def test_a_whole_stream_without_a_last_chunk_is_whole(http: Client, backend: FakeBackend) -> None:
    raw = (
        r"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        r'1c\r\ndata: {"model":"m1"}\n\ndata: \r\n8\r\n[DONE]\n\n\r\n'
    )
    backend.default = Behaviour(raw=raw, close_at=len(raw))
    answer = await http.ask(STREAM)
    assert answer.whole
    assert answer.events[-1] == "[DONE]"


async def test_a_large_plain_answer_that_breaks_is_cut(node: Node) -> None:
    for framing in ("length", "chunked"):
        async with client(node) as other:
            answer = await other.ask(
                CHAT, x_fake=f"size=3000000;close_at=2500000;framing={framing};pieces=100"
            )
            assert answer.status == 200
            assert not answer.whole, "never padded, never ended as if it were whole"


async def test_a_silent_backend_is_left_for_another() -> None:
    async with two(first_byte_timeout_s=0.3) as (node, first, _), client(node) as http:
        first.default = Behaviour(hang=True)
        answer = await http.ask(CHAT)
        assert answer.headers["x-swarm-backend"] == "b"
        await eventually(lambda: first.asked[0].disconnected_s is not None, "the silent one was let go")


async def test_comments_are_no_first_byte() -> None:
    async with two(first_byte_timeout_s=0.4) as (node, first, _), client(node) as http:
        first.default = Behaviour(comments=500, interval_s=0.05, chunks=1)
        answer = await http.ask(STREAM)
        assert answer.headers["x-swarm-backend"] == "b"
        assert answer.events[-1] == "[DONE]"


async def test_a_hung_backend_is_504(backend: FakeBackend) -> None:
    backend.default = Behaviour(hang=True)
    async with (
        running_node(served={"one": Served(backend)}, first_byte_timeout_s=0.2) as node,
        client(node) as http,
    ):
        answer = await http.ask(CHAT)
        assert (answer.status, answer.code) == (504, "upstream_timeout")
        assert (await http.get("/healthz")).status == 200


async def test_a_stalled_stream_ends_with_an_error(backend: FakeBackend) -> None:
    async with (
        running_node(served={"one": Served(backend)}, stall_timeout_s=0.3) as node,
        client(node) as http,
    ):
        raw = (
            r"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            r'e\r\ndata: {"a":1}\n\r\n'
        )
        backend.default = Behaviour(raw=raw)
        answer = await http.ask(STREAM)
        assert answer.whole
        assert json.loads(answer.events[-1])["error"]["code"] == "upstream_timeout"


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
async def test_the_clients_own_deadline(http: Client, backend: FakeBackend, body: dict[str, object]) -> None:
    started_s = time.monotonic()
    answer = await http.ask(body, x_swarm_timeout_s="0.3", x_fake="hang=1")
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    assert time.monotonic() - started_s < 5
    await eventually(lambda: backend.asked[0].disconnected_s is not None)


async def test_the_deadline_holds_in_mid_stream(http: Client) -> None:
    answer = await http.ask(STREAM, x_swarm_timeout_s="2", x_fake="chunks=2000;interval_s=0.02")
    assert answer.status == 200
    assert answer.whole
    assert json.loads(answer.events[-1])["error"]["code"] == "upstream_timeout"


async def test_the_retry_budget_is_kept() -> None:
    async with two(retry_budget_min=0, retry_budget_ratio=0.0) as (node, first, second), client(node) as http:
        first.default = Behaviour(status=500)
        assert (await http.ask(CHAT)).status == 502
        assert not second.asked


async def test_an_early_answer_ends_the_upload(http: Client) -> None:
    big = {**CHAT, "pad": "x" * 4_000_000}
    answer = await http.ask(big, x_fake="early=1;status=413;close=1")
    assert answer.status == 413
    assert (await http.ask(CHAT)).status == 200


async def test_interim_messages_of_a_backend_are_dropped(http: Client) -> None:
    answer = await http.ask(CHAT, x_fake="interim=x-swarm-phase: queued")
    assert answer.status == 200
    assert not answer.interim
