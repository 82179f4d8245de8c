"""Clients of one dialect, and backends of another: what is asked and answered is translated at the owner."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sidecar.core.hedging import HedgePolicy
from sidecar.dataplane.translation import INLINE_BYTES
from tests.fakes.backend import Behaviour, FakeBackend
from tests.fakes.dataplane import Answer, Client, Node, Served, TestSwarm, client, eventually, running_node
from tests.fakes.ollama import running_ollama
from tests.fakes.vllm import running_vllm

CHAT = "/v1/chat/completions"
OLLAMA = "/api/chat"
CHAT_BODY = {"model": "m1", "messages": [{"role": "user", "content": "Hi"}]}
CROSSINGS = [(CHAT, "ollama"), (OLLAMA, "vllm")]
"""A client's path, and the kind of a backend that does not speak that dialect as it should be spoken."""
NATIVE = {"ollama": "/api/chat", "vllm": "/v1/chat/completions"}


def asked(*, stream: bool, text: str = "Hi", **more: Any) -> dict[str, Any]:
    return {"model": "m1", "messages": [{"role": "user", "content": text}], "stream": stream, **more}


@contextlib.asynccontextmanager
async def behind(kind: str, *, swarm: TestSwarm | None = None) -> AsyncIterator[tuple[FakeBackend, Client]]:
    """A backend of ``kind`` with the model ``M1``, and a client of its host; of another host in a swarm."""
    running = running_ollama("M1:latest") if kind == "ollama" else running_vllm("M1:latest")
    async with contextlib.AsyncExitStack() as stack:
        backend, _ = await stack.enter_async_context(running)
        served = {"one": Served(backend, model="M1:latest", canonical="m1", kind=kind)}
        node = await stack.enter_async_context(running_node("b", served, swarm=swarm))
        if swarm is not None:
            node = await stack.enter_async_context(running_node("a", swarm=swarm))
            swarm.connect()
        yield backend, await stack.enter_async_context(client(node))


def documents(path: str, answer: Answer) -> list[dict[str, Any]]:
    """The pieces of a stream."""
    if path.startswith("/api/"):
        assert answer.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in answer.body.splitlines()]
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.events[-1] == "[DONE]" or "error" in json.loads(answer.events[-1])
    return [json.loads(event) for event in answer.events if event != "[DONE]"]


def text_of(path: str, pieces: list[dict[str, Any]]) -> str:
    if path.startswith("/api/"):
        return "".join(piece["message"]["content"] for piece in pieces if "message" in piece)
    return "".join(
        choice["delta"].get("content") or "" for piece in pieces for choice in piece.get("choices", ())
    )


def words_of(path: str, document: dict[str, Any]) -> str:
    message = document["message"] if path.startswith("/api/") else document["choices"][0]["message"]
    return str(message["content"])


@pytest.mark.parametrize("hop", [False, True])
@pytest.mark.parametrize(("path", "kind"), CROSSINGS)
async def test_an_answer_crosses_dialects(swarm: TestSwarm, path: str, kind: str, *, hop: bool) -> None:
    async with behind(kind, swarm=swarm if hop else None) as (backend, http):
        for _ in range(3):  # the head of a later one is known
            whole = await http.ask(asked(stream=False), path)
            assert (whole.status, whole.headers["content-type"]) == (200, "application/json")
            assert whole.json["model"] == "m1"
            assert "You said: Hi" in words_of(path, whole.json)
            stream = await http.ask(asked(stream=True), path)
            assert stream.status == 200
            assert stream.whole
            pieces = documents(path, stream)
            assert {piece["model"] for piece in pieces} == {"m1"}
            assert text_of(path, pieces) == words_of(path, whole.json)
            assert stream.headers["x-swarm-model"] == "m1"
            assert stream.headers["x-swarm-node"] == "b"
        assert {seen.target for seen in backend.asked} == {NATIVE[kind]}
        assert {json.loads(seen.body)["model"] for seen in backend.asked} == {"M1:latest"}
        assert not backend.malformed


@pytest.mark.parametrize("broken", ["reset_at=900", "close_at=900;framing=eof", "stop_after=2"])
@pytest.mark.parametrize(("path", "kind"), CROSSINGS)
async def test_a_stream_that_breaks_ends_with_an_error_of_the_client(
    path: str, kind: str, broken: str
) -> None:
    async with behind(kind) as (_, http):
        answer = await http.ask(asked(stream=True, text="count to 500"), path, x_fake=broken)
        assert answer.status == 200
        assert answer.whole
        assert await http.closed() == b""
        assert "[DONE]" not in answer.events
        pieces = documents(path, answer)
        assert "error" in pieces[-1]
        assert not any(piece.get("done") for piece in pieces)
        if path == CHAT:
            assert pieces[-1]["error"]["code"] == "upstream_failed"
            assert not any(c["finish_reason"] for piece in pieces[:-1] for c in piece["choices"])


