"""OpenAI's Responses API by its unmodified package, onto backends that have chats alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest

from tests.clients.conftest import CHAT, NATIVE, SEER, World
from tests.clients.pictures import DATA_URL, SEEN
from tests.e2e.hosts import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

MODELS = [pytest.param(CHAT, id="vllm"), pytest.param(NATIVE, id="ollama")]
SEERS = [pytest.param(CHAT, id="vllm"), pytest.param(SEER, id="ollama")]
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CITIES = [{"city": "Paris"}, {"city": "Rome"}]


@pytest.fixture
def client(world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0, timeout=30) as one:
        yield one


@pytest.mark.parametrize("model", MODELS)
def test_an_answer(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.create(
        model=model, input="good day", instructions="Be kind.", max_output_tokens=64, store=False
    )
    assert answer.output_text == "You said: good day (Be kind.)"
    assert answer.status == "completed"
    assert answer.model == model
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (4, 6)


@pytest.mark.parametrize("model", MODELS)
def test_a_stream(client: openai.OpenAI, model: str) -> None:
    with client.responses.stream(model=model, input="good day") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.output_text.delta") == 4
    assert final.output_text == "You said: good day"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tools(client: openai.OpenAI, model: str, stream: bool) -> None:
    turns: list[Any] = [{"role": "user", "content": "weather in Paris and Rome"}]
    if stream:
        with client.responses.stream(model=model, input=turns, tools=[WEATHER]) as events:
            first: Any = events.get_final_response()
    else:
        first = client.responses.create(model=model, input=turns, tools=[WEATHER])
    calls = [item for item in first.output if item.type == "function_call"]
    assert [json.loads(call.arguments) for call in calls] == CITIES
    turns += [
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
        for call in calls
    ]
    turns += [{"type": "function_call_output", "call_id": call.call_id, "output": "dry"} for call in calls]
    second = client.responses.create(model=model, input=turns, tools=[WEATHER])
    assert second.output_text == "The tools say: get_weather=dry; get_weather=dry"


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_of_a_given_schema(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.parse(model=model, input="who?", text_format=Person)
    assert answer.output_parsed == Person(name="word", age=3)


@pytest.mark.parametrize("model", SEERS)
def test_a_picture(client: openai.OpenAI, model: str) -> None:
    parts = [
        {"type": "input_text", "text": "what is it?"},
        {"type": "input_image", "image_url": DATA_URL, "detail": "auto"},
    ]
    turns: Any = [{"role": "user", "content": parts}]
    assert client.responses.create(model=model, input=turns).output_text == SEEN


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", ["fail_after=3", "stop_after=3", "close_at=900"])
def test_a_stream_that_breaks_is_an_error(
    client: openai.OpenAI, world: World, model: str, fault: str
) -> None:
    world.server(model).order(default=f"{fault}; interval_s=0.01")
    kinds: list[str] = []
    stream = client.responses.create(model=model, input="count to 40", stream=True)
    try:
        kinds.extend(event.type for event in stream)
    except openai.APIError:
        kinds.append("error")
    assert kinds[-1] in {"error", "response.failed"}
    assert "response.completed" not in kinds


@pytest.mark.parametrize("model", MODELS)
def test_who_leaves_is_not_served_on(client: openai.OpenAI, world: World, model: str) -> None:
    server = world.server(model)
    server.order(default="interval_s=0.05")
    stream = client.responses.create(model=model, input="count to 500", stream=True)
    for event in stream:
        if event.type == "response.output_text.delta":
            break
    stream.close()
    eventually("the backend saw it", lambda: server.requests()[-1]["disconnected_s"], within_s=10)


def test_what_nobody_stored_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.responses.create(model=CHAT, input="and?", previous_response_id="resp_1")
    assert caught.value.status_code in {400, 409}
