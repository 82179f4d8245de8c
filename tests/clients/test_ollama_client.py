"""The unmodified ``ollama`` package against a host without models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from tests.clients.conftest import CHAT, EMBEDDER, NATIVE, NATIVE_EMBEDDER, SEER, World
from tests.clients.pictures import PNG, SEEN
from tests.e2e.hosts import eventually
from tests.fakes import mind

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

MODELS = [pytest.param(NATIVE, id="ollama"), pytest.param(CHAT, id="vllm")]
SEERS = [pytest.param(SEER, id="ollama"), pytest.param(CHAT, id="vllm")]
EMBEDDERS = [pytest.param(NATIVE_EMBEDDER, id="ollama"), pytest.param(EMBEDDER, id="vllm")]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}


def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: Its name.
    """
    return f"dry in {city}"


def said(text: str, role: str = "user") -> Any:
    return {"role": role, "content": text}


@pytest.fixture
def client(world: World) -> Iterator[ollama.Client]:
    one = ollama.Client(host=world.url, timeout=30)
    yield one
    one._client.close()


@pytest.mark.parametrize("model", MODELS)
def test_chat(client: ollama.Client, model: str) -> None:
    answer = client.chat(
        model=model,
        messages=[said("Be kind.", "system"), said("good day to you")],
        options={"temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["to"], "num_predict": 64},
    )
    assert answer.message.role == "assistant"
    assert answer.message.content == "You said: good day"
    assert answer.done is True
    assert answer.done_reason == "stop"
    assert answer.model == model
    assert answer.created_at
    assert (answer.prompt_eval_count, answer.eval_count) == (6, 4)


@pytest.mark.parametrize("model", MODELS)
def test_a_limit_ends_an_answer(client: ollama.Client, model: str) -> None:
    answer = client.chat(model=model, messages=[said("one two three")], options={"num_predict": 3})
    assert answer.message.content == "You said: one"
    assert answer.done_reason == "length"


@pytest.mark.parametrize("model", MODELS)
def test_a_stream(client: ollama.Client, model: str) -> None:
    chunks = list(client.chat(model=model, messages=[said("good day")], stream=True))
    words = [chunk.message.content or "" for chunk in chunks]
    assert "".join(words) == "You said: good day"
    assert len([word for word in words if word]) == 4
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert {chunk.model for chunk in chunks} == {model}
    assert chunks[-1].done_reason == "stop"
    assert (chunks[-1].prompt_eval_count, chunks[-1].eval_count) == (2, 4)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stream", [False, True])
def test_tools(client: ollama.Client, model: str, stream: bool) -> None:
    messages = [said("weather in Paris and Rome")]
    if stream:
        chunks = client.chat(model=model, messages=messages, tools=[get_weather], stream=True)
        calls = [call for chunk in chunks for call in chunk.message.tool_calls or ()]
    else:
        answer = client.chat(model=model, messages=messages, tools=[get_weather])
        calls = list(answer.message.tool_calls or ())
    assert [call.function.name for call in calls] == ["get_weather"] * 2
    assert [dict(call.function.arguments) for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
    messages.append({"role": "assistant", "content": "", "tool_calls": [call.model_dump() for call in calls]})
    messages += [
        {"role": "tool", "tool_name": "get_weather", "content": get_weather(**call.function.arguments)}
        for call in calls
    ]
    last = client.chat(model=model, messages=messages, tools=[get_weather])
    assert last.message.content == "The tools say: get_weather=dry in Paris; get_weather=dry in Rome"


@pytest.mark.parametrize("model", MODELS)
def test_json(client: ollama.Client, model: str) -> None:
    answer = client.chat(model=model, messages=[said("in JSON")], format="json")
    assert json.loads(answer.message.content or "") == {"said": "in JSON"}
    shaped = client.chat(model=model, messages=[said("who?")], format=SCHEMA)
    assert json.loads(shaped.message.content or "") == {"name": "word", "age": 3}


@pytest.mark.parametrize("model", SEERS)
def test_a_picture(client: ollama.Client, model: str) -> None:
    message = {"role": "user", "content": "what is it?", "images": [PNG]}
    assert client.chat(model=model, messages=[message]).message.content == SEEN


@pytest.mark.parametrize("model", MODELS)
def test_generate(client: ollama.Client, model: str) -> None:
    whole = client.generate(model=model, prompt="good day", system="Be kind.")
    assert whole.response == "You said: good day (Be kind.)"
    assert whole.done_reason == "stop"
    chunks = list(client.generate(model=model, prompt="good day", stream=True))
    assert "".join(chunk.response for chunk in chunks) == "You said: good day"
    assert chunks[-1].done is True
    assert chunks[-1].eval_count == 4


@pytest.mark.parametrize("model", EMBEDDERS)
def test_embeddings(client: ollama.Client, model: str) -> None:
    answer = client.embed(model=model, input=["the lion", "a sheep"])
    assert [list(row) for row in answer.embeddings] == [mind.vector("the lion"), mind.vector("a sheep")]
    assert answer.prompt_eval_count == 4
    assert answer.model == model
    assert list(client.embeddings(model=model, prompt="the lion").embedding) == mind.vector("the lion")


def test_an_unknown_model_is_not_found(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(model="nobody-has-this", messages=[said("hello")])
    assert caught.value.status_code == 404
    assert NATIVE in caught.value.error


@pytest.mark.parametrize("model", MODELS)
def test_a_backend_that_fails(client: ollama.Client, world: World, model: str) -> None:
    world.server(model).order(default="status=500")
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(model=model, messages=[said("good day")])
    assert caught.value.status_code in {500, 502}
    assert "127.0.0.1" not in caught.value.error
    assert "{" not in caught.value.error, "the client found the words"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", ["fail_after=3", "stop_after=3", "close_at=900", "junk_after=3"])
def test_a_stream_that_breaks_is_an_error(
    client: ollama.Client, world: World, model: str, fault: str
) -> None:
    world.server(model).order(default=f"{fault}; interval_s=0.01")
    told = []
    stream = client.chat(model=model, messages=[said("count to 40")], stream=True)
    # What a backend speaks itself passes raw, so the client meets the event that can't be read.
    with pytest.raises((ollama.ResponseError, ConnectionError, json.JSONDecodeError)):
        told.extend(chunk.done for chunk in stream)
    assert not any(told)


@pytest.mark.parametrize("model", MODELS)
def test_who_leaves_is_not_served_on(client: ollama.Client, world: World, model: str) -> None:
    server = world.server(model)
    server.order(default="interval_s=0.05")
    stream = client.chat(model=model, messages=[said("count to 500")], stream=True)
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined]
    eventually("the backend saw it", lambda: server.requests()[-1]["disconnected_s"], within_s=10)
