"""What a model thinks, by the packages ``ollama``, ``anthropic`` and ``openai``."""

from __future__ import annotations

from typing import Any

import anthropic
import ollama
import openai
import pytest

from tests.clients.conftest import THINKER, World

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


def said(text: Any, role: str = "user") -> Any:
    return {"role": role, "content": text}


def test_ollama(world: World) -> None:
    client = ollama.Client(host=world.url, timeout=30)
    whole = client.chat(model=THINKER, messages=[said("good day")], think=True)
    assert whole.message.thinking == "I think about it."
    assert whole.message.content == "You said: good day"
    chunks = list(client.chat(model=THINKER, messages=[said("good day")], think=True, stream=True))
    assert "".join(chunk.message.thinking or "" for chunk in chunks) == "I think about it."
    without = client.chat(model=THINKER, messages=[said("good day")], think=False)
    assert not without.message.thinking
    client._client.close()


def test_anthropic(world: World) -> None:
    client = anthropic.Anthropic(base_url=world.url, api_key="none", max_retries=0, timeout=30)
    wanted: Any = {"type": "enabled", "budget_tokens": 1024}
    whole = client.messages.create(
        model=THINKER, max_tokens=2048, thinking=wanted, messages=[said("good day")]
    )
    assert [block.type for block in whole.content] == ["thinking", "text"]
    assert whole.content[0].thinking == "I think about it."  # type: ignore[union-attr]
    with client.messages.stream(
        model=THINKER, max_tokens=2048, thinking=wanted, messages=[said("good day")]
    ) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    again = client.messages.create(
        model=THINKER,
        max_tokens=2048,
        thinking=wanted,
        messages=[
            said("good day"),
            said([block.to_dict() for block in final.content], "assistant"),
            said("and?"),
        ],
    )
    assert again.content[-1].text == "You said: and?"  # type: ignore[union-attr]
    client.close()


def test_openai(world: World) -> None:
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0, timeout=30) as client:
        whole = client.chat.completions.create(model=THINKER, messages=[said("good day")])
        message = whole.choices[0].message.model_dump()
        assert message["content"] == "You said: good day"
        assert "I think about it." in (message.get("reasoning_content"), message.get("reasoning"))
        stream = client.chat.completions.create(model=THINKER, messages=[said("good day")], stream=True)
        deltas = [chunk.choices[0].delta.model_dump() for chunk in stream if chunk.choices]
        thought = [one.get("reasoning_content") or one.get("reasoning") or "" for one in deltas]
        assert "".join(thought) == "I think about it."
        assert "".join(one.get("content") or "" for one in deltas) == "You said: good day"
