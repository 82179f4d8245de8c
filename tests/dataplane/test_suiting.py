"""Requests that are too long, that ask for too long an answer, or for what their model cannot do."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from swarmplane.traits import Traits
from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import Client, Served, TestSwarm, client, running_node

CHAT = "/v1/chat/completions"
LONG = "word " * 8_000
PIXELS = base64.b64encode(bytes(range(256)) * 200).decode()


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m1", "messages": [{"role": "user", "content": content}], **more}


def last(backend: FakeBackend) -> dict[str, Any]:
    return dict(json.loads(backend.asked[-1].body))


async def test_a_prompt_that_nobody_holds_is_refused_in_the_words_of_the_dialect(
    swarm: TestSwarm, backend: FakeBackend
) -> None:
    async with (
        running_node("a", swarm=swarm) as entry,
        running_node("b", {"one": Served(backend, context=8192)}, swarm=swarm) as owner,
        client(entry) as http,
        client(owner) as there,
    ):
        swarm.connect()
        for one in (http, there):
            answer = await one.ask(said(LONG), CHAT)
            assert (answer.status, answer.code) == (400, "context_length_exceeded")
            error = answer.json["error"]
            assert error["type"] == "invalid_request_error"
            assert error["message"].startswith(
                "This model's maximum context length is 8192 tokens. However, you"
            )
            anthropic = await one.ask(said(LONG, max_tokens=10), "/v1/messages")
            assert anthropic.status == 400
            assert anthropic.json["type"] == "error"
            assert anthropic.json["error"]["type"] == "invalid_request_error"
            words = anthropic.json["error"]["message"].split()
            assert words[:4] == ["prompt", "is", "too", "long:"]
            assert int(words[4]) > 8192 == int(words[7])
            ollama = await one.ask(said(LONG), "/api/chat")
            assert ollama.status == 400
            assert "maximum context length is 8192" in ollama.json["error"]
        assert backend.asked == []
        assert (await http.ask(said("Hi"), CHAT)).status == 200


async def test_who_holds_it_is_asked(swarm: TestSwarm, backend: FakeBackend) -> None:
    async with (
        running_node("a", {"one": Served(backend, context=4096)}, swarm=swarm) as entry,
        running_node("b", {"one": Served(backend, context=32_768)}, swarm=swarm),
        client(entry) as http,
    ):
        swarm.connect(strategy="local_first")
        assert (await http.ask(said("Hi"), CHAT)).headers["x-swarm-node"] == "a"
        assert (await http.ask(said(LONG), CHAT)).headers["x-swarm-node"] == "b"


@pytest.mark.parametrize("hop", [False, True])
async def test_an_answer_that_would_not_fit_is_shortened(
    swarm: TestSwarm, backend: FakeBackend, *, hop: bool
) -> None:
    async with (
        running_node("a", swarm=swarm) as entry,
        running_node("b", {"one": Served(backend, context=8192)}, swarm=swarm) as owner,
        client(entry if hop else owner) as http,
    ):
        swarm.connect()
        for key in ("max_tokens", "max_completion_tokens"):
            answer = await http.ask(said("Hi", **{key: 64_000}, stop=["x"]), CHAT)
            assert answer.status == 200
            most = int(answer.headers["x-swarm-max-tokens"])
            assert 8000 < most < 8192
            assert last(backend) == said("Hi", **{key: most}, stop=["x"])
        few = await http.ask(said("Hi", max_tokens=500), CHAT)
        assert "x-swarm-max-tokens" not in few.headers
        assert last(backend)["max_tokens"] == 500
        streamed = await http.ask(said("Hi", max_tokens=64_000, stream=True), CHAT)
        assert int(streamed.headers["x-swarm-max-tokens"]) == last(backend)["max_tokens"]


async def test_pictures_do_not_count_as_text(backend: FakeBackend) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXELS}"}}
    async with running_node(served={"one": Served(backend, context=4096)}) as node, client(node) as http:
        assert (await http.ask(said([picture, {"type": "text", "text": "What is it?"}]), CHAT)).status == 200


async def test_texts_to_embed_are_no_one_prompt(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend, context=4096)}) as node, client(node) as http:
        body = {"model": "m1", "input": ["word " * 1000] * 20}
        assert (await http.ask(body, "/v1/embeddings")).status == 200


def able(backend: FakeBackend, *can: str, model: str = "m1") -> Served:
    return Served(backend, model=model, traits=Traits(capabilities=can))


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}


@pytest.mark.parametrize(
    ("can", "path", "body", "says"),
    [
        pytest.param(("embedding",), CHAT, said("Hi"), "only makes embeddings", id="chat"),
        pytest.param(
            ("embedding",), "/api/generate", {"model": "m1", "prompt": "x"}, "only makes", id="ollama"
        ),
        pytest.param(
            ("chat",), "/v1/embeddings", {"model": "m1", "input": "x"}, "makes no embeddings", id="embed"
        ),
        pytest.param(("chat",), CHAT, said("Hi", tools=[TOOL]), "calls no tools", id="tools"),
        pytest.param(("chat",), CHAT, said([IMAGE]), "sees no images", id="image"),
        pytest.param(("chat",), CHAT, said([SOUND]), "handles no audio", id="audio"),
        pytest.param(
            ("chat",),
            "/api/chat",
            {"model": "m1", "messages": [{"role": "user", "content": "x", "images": ["AA=="]}]},
            "sees no images",
            id="ollama-image",
        ),
        pytest.param(
            ("chat",),
            "/v1/messages",
            said([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}], max_tokens=9),
            "sees no images",
            id="image-of-a-tool",
        ),
        pytest.param(
            ("chat",), "/v1/images/generations", {"model": "m1", "prompt": "x"}, "makes no images", id="draw"
        ),
        pytest.param(
            ("chat",), "/v1/audio/speech", {"model": "m1", "input": "x"}, "handles no audio", id="speech"
        ),
    ],
)
async def test_what_a_model_cannot_do_is_refused(
    backend: FakeBackend, can: tuple[str, ...], path: str, body: dict[str, Any], says: str
) -> None:
    everything = able(backend, "chat", "tools", "vision", "audio", "image", "embedding", model="able")
    async with (
        running_node(served={"one": able(backend, *can), "two": everything}) as node,
        client(node) as http,
    ):
        answer = await http.ask(body, path)
        assert answer.status == 400
        message = answer.json["error"] if path.startswith("/api/") else answer.json["error"]["message"]
        assert says in message
        assert message.endswith("models that can: able")
        assert backend.asked == []
        assert (await http.ask({**said("Hi"), "model": "able"}, CHAT)).status == 200


@pytest.mark.parametrize(
    "body",
    [
        said('the word "image_url" is no image'),
        said([{"type": "text", "text": '"image"'}]),
        said("Hi", tools=[]),
        said("Hi", tools=None),
        {**said("Hi"), "messages": [{"role": "user", "content": [3, {"type": 4}, {"type": "text"}]}]},
    ],
)
async def test_what_only_looks_like_more_is_served(backend: FakeBackend, body: dict[str, Any]) -> None:
    async with running_node(served={"one": able(backend, "chat")}) as node, client(node) as http:
        assert (await http.ask(body, CHAT)).status == 200


async def test_who_can_is_asked(swarm: TestSwarm, backend: FakeBackend) -> None:
    async with (
        running_node("a", {"one": able(backend, "chat")}, swarm=swarm) as entry,
        running_node("b", {"one": able(backend, "chat", "vision")}, swarm=swarm),
        client(entry) as http,
    ):
        swarm.connect(strategy="local_first")
        assert (await http.ask(said([IMAGE]), CHAT)).headers["x-swarm-node"] == "b"
        assert (await http.ask(said("Hi"), CHAT)).headers["x-swarm-node"] == "a"


async def test_odd_limits_are_the_backends_business(http: Client, backend: FakeBackend) -> None:
    for most in ("many", -1, 1.5, None, 10**30):
        assert (await http.ask(said("Hi", max_tokens=most), CHAT)).status == 200
        assert last(backend)["max_tokens"] == most
