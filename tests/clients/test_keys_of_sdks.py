"""API keys as unmodified packages send them, to a host that asks for them; the model is on another node."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import anthropic
import ollama
import openai
import pytest

from swarmplane.client_keys import SECRET_BYTES, ClientKey, key_digest, key_text
from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import Node, Served, TestSwarm, running_node
from tests.fakes.ollama import running_ollama

HI = [{"role": "user", "content": "Hi"}]


@dataclass
class Guarded:
    node: Node
    backend: FakeBackend
    key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.node.port}"


@pytest.fixture
async def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Guarded]:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OLLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    swarm, text = TestSwarm(tmp_path), key_text(os.urandom(SECRET_BYTES))
    async with (
        running_ollama("m1") as (backend, _),
        running_node("a", swarm=swarm, auth="always") as a,
        running_node("b", {"one": Served(backend, "m1:latest", "m1", kind="ollama")}, swarm=swarm),
    ):
        swarm.connect()
        keys = (ClientKey("k", key_digest(text.encode()), models=("m1",)),)
        a.routes.install(replace(a.routes.view.table, keys=keys))
        yield Guarded(a, backend, text)
        assert all(text not in str(seen.headers) for seen in backend.asked), "it went no further"


async def test_openai(guarded: Guarded) -> None:
    async with openai.AsyncOpenAI(base_url=f"{guarded.url}/v1", api_key=guarded.key, max_retries=0) as client:
        answer = await client.chat.completions.create(
            model="m1", messages=[{"role": "user", "content": "Hi"}]
        )
        assert answer.choices[0].message.content
        assert [one.id async for one in client.models.list()] == ["m1"]
    async with openai.AsyncOpenAI(base_url=f"{guarded.url}/v1", api_key="sk-x", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            await stranger.models.list()
    assert refused.value.code == "invalid_api_key"
    assert refused.value.type == "authentication_error"


async def test_anthropic(guarded: Guarded) -> None:
    for key, token in ((guarded.key, None), (None, guarded.key)):
        async with anthropic.AsyncAnthropic(
            base_url=guarded.url, api_key=key, auth_token=token, max_retries=0
        ) as client:
            answer = await client.messages.create(
                model="m1", max_tokens=16, messages=[{"role": "user", "content": "Hi"}]
            )
            assert answer.content[0].type == "text"
    async with anthropic.AsyncAnthropic(base_url=guarded.url, api_key="sk-x", max_retries=0) as stranger:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            await stranger.messages.create(
                model="m1", max_tokens=16, messages=[{"role": "user", "content": "Hi"}]
            )
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["error"]["type"] == "authentication_error"


async def test_ollama(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {"authorization": f"Bearer {guarded.key}"}
    async with ollama.AsyncClient(host=guarded.url, headers=shown) as client:
        assert (await client.chat("m1", HI)).message.content
        assert [one.model for one in (await client.list()).models] == ["m1"]
        with pytest.raises(ollama.ResponseError) as missing:
            await client.chat("unknown", HI)
        assert missing.value.status_code == 404
    async with ollama.AsyncClient(host=guarded.url) as stranger:
        with pytest.raises(ollama.ResponseError) as refused:
            await stranger.chat("m1", HI)
    assert refused.value.status_code == 401
    assert "API key" in refused.value.error
    monkeypatch.setenv("OLLAMA_API_KEY", guarded.key)
    async with ollama.AsyncClient(host=guarded.url) as client:
        assert (await client.chat("m1", HI)).message.content
