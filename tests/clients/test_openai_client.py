"""The unmodified ``openai`` package against a host without models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest

from tests.clients.conftest import CHAT, EMBEDDER, NATIVE, NATIVE_EMBEDDER, SEER, World
from tests.clients.pictures import DATA_URL, SEEN
from tests.e2e.hosts import eventually
from tests.fakes import mind

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

MODELS = [pytest.param(CHAT, id="vllm"), pytest.param(NATIVE, id="ollama")]
EMBEDDERS = [pytest.param(EMBEDDER, id="vllm"), pytest.param(NATIVE_EMBEDDER, id="ollama")]
SEERS = [pytest.param(CHAT, id="vllm"), pytest.param(SEER, id="ollama")]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}


def said(text: str, role: str = "user") -> Any:
    return {"role": role, "content": text}


@pytest.fixture
def client(world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0, timeout=30) as one:
        yield one


@pytest.mark.parametrize("model", MODELS)
def test_chat(client: openai.OpenAI, world: World, model: str) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=model,
        messages=[said("Be kind.", "system"), said("good day to you")],
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop=["to"],
        presence_penalty=0.25,
        frequency_penalty=0.5,
    )
    answer = raw.parse()
    assert answer.choices[0].message.content == "You said: good day"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == model
    assert answer.object == "chat.completion"
    assert answer.created > 1_700_000_000
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 4)
    assert raw.headers["x-swarm-node"] == "b"
    assert raw.headers["x-swarm-model"] == model
    assert "authorization" not in world.server(model).requests()[-1]["headers"]


@pytest.mark.parametrize("model", MODELS)
def test_a_limit_ends_an_answer(client: openai.OpenAI, model: str) -> None:
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        answer = client.chat.completions.create(model=model, messages=[said("one two three")], **limit)
        assert answer.choices[0].message.content == "You said: one"
        assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("model", MODELS)
def test_a_stream(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model,
        messages=[said("good day")],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    told = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(told) == "You said: good day"
    assert len([word for word in told if word]) == 4
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.model for chunk in chunks} == {model}
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons == [None] * (len(reasons) - 1) + ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (2, 4)


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_without_asking_for_usage_has_none(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(model=model, messages=[said("good day")], stream=True)
    assert all(chunk.usage is None and chunk.choices for chunk in stream)


@pytest.mark.parametrize("model", MODELS)
def test_a_tool_is_called_and_its_result_understood(client: openai.OpenAI, model: str) -> None:
    messages = [said("weather in Paris please")]
    first = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls"
    calls = first.choices[0].message.tool_calls
    assert calls is not None
    (call,) = calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris", "days": 3}
    messages += [
        first.choices[0].message.to_dict(),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    second = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert second.choices[0].message.content == "The tools say: get_weather=sunny"


@pytest.mark.parametrize("model", MODELS)
def test_tools_are_called_in_parallel(client: openai.OpenAI, model: str) -> None:
    messages = [said("weather in Paris and Rome")]
    first = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    calls = first.choices[0].message.tool_calls or []
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Paris", "Rome"]  # type: ignore[union-attr]
    assert len({call.id for call in calls}) == 2
    messages.append(first.choices[0].message.to_dict())
    results = zip(calls, ("sunny", "wet"), strict=True)
    messages += [{"role": "tool", "tool_call_id": one.id, "content": word} for one, word in results]
    second = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert second.choices[0].message.content == "The tools say: get_weather=sunny; get_weather=wet"


@pytest.mark.parametrize("model", MODELS)
def test_streamed_arguments(client: openai.OpenAI, model: str) -> None:
    messages = [said("weather in Paris and Rome")]
    with client.chat.completions.stream(model=model, messages=messages, tools=[WEATHER]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds
    calls = final.choices[0].message.tool_calls or []
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Paris", "Rome"]
    assert final.choices[0].finish_reason == "tool_calls"


def test_a_tool_can_be_demanded_or_forbidden(client: openai.OpenAI) -> None:
    named: Any = {"type": "function", "function": {"name": "get_weather"}}
    for choice, expected in (("required", 1), (named, 1), ("none", 0), ("auto", 0)):
        answer = client.chat.completions.create(
            model=CHAT, messages=[said("hello")], tools=[WEATHER], tool_choice=choice
        )
        assert len(answer.choices[0].message.tool_calls or []) == expected


@pytest.mark.parametrize("model", MODELS)
def test_json_mode(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=[said("in JSON")], response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content or "") == {"said": "in JSON"}


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_of_a_given_schema(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(model=model, messages=[said("who?")], response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="word", age=3)


@pytest.mark.parametrize("model", SEERS)
def test_a_picture(client: openai.OpenAI, model: str) -> None:
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": DATA_URL}}]
    message: Any = {"role": "user", "content": parts}
    answer = client.chat.completions.create(model=model, messages=[message])
    assert answer.choices[0].message.content == SEEN


@pytest.mark.parametrize("model", EMBEDDERS)
def test_embeddings(client: openai.OpenAI, model: str) -> None:
    """The client asks for base64 unless told otherwise."""
    for form in ({}, {"encoding_format": "float"}):
        answer = client.embeddings.create(model=model, input=["the lion", "a sheep"], **form)
        assert [row.embedding for row in answer.data] == [mind.vector("the lion"), mind.vector("a sheep")]
        assert [row.index for row in answer.data] == [0, 1]
        assert answer.usage.prompt_tokens == 4
        assert answer.model == model


@pytest.mark.parametrize("model", MODELS)
def test_a_completion(client: openai.OpenAI, model: str) -> None:
    whole = client.completions.create(model=model, prompt="good day", max_tokens=16)
    assert whole.choices[0].text == "You said: good day"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 4
    stream = client.completions.create(model=model, prompt="good day", max_tokens=16, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "You said: good day"


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} >= {CHAT, EMBEDDER}
    assert client.models.retrieve(CHAT).id == CHAT


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody-has-this", messages=[said("hello")])
    assert caught.value.code == "model_not_found"
    assert CHAT in caught.value.message


def test_a_request_that_the_backend_refuses(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=CHAT, messages=[])
    answer = client.chat.completions.create(model=CHAT, messages=[said("good day")])
    assert answer.choices[0].message.content == "You said: good day"


@pytest.mark.parametrize("model", MODELS)
def test_a_backend_that_fails(client: openai.OpenAI, world: World, model: str) -> None:
    world.server(model).order(default="status=500")
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=model, messages=[said("good day")])
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", ["fail_after=3", "stop_after=3", "close_at=900"])
def test_a_stream_that_breaks_is_an_error(
    client: openai.OpenAI, world: World, model: str, fault: str
) -> None:
    world.server(model).order(default=f"{fault}; interval_s=0.01")
    stream = client.chat.completions.create(model=model, messages=[said("count to 40")], stream=True)
    told = []
    with pytest.raises((openai.APIError, openai.APIConnectionError)):
        told.extend(chunk.id for chunk in stream)
    assert len(told) < 40


@pytest.mark.parametrize("model", MODELS)
def test_who_leaves_is_not_served_on(client: openai.OpenAI, world: World, model: str) -> None:
    server = world.server(model)
    server.order(default="interval_s=0.05")
    stream = client.chat.completions.create(model=model, messages=[said("count to 500")], stream=True)
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            break
    stream.close()
    client.close()
    eventually("the backend saw it", lambda: server.requests()[-1]["disconnected_s"], within_s=10)