@pytest.mark.parametrize("broken", ["fail_after=3", "junk_after=3"])
@pytest.mark.parametrize(("path", "kind"), CROSSINGS)
async def test_an_error_or_nonsense_within_a_stream(path: str, kind: str, broken: str) -> None:
    async with behind(kind) as (_, http):
        answer = await http.ask(asked(stream=True), path, x_fake=f"{broken};interval_s=0.02")
        pieces = documents(path, answer)
        assert "error" in pieces[-1]
        assert not any(piece.get("done") for piece in pieces)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "kind"), CROSSINGS)
async def test_what_fails_before_the_first_byte_is_tried_again_and_then_told(
    path: str, kind: str, *, stream: bool
) -> None:
    async with behind(kind) as (backend, http):
        odd = ("junk_after=0",) if stream else ("body={", "body=[]")
        for broken in ("close_at=0", "reset_at=120", *odd):
            answer = await http.ask(asked(stream=stream), path, x_fake=broken)
            error = answer.json["error"]
            assert answer.status == 502, broken
            assert "127.0.0.1" not in answer.body.decode()
            assert (error["code"] == "upstream_failed") if path == CHAT else error.startswith("No node")
        assert len(backend.asked) == 2 + len(odd)
        assert (await http.ask(asked(stream=stream), path)).status == 200


@pytest.mark.parametrize("status", [400, 404, 422, 501])
@pytest.mark.parametrize(("path", "kind"), CROSSINGS)
async def test_a_backends_refusal_is_told_in_the_clients_shape(path: str, kind: str, status: int) -> None:
    async with behind(kind) as (_, http):
        answer = await http.ask(asked(stream=True), path, x_fake=f"status={status}")
        error = answer.json["error"]
        assert answer.status == status
        assert answer.headers["content-type"] == "application/json"
        assert error["message"] if path == CHAT else isinstance(error, str)


@pytest.mark.parametrize(("path", "kind"), CROSSINGS)
async def test_a_bad_request_is_refused_by_name_and_the_connection_lives(path: str, kind: str) -> None:
    async with behind(kind) as (backend, http):
        for bad in ({"messages": 7}, {"messages": [{"role": "user"}], "tools": {}}, {"messages": [7]}):
            answer = await http.ask({"model": "m1", "stream": False, **bad}, path)
            assert answer.status == 400, bad
            error = answer.json["error"]
            assert (error["type"] == "invalid_request_error") if path == CHAT else isinstance(error, str)
        assert not backend.asked
        assert (await http.ask(asked(stream=False), path)).status == 200


async def test_what_one_backend_cannot_do_another_one_does(backend: FakeBackend) -> None:
    async with running_ollama("m1") as (ollama, _):
        served = {"one": Served(ollama, kind="ollama"), "two": Served(backend)}
        async with running_node(served=served) as node, client(node) as http:
            for _ in range(6):
                assert (await http.ask(asked(stream=False, n=2), CHAT)).status == 200
        assert not ollama.asked
        async with running_node(served={"one": served["one"]}) as node, client(node) as http:
            answer = await http.ask(asked(stream=False, n=2), CHAT)
            assert (answer.status, answer.json["error"]["param"]) == (400, "n")


async def test_extras_are_gone_and_headers_of_the_other_dialect_too() -> None:
    async with behind("ollama") as (backend, http):
        body = asked(stream=False, fallback_models=["x"], fallback=False)
        answer = await http.ask(body, CHAT, anthropic_version="1", openai_beta="x", x_other="kept")
        assert answer.status == 200
        names = {name for name, _ in backend.asked[0].headers}
        assert not {"anthropic-version", "openai-beta"} & names
        assert backend.asked[0].header("x-other") == "kept"
        assert backend.asked[0].header("content-type") == "application/json"
        assert backend.asked[0].body.count(b"fallback") == 0


