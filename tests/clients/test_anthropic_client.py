"""The unmodified ``anthropic`` package against a host without models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.clients.conftest import CHAT, NATIVE, SEER, World
from tests.clients.pictures import BASE64, SEEN
from tests.e2e.hosts import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

MODELS = [pytest.param(CHAT, id="vllm"), pytest.param(NATIVE, id="ollama")]
SEERS = [pytest.param(CHAT, id="vllm"), pytest.param(SEER, id="ollama")]
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def said(text: Any, role: str = "user") -> Any:
    return {"role": role, "content": text}


@pytest.fixture
def client(world: World) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=world.url, api_key="none", max_retries=0, timeout=30) as one:
        yield one


@pytest.mark.parametrize("model", MODELS)
def test_a_message(client: anthropic.Anthropic, model: str) -> None:
    raw = client.messages.with_raw_response.create(
        model=model,
        max_tokens=64,
        system="Be kind.",
        messages=[said("good day to you")],
        stop_sequences=["to"],
        # The package has dropped these words; other clients send them.
        extra_body={"temperature": 0.5, "top_p": 0.9},
    )
    answer = raw.parse()
    assert answer.type == "message"
    assert answer.role == "assistant"
    assert answer.model == model
    assert answer.id.startswith("msg_")
    assert [block.type for block in answer.content] == ["text"]
    assert answer.content[0].text == "You said: good day"  # type: ignore[union-attr]
    assert answer.stop_reason in {"stop_sequence", "end_turn"}
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (6, 4)
    assert raw.headers["x-swarm-node"] == "b"


@pytest.mark.parametrize("model", MODELS)
def test_a_limit_ends_an_answer(client: anthropic.Anthropic, model: str) -> None:
    answer = client.messages.create(model=model, max_tokens=3, messages=[said("one two three")])
    assert answer.content[0].text == "You said: one"  # type: ignore[union-attr]
    assert answer.stop_reason == "max_tokens"


@pytest.mark.parametrize("model", MODELS)
def test_a_stream(client: anthropic.Anthropic, model: str) -> None:
    with client.messages.stream(model=model, max_tokens=64, messages=[said("good day")]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[1] == "content_block_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("content_block_delta") == 4
    assert final.content[0].text == "You said: good day"  # type: ignore[union-attr]
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == 4


@pytest.mark.parametrize("model", MODELS)
def test_tools_in_parallel(client: anthropic.Anthropic, model: str) -> None:
    messages = [said("weather in Paris and Rome")]
    first = client.messages.create(model=model, max_tokens=64, messages=messages, tools=[WEATHER])
    assert first.stop_reason == "tool_use"
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [call.name for call in calls] == ["get_weather"] * 2
    assert [call.input for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
    assert len({call.id for call in calls}) == 2
    results = [
        {"type": "tool_result", "tool_use_id": calls[0].id, "content": "sunny"},
        {"type": "tool_result", "tool_use_id": calls[1].id, "content": [{"type": "text", "text": "wet"}]},
    ]
    messages += [said([block.to_dict() for block in first.content], "assistant"), said(results)]
    second = client.messages.create(model=model, max_tokens=64, messages=messages, tools=[WEATHER])
    told = second.content[0].text  # type: ignore[union-attr]
    assert told == "The tools say: get_weather=sunny; get_weather=wet"


@pytest.mark.parametrize("model", MODELS)
def test_streamed_arguments(client: anthropic.Anthropic, model: str) -> None:
    messages = [said("weather in Paris and Rome")]
    with client.messages.stream(model=model, max_tokens=64, messages=messages, tools=[WEATHER]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert "input_json" in kinds
    calls = [block.input for block in final.content if block.type == "tool_use"]
    assert calls == [{"city": "Paris"}, {"city": "Rome"}]
    assert final.stop_reason == "tool_use"


def test_a_tool_can_be_demanded(client: anthropic.Anthropic) -> None:
    for choice in ({"type": "any"}, {"type": "tool", "name": "get_weather"}):
        answer = client.messages.create(
            model=CHAT,
            max_tokens=64,
            messages=[said("hello")],
            tools=[WEATHER],
            tool_choice=choice,  # type: ignore[arg-type]
        )
        assert answer.stop_reason == "tool_use"


@pytest.mark.parametrize("model", SEERS)
def test_a_picture(client: anthropic.Anthropic, model: str) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": BASE64}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": "what is it?"}]
    answer = client.messages.create(model=model, max_tokens=64, messages=[said(parts)])
    assert answer.content[0].text == SEEN  # type: ignore[union-attr]


def test_an_unknown_model_is_not_found(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="claude-nobody", max_tokens=64, messages=[said("hello")])
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "not_found_error"
    assert "swarmctl alias set" in body["error"]["message"]


def test_a_bad_request(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model=NATIVE, max_tokens=64, messages="hello")  # type: ignore[arg-type]
    body: Any = caught.value.body
    assert body["error"]["type"] == "invalid_request_error"
    answer = client.messages.create(model=NATIVE, max_tokens=64, messages=[said("good day")])
    assert answer.content[0].text == "You said: good day"  # type: ignore[union-attr]


@pytest.mark.parametrize("model", MODELS)
def test_a_backend_that_fails(client: anthropic.Anthropic, world: World, model: str) -> None:
    world.server(model).order(default="status=500")
    with pytest.raises(anthropic.InternalServerError) as caught:
        client.messages.create(model=model, max_tokens=64, messages=[said("good day")])
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "api_error"
    assert "127.0.0.1" not in str(body)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", ["fail_after=3", "stop_after=3", "close_at=900", "junk_after=3"])
def test_a_stream_that_breaks_is_an_error(
    client: anthropic.Anthropic, world: World, model: str, fault: str
) -> None:
    world.server(model).order(default=f"{fault}; interval_s=0.01")
    told = []
    stream = client.messages.create(model=model, max_tokens=64, messages=[said("count to 40")], stream=True)
    with pytest.raises(anthropic.APIError):
        told.extend(event.type for event in stream)
    assert "message_stop" not in told


@pytest.mark.parametrize("model", MODELS)
def test_who_leaves_is_not_served_on(client: anthropic.Anthropic, world: World, model: str) -> None:
    server = world.server(model)
    server.order(default="interval_s=0.05")
    stream = client.messages.create(model=model, max_tokens=600, messages=[said("count to 500")], stream=True)
    for event in stream:
        if event.type == "content_block_delta":
            break
    stream.close()
    eventually("the backend saw it", lambda: server.requests()[-1]["disconnected_s"], within_s=10)
