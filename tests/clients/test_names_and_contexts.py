"""Names that clients insist on, and contexts of Ollama's that nobody's request may change."""

from __future__ import annotations

import json
from collections.abc import Iterator

import anthropic
import ollama
import openai
import pytest

from tests.clients.conftest import CHAT, NATIVE, World
from tests.clients.tongues import TONGUES, Line, Question, Turn
from tests.e2e.hosts import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

ASKED = "claude-swarm-1"


@pytest.fixture
def line(world: World) -> Iterator[Line]:
    one = Line(world.entry.ports["listen"])
    yield one
    one.close()


@pytest.fixture
def alias(world: World) -> Iterator[str]:
    """What Claude Code asks for, answered by a model of the swarm."""
    done = world.entry.ctl("alias", "set", "claude-*", CHAT)
    assert done.returncode == 0, done.stderr
    question = json.dumps(
        TONGUES["openai"].body(ASKED, Question([Turn("user", "hi")]), stream=False)
    ).encode()
    line = Line(world.entry.ports["listen"])
    eventually("it is known", lambda: line.ask("/v1/chat/completions", question).status == 200)
    line.close()
    yield ASKED
    world.entry.ctl("alias", "remove", "claude-*")


def test_a_name_of_another_maker(world: World, alias: str) -> None:
    """The answer bears the name asked for; the header says who it was."""
    asked = {"model": alias, "messages": [{"role": "user", "content": "good day"}]}
    with anthropic.Anthropic(base_url=world.url, api_key="none", max_retries=0) as client:
        raw = client.messages.with_raw_response.create(max_tokens=64, **asked)  # type: ignore[call-overload]
        assert raw.parse().model == alias
        assert raw.headers["x-swarm-model"] == CHAT
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0) as client:
        stream = client.chat.completions.create(stream=True, **asked)  # type: ignore[call-overload]
        assert {chunk.model for chunk in stream} == {alias}
    native = ollama.Client(host=world.url)
    assert {chunk.model for chunk in native.chat(stream=True, **asked)} == {alias}
    native._client.close()
    assert world.vllm.last()["model"] == CHAT, "the backend is called by its own spelling"


def test_a_hundred_mixed_requests_reload_nothing(world: World, line: Line) -> None:
    """8,192 tokens are resident; clients ask for none, less, and as much, in every dialect."""
    before = world.ollama.report()["voice"]["reloads"]
    for number in range(100):
        dialect = sorted(TONGUES)[number % 3]
        tongue = TONGUES[dialect]
        body = tongue.body(NATIVE, Question([Turn("user", f"number {number}")]), stream=number % 2 == 0)
        context = (None, 4096, 8192)[number // 3 % 3]
        if dialect == "ollama" and context is not None:
            body["options"]["num_ctx"] = context
        raw = line.ask(tongue.path, json.dumps(body).encode())
        assert raw.status == 200, raw.body
        assert world.ollama.last()["options"]["num_ctx"] == 8192
    assert world.ollama.report()["voice"]["reloads"] == before
