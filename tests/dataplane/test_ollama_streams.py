"""Ollama's and Anthropic's own answers, passed on as they are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests.fakes.backend import Behaviour, FakeBackend
from tests.fakes.dataplane import Client, Node, Served, TestSwarm, client, running_node

ASKED = {"model": "m1", "messages": [{"role": "user", "content": "Hi"}]}
MESSAGE = {**ASKED, "max_tokens": 16, "stream": True}


@pytest.fixture
async def ollama(backend: FakeBackend) -> AsyncIterator[Client]:
    speaks = frozenset({"anthropic", "responses"})
    served = {"one": Served(backend, model="M1:latest", canonical="m1", kind="ollama", speaks=speaks)}
    async with running_node(served=served) as node, client(node) as one:
        yield one


def lines(body: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in body.splitlines()]


def chunked(*pieces: str, kind: str = "text/event-stream") -> str:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
    body = "".join(f"{len(piece):x}\r\n{piece}\r\n" for piece in pieces) + "0\r\n\r\n"
    return (head + body).replace("\\", "\\\\")


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_a_stream_of_lines_comes_with_the_asked_name(
    ollama: Client, backend: FakeBackend, path: str
) -> None:
    answer = await ollama.ask(ASKED, path)
    assert answer.headers["content-type"] == "application/x-ndjson"
    said = lines(answer.body)
    assert len(said) == 9
    assert {one["model"] for one in said} == {"m1"}
    assert (said[-1]["done"], said[-1]["eval_count"]) == (True, 8)
    assert json.loads(backend.asked[0].body)["model"] == "M1:latest"


async def test_a_whole_answer_and_embeddings(ollama: Client) -> None:
    for _ in range(2):  # the second one's head is known
        answer = await ollama.ask({**ASKED, "stream": False}, "/api/chat")
        assert answer.json["model"] == "m1"
        assert answer.json["message"]["content"] == "Hello"
    assert (await ollama.ask({"model": "m1", "input": "x"}, "/api/embed")).json["embeddings"]
    assert (await ollama.ask({"model": "m1", "prompt": "x"}, "/api/embeddings")).json["embedding"]


@pytest.mark.parametrize("broken", ["done=0", "reset_at=700", "close_at=700;framing=eof"])
async def test_a_stream_that_ends_early_ends_with_a_line_that_says_so(ollama: Client, broken: str) -> None:
    answer = await ollama.ask(ASKED, "/api/chat", x_fake=broken)
    assert answer.whole
    said = lines(answer.body)
    assert list(said[-1]) == ["error"]
    assert not any(one.get("done") for one in said)
    assert await ollama.closed() == b""


async def test_a_stream_that_only_its_end_delimits_is_whole_when_it_says_so(ollama: Client) -> None:
    answer = await ollama.ask(ASKED, "/api/chat", x_fake="framing=eof")
    assert lines(answer.body)[-1]["done"] is True


async def test_an_error_line_is_the_backends_own(ollama: Client, backend: FakeBackend) -> None:
    lines_in = '{"model":"M1:latest","done":false}\n', '{"error":"out of memory"}\n'
    backend.script.append(Behaviour(raw=chunked(*lines_in, kind="application/x-ndjson")))
    answer = await ollama.ask(ASKED, "/api/chat")
    assert lines(answer.body) == [{"model": "m1", "done": False}, {"error": "out of memory"}]


async def test_lines_that_come_in_pieces(ollama: Client, backend: FakeBackend) -> None:
    text = '{"model":"M1:latest","done":false}\n{"model":"M1:latest","done":true}\n'
    cut = [text[at : at + 5] for at in range(0, len(text), 5)]
    backend.script.append(Behaviour(raw=chunked(*cut, kind="application/x-ndjson")))
    answer = await ollama.ask(ASKED, "/api/chat")
    assert lines(answer.body) == [{"model": "m1", "done": False}, {"model": "m1", "done": True}]


async def test_refusals_are_ollamas(ollama: Client, backend: FakeBackend) -> None:
    for body, status in (({"model": "none"}, 404), (b"{", 400), ({"messages": []}, 400)):
        answer = await ollama.ask(body, "/api/chat")
        assert answer.status == status
        assert isinstance(answer.json["error"], str)
    backend.default = Behaviour(status=500)
    assert isinstance((await ollama.ask(ASKED, "/api/chat")).json["error"], str)
    assert (await ollama.get("/api/chat")).headers["allow"] == "POST"


EVENTS = (
    (
        'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","model":"M1:latest",'
        '"usage":{"input_tokens":3}}}\n\n'
    ),
    (
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        '"delta":{"type":"text_delta","text":"say \\"message_stop\\""}}\n\n'
    ),
    'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)


async def test_anthropics_stream_names_the_model_within_its_message(
    ollama: Client, backend: FakeBackend
) -> None:
    backend.script.append(Behaviour(raw=chunked(*EVENTS)))
    answer = await ollama.ask(MESSAGE, "/v1/messages?beta=true")
    assert answer.body.decode() == "".join(EVENTS).replace("M1:latest", "m1")
    assert backend.asked[0].target == "/v1/messages?beta=true"


async def test_anthropics_stream_without_its_end_is_an_error(ollama: Client, backend: FakeBackend) -> None:
    backend.script.append(Behaviour(raw=chunked(*EVENTS[:-1])))
    answer = await ollama.ask(MESSAGE, "/v1/messages")
    assert answer.body.endswith(b"\n\n")
    last = answer.body.decode().split("\n\n")[-2]
    assert last.startswith("event: error\ndata: ")
    assert json.loads(last.partition("data: ")[2])["error"]["type"] == "api_error"


async def test_a_responses_stream_names_the_model_within_its_response(
    ollama: Client, backend: FakeBackend
) -> None:
    events = (
        'data: {"type":"response.created","response":{"model":"M1:latest","error":null}}\n\n',
        'data: {"type":"response.completed","response":{"model":"M1:latest","error":null}}\n\n',
    )
    backend.script.append(Behaviour(raw=chunked(*events)))
    backend.script.append(Behaviour(raw=chunked(events[0])))
    answer = await ollama.ask(MESSAGE, "/v1/responses")
    assert answer.body.decode() == "".join(events).replace("M1:latest", "m1")
    answer = await ollama.ask(MESSAGE, "/v1/responses")
    assert json.loads(answer.events[-1])["error"]["code"] == "upstream_failed"


async def test_lines_cross_the_hop(swarm: TestSwarm, backend: FakeBackend) -> None:
    served = {"one": Served(backend, model="M1:latest", canonical="m1", kind="ollama")}
    async with running_node("a", swarm=swarm) as a, running_node("b", served, swarm=swarm) as b:
        swarm.connect()
        async with client(a) as http:
            answer = await http.ask(ASKED, "/api/chat")
            assert {one["model"] for one in lines(answer.body)} == {"m1"}
            assert lines(answer.body)[-1]["done"] is True
            assert answer.headers["x-swarm-node"] == "b"
            broken = await http.ask(ASKED, "/api/chat", x_fake="done=0")
            assert [list(one) for one in lines(broken.body)].count(["error"]) == 1
        assert not b.plane.active


async def test_who_looks_for_ollama_finds_it(node: Node) -> None:
    async with client(node) as http:
        assert (await http.get("/")).body == b"Ollama is running"
        head = await http.get("/", method="HEAD")
        assert (head.status, head.headers["content-length"]) == (200, "17")
        assert (await http.get("/api/version")).json["version"].count(".") == 2
        assert (await http.get("/", host="evil.example")).status == 403
        foreign = await http.get("/api/version", origin="https://evil.example")
        assert foreign.status == 403
