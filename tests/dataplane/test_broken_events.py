"""An event that can't be read, in a stream that passes as it is: told as an error, never a good end.

Mutants that were tried and are killed: looked at after it was passed on; only at the first event; the piece
that is held back for its end left out; `[DONE]`, comments and other fields taken for broken ones; streams of
other paths held to JSON; an event before the first byte not tried elsewhere.
"""

from __future__ import annotations

import json

import pytest

from sidecar.dataplane.frames import WHOLE, is_broken
from tests.dataplane.test_stream_ends import EVENT, chunked
from tests.dataplane.test_translated import asked, behind
from tests.fakes.backend import Behaviour, FakeBackend, running_backend
from tests.fakes.dataplane import STREAM, Client, Node, Served, client, running_node

JUNK = 'data: {"id": "c1", "choices": [{"ind\n\n'
LINE = '{"model":"m1","message":{"role":"assistant","content":"a"},"done":false}\n'
TOO_LONG = {
    "code": 400,
    "message": "request (9000 tokens) exceeds the available context size (1024 tokens), try increasing it",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 9000,
    "n_ctx": 1024,
}


@pytest.mark.parametrize(
    ("lines", "broken"),
    [
        (JUNK, True),
        (EVENT + JUNK, True),
        (JUNK.replace("\n", "\r\n"), True),
        ("data: <html>\n\n", True),
        ("data: [DONE]\n", False),
        (": ping\n\n", False),
        ("event: message_stop\n", False),
        ("data:\n\nid: {\nretry: 3\n\n", False),
        (EVENT.replace("\n", "\r\n") + "\r\n", False),
        ("data: " + "[" * 100_000 + "\n\n", True),
    ],
)
def test_what_is_broken(lines: str, *, broken: bool) -> None:
    assert is_broken(lines.encode(), events=True) is broken


def test_lines_are_documents_elsewhere() -> None:
    assert not is_broken((LINE + "\n").encode(), events=False)
    assert is_broken(b'{"model":"m1","mess\n', events=False)
    assert is_broken(b"data: 1\n", events=False)


def test_whole_events_are_not_read() -> None:
    assert EVENT.encode().endswith(WHOLE)
    assert LINE.encode().endswith(WHOLE)
    assert not JUNK.encode().endswith(WHOLE)


@pytest.mark.parametrize("kind", ["vllm", "ollama"])
async def test_it_ends_the_stream(kind: str) -> None:
    """What stood before it went out; it does not, and neither does what follows."""
    path = "/v1/chat/completions" if kind == "vllm" else "/api/chat"
    async with behind(kind) as (_, http):
        answer = await http.ask(
            asked(stream=True, text="hi there, you"), path, x_fake="junk_after=3; interval_s=0.02"
        )
        assert (answer.status, answer.whole) == (200, True)
        assert await http.closed() == b""
        lines = [line.removeprefix("data: ") for line in answer.body.decode().splitlines()]
        told = [json.loads(line) for line in lines if line.startswith("{")]
        assert len(told) == 4
        assert "error" in told[-1]
        assert "[DONE]" not in lines
        assert not any(one.get("done") for one in told)


async def test_before_the_first_byte_it_is_tried_elsewhere(node: Node, backend: FakeBackend) -> None:
    backend.script.append(Behaviour(raw=chunked(EVENT, JUNK)))
    node.own({"one": Served(backend), "two": Served(backend)})
    async with client(node) as http:
        answer = await http.ask(STREAM)
        assert answer.headers["x-swarm-attempts"] == "2"
        assert answer.events[-1] == "[DONE]"


async def test_a_renamed_stream_is_held_to_it_too(node: Node, backend: FakeBackend) -> None:
    node.own({"one": Served(backend, canonical="other"), "two": Served(backend, canonical="other")})
    backend.script.append(Behaviour(raw=chunked(EVENT, JUNK)))
    async with client(node) as http:
        answer = await http.ask({**STREAM, "model": "other"})
        assert answer.headers["x-swarm-attempts"] == "2"


async def test_streams_of_other_paths_are_nobodys_business(http: Client, backend: FakeBackend) -> None:
    backend.script.append(Behaviour(raw=chunked("data: words, words\n\n")))
    answer = await http.ask(STREAM, "/v1/audio/speech")
    assert answer.events == ["words, words"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps({"error": TOO_LONG}), "invalid_request_error"),
        ('{"type":"error","error":{"type":"overloaded_error","message":"later"}}', "overloaded_error"),
    ],
)
async def test_who_answers_in_anthropics_dialect_refuses_in_it_too(body: str, kind: str) -> None:
    """llama-server's refusals are in OpenAI's shape there (recorded)."""
    speaks = frozenset({"anthropic"})
    async with (
        running_backend(default=Behaviour(status=400, body=body)) as backend,
        running_node(served={"one": Served(backend, speaks=speaks)}) as node,
        client(node) as http,
    ):
        answer = await http.ask(STREAM, "/v1/messages")
        error = answer.json["error"]
        assert (answer.status, answer.json["type"], error["type"]) == (400, "error", kind)
        if kind == "invalid_request_error":
            assert error["message"] == "prompt is too long: 9000 tokens > 1024 maximum"
