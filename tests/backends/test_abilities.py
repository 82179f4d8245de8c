"""What servers tell of what their models can do, in the shapes that were recorded from them.

Mutants that were tried and are killed: tools named although the template drops them; a server that is too old
to tell taken for one that can nothing; embeddings asked for at every look; vLLM's text models taken to lack
what it does not tell.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.backends.finding import Health
from sidecar.backends.looks import look_at
from sidecar.backends.ollama_probe import Shelf
from sidecar.backends.spoken import spoken

META = {
    "vocab_type": 1,
    "n_vocab": 512,
    "n_ctx": 1024,
    "n_ctx_train": 2048,
    "n_params": 8_030_261_312,
    "size": 700928,
}
LISTED = {"object": "list", "data": [{"id": "m", "owned_by": "llamacpp", "meta": {**META, "ftype": "Q8_0"}}]}
PROPS: dict[str, Any] = {
    "default_generation_settings": {"n_ctx": 1024},
    "total_slots": 2,
    "modalities": {"vision": False, "video": False, "audio": False},
    "chat_template_caps": {
        "supports_tools": False,
        "supports_tool_calls": False,
        "supports_system_role": True,
    },
}
TOOLS = {"chat_template_caps": {"supports_tools": True, "supports_tool_calls": True}}
NO_EMBEDDINGS = (
    501,
    b'{"error":{"code":501,"message":"This server does not support embeddings. Start it with --embeddings"}}',
)
NO_POOLING = 400, b'{"error":{"code":400,"message":"Pooling type \'none\' is not OAI compatible."}}'
NO_TEXT = 400, b'{"error":{"code":400,"message":"\\"input\\" or \\"content\\" must be provided"}}'


class Server:
    """Answers what it is told to; whatever else is not found."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {"/" + name.replace("__", "/"): given for name, given in answers.items()}
        self.asked: list[str] = []

    async def ask(self, path: str, body: bytes = b"") -> tuple[int, bytes]:
        assert body in {b"", b"{}"}
        self.asked.append(path)
        given = self.answers.get(path, (404, b"{}"))
        return given if isinstance(given, tuple) else (200, json.dumps(given).encode())


def llama_server(embeddings: tuple[int, bytes] = NO_EMBEDDINGS, **props: Any) -> Server:
    answers = {"v1__models": LISTED, "props": {**PROPS, **props}, "v1__embeddings": embeddings, "health": {}}
    return Server(**answers)


@pytest.mark.parametrize(
    ("props", "embeddings", "can"),
    [
        ({}, NO_EMBEDDINGS, ("chat", "completion")),
        ({}, NO_POOLING, ("chat", "completion")),
        ({}, NO_TEXT, ("chat", "completion", "embedding")),
        (TOOLS, NO_EMBEDDINGS, ("chat", "tools", "completion")),
        (
            {"modalities": {"vision": True, "audio": True}},
            NO_TEXT,
            ("chat", "vision", "audio", "completion", "embedding"),
        ),
        ({"chat_template_caps": None}, NO_EMBEDDINGS, ("chat", "tools", "completion")),
        ({"modalities": None}, NO_TEXT, ()),
    ],
)
async def test_llama_server_tells_by_its_properties(
    props: Any, embeddings: Any, can: tuple[str, ...]
) -> None:
    found = await look_at("llama-server", llama_server(embeddings, **props).ask, Shelf())
    assert found.health is Health.OK
    (model,) = found.models or ()
    assert model.capabilities == can


async def test_its_model_is_described_and_embeddings_are_asked_for_once() -> None:
    server, shelf = llama_server(), Shelf()
    for _ in range(3):
        found = await look_at("llama-server", server.ask, shelf)
    (model,) = found.models or ()
    facts = (
        model.trained_context,
        model.context_length,
        model.parameter_size,
        model.format,
        model.quantization,
    )
    assert facts == (2048, 1024, "8.0B", "gguf", "Q8_0")
    assert server.asked.count("/v1/embeddings") == 1
    shelf.forget()
    await look_at("llama-server", server.ask, shelf)
    assert server.asked.count("/v1/embeddings") == 2, "another server may be there"


@pytest.mark.parametrize(
    ("paths", "can"),
    [
        (["/v1/embeddings", "/pooling"], ("embedding",)),
        (["/v1/chat/completions"], ()),
        (["/v1/chat/completions", "/v1/embeddings"], ()),
        (None, ()),
    ],
)
async def test_vllm_serves_what_its_model_can(paths: list[str] | None, can: tuple[str, ...]) -> None:
    listed = {"object": "list", "data": [{"id": "m", "owned_by": "vllm", "max_model_len": 40960}]}
    answers: dict[str, Any] = {"v1__models": listed, "health": {}}
    if paths is not None:
        answers["openapi.json"] = {"paths": {path: {} for path in paths}}
    server, shelf = Server(**answers), Shelf()
    for _ in range(2):
        found = await look_at("vllm", server.ask, shelf)
        (model,) = found.models or ()
        assert (model.capabilities, model.context_length) == (can, 40960)
    assert server.asked.count("/openapi.json") == 1


async def test_llama_server_stumbles_over_an_empty_message() -> None:
    """Recorded: it answers 500 where Anthropic says 400, and it speaks the dialect all the same."""
    stumbles = 500, b'{"error":{"code":500,"message":"\'messages\' is required","type":"server_error"}}'
    lacks = 400, b'{"error":{"code":400,"message":"\'input\' is required","type":"invalid_request_error"}}'
    server = Server(v1__messages=stumbles, v1__messages__count_tokens=stumbles, v1__responses=lacks)
    assert await spoken("llama-server", server.ask) == {"openai", "anthropic", "count_tokens", "responses"}


async def test_who_answers_messages_need_not_count_them() -> None:
    """As vLLM had them before it counted."""
    lacks = 400, b"{\"error\":{\"message\":\"[{'loc': ('body', 'max_tokens')}]\"}}"
    assert await spoken("vllm", Server(v1__messages=lacks).ask) == {"openai", "anthropic"}
