"""Models and counted tokens by the unmodified ``anthropic`` package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.clients.conftest import CHAT, NATIVE, World

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

MODELS = [pytest.param(CHAT, id="vllm"), pytest.param(NATIVE, id="ollama")]
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def said(text: str) -> Any:
    return {"role": "user", "content": text}


@pytest.fixture
def client(world: World) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=world.url, api_key="none", max_retries=0, timeout=30) as one:
        yield one


@pytest.mark.parametrize("model", MODELS)
def test_tokens_are_counted(client: anthropic.Anthropic, model: str) -> None:
    few = client.messages.count_tokens(model=model, messages=[said("good day")])
    many = client.messages.count_tokens(
        model=model, messages=[said("good day " * 200)], tools=[WEATHER], system="Be kind."
    )
    assert 0 < few.input_tokens < many.input_tokens


def test_models_are_listed(client: anthropic.Anthropic) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert set(listed) >= {CHAT, NATIVE}
    assert listed[CHAT].type == "model"
    assert listed[CHAT].display_name
    assert client.models.retrieve(NATIVE).id == NATIVE