@pytest.mark.parametrize("size", [INLINE_BYTES // 2, 3 * INLINE_BYTES])
async def test_large_bodies_cross_too(backend: FakeBackend, size: int) -> None:
    served = {"one": Served(backend, kind="ollama", context=0)}
    async with running_node(served=served) as node, client(node) as http:
        text = "ab " * (size // 3)
        answers = await http.ask(asked(stream=False, text=text), CHAT)
        assert answers.status == 200
        assert json.loads(backend.asked[0].body)["messages"][0]["content"] == text
        refused = await http.ask(asked(stream=False, text=text, n=2), CHAT)
        assert (refused.status, refused.json["error"]["param"]) == (400, "n")


async def test_a_client_that_leaves_while_its_body_is_translated(node: Node) -> None:
    async with behind("ollama") as (backend, http):
        http.post(asked(stream=False, text="ab " * INLINE_BYTES), CHAT)
        http.writer.close()
        await asyncio.sleep(0.3)
        assert all(seen.disconnected_s is not None or seen.answered_s is None for seen in backend.asked)
    assert not node.plane.active


@pytest.mark.parametrize(("path", "kind"), CROSSINGS)
async def test_a_client_that_leaves_ends_the_backends_work(path: str, kind: str) -> None:
    async with behind(kind) as (backend, http):
        http.post(asked(stream=True, text="count to 500"), path, x_fake="interval_s=0.02")
        await http.head()
        http.writer.close()
        await eventually(lambda: backend.asked[0].disconnected_s is not None, "the backend is cut off")


@pytest.mark.parametrize(("path", "kind"), CROSSINGS)
async def test_http_1_0_gets_no_chunks(path: str, kind: str) -> None:
    async with behind(kind) as (_, http):
        body = json.dumps(asked(stream=True)).encode()
        http.send(
            b"POST %b HTTP/1.0\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b"
            % (path.encode(), len(body), body)
        )
        status, headers = await http.head()
        assert status == 200
        assert "transfer-encoding" not in headers
        rest = await http.closed()
        assert rest.endswith(b"data: [DONE]\n\n") or b'"done":true' in rest.splitlines()[-1]


@pytest.mark.parametrize(("path", "kind"), CROSSINGS)
async def test_a_slow_reader_slows_the_backend(backend: FakeBackend, path: str, kind: str) -> None:
    # Far more than the sockets between hold.
    backend.default = Behaviour(chunks=300_000)
    served = {"one": Served(backend, kind=kind)}
    async with running_node(served=served) as node, client(node) as http:
        http.post(asked(stream=True), path)
        await http.head()
        before = -1
        while backend.bytes_written != before:
            before = backend.bytes_written
            await asyncio.sleep(0.3)
        assert backend.running == 1


async def test_an_answer_that_says_it_is_compressed_is_none(backend: FakeBackend) -> None:
    raw = r"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-encoding: gzip\r\n\r\n{}"
    backend.default = Behaviour(raw=raw)
    async with running_node(served={"one": Served(backend)}) as node, client(node) as http:
        assert (await http.ask(asked(stream=True), OLLAMA)).status == 502


COUNT = "/v1/messages/count_tokens"


@pytest.mark.parametrize("hop", [False, True])
async def test_llm_tokens_are_counted_without_the_backend_and_its_slots(
    swarm: TestSwarm, backend: FakeBackend, *, hop: bool
) -> None:
    served = {"one": Served(backend, slots=1, context=0), "two": Served(backend, slots=1, context=0)}
    async with contextlib.AsyncExitStack() as stack:
        owner = await stack.enter_async_context(running_node("b", served, swarm=swarm))
        entry = await stack.enter_async_context(running_node("a", swarm=swarm)) if hop else owner
        swarm.connect()
        busy = [await stack.enter_async_context(client(entry)) for _ in range(2)]
        for one in busy:
            one.post(CHAT_BODY, x_fake="hang=1")
        await eventually(lambda: backend.running == 2, "both slots are taken")
        http = await stack.enter_async_context(client(entry))
        for words in (100, INLINE_BYTES):
            answer = await http.ask(asked(stream=False, text="word " * words), COUNT)
            assert answer.status == 200
            assert words * 0.8 < answer.json["input_tokens"] < words * 1.5
            assert answer.headers["x-swarm-node"] == "b"
        bad = await http.ask({"model": "m1", "messages": 7}, COUNT)
        assert (bad.status, bad.json["error"]["type"]) == (400, "invalid_request_error")
        assert len(backend.asked) == 2


async def test_a_second_copy_may_be_of_another_dialect(backend: FakeBackend) -> None:
    policy = HedgePolicy(enabled=True, factor=1.0, floor_s=0.05, unknown_s=0.05, max_share=1.0)
    async with running_ollama("m1") as (ollama, _):
        ollama.script = backend.script
        served = {"one": Served(ollama, kind="ollama"), "two": Served(backend)}
        async with running_node(served=served, hedge=policy) as node, client(node) as http:
            for _ in range(4):
                ollama.script.append(Behaviour(hang=True))  # of both: whoever is asked first
                answer = await http.ask(asked(stream=True), CHAT)
                assert documents(CHAT, answer)
            assert ollama.asked
            assert backend.asked
            assert node.plane.counters.hedges >= 4


@pytest.mark.parametrize("broken", ["", "}"])
async def test_embeddings_by_the_megabyte(backend: FakeBackend, broken: str) -> None:
    vectors = [[0.5] * 1024 for _ in range(300)]
    body = json.dumps({"model": "m1", "embeddings": vectors, "prompt_eval_count": 3}) + broken
    assert len(body) > 2 * INLINE_BYTES
    backend.default = Behaviour(body=body)
    served = {"one": Served(backend, kind="ollama", context=0)}
    async with running_node(served=served) as node, client(node) as http:
        answer = await http.ask({"model": "m1", "input": ["x"] * 300}, "/v1/embeddings")
        if broken:
            assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_failed")
            return
        assert answer.status == 200
        assert [row["embedding"] for row in answer.json["data"]] == vectors
        http.post({"model": "m1", "input": ["x"] * 300}, "/v1/embeddings")
        await eventually(lambda: len(backend.asked) == 2, "it is asked")
        http.writer.close()
        await eventually(lambda: not node.plane.active, "nothing is left of it")
