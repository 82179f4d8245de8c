"""The unmodified ``langchain-openai`` package against a host without models."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.clients.conftest import CHAT, EMBEDDER, NATIVE, SEER, World
from tests.clients.pictures import DATA_URL, SEEN
from tests.fakes import mind

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

SEERS = [pytest.param(CHAT, id="vllm"), pytest.param(SEER, id="ollama")]
MODELS = [pytest.param(CHAT, id="vllm"), pytest.param(NATIVE, id="ollama")]


class get_weather(pydantic.BaseModel):  # noqa: N801 - the tool's name
    """The weather in a city."""

    city: str


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


def chat(world: World, model: str, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=model, base_url=f"{world.url}/v1", api_key="none", max_retries=0, timeout=30, **more
    )


@pytest.mark.parametrize("model", MODELS)
def test_chat_and_stream(world: World, model: str) -> None:
    one = chat(world, model, temperature=0.5)
    whole = one.invoke([("system", "Be kind."), ("user", "good day")])
    assert whole.content == "You said: good day (Be kind.)"
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 6
    chunks = list(one.stream("good day", stream_usage=True))
    assert "".join(str(chunk.content) for chunk in chunks) == "You said: good day"
    assert len([chunk for chunk in chunks if chunk.content]) == 4


@pytest.mark.parametrize("model", MODELS)
def test_tools_in_parallel_and_streamed(world: World, model: str) -> None:
    able = chat(world, model).bind_tools([get_weather])
    question = HumanMessage("weather in Paris and Rome")
    first = able.invoke([question])
    assert [call["args"] for call in first.tool_calls] == [{"city": "Paris"}, {"city": "Rome"}]
    results = [ToolMessage(f"dry {i}", tool_call_id=call["id"]) for i, call in enumerate(first.tool_calls)]
    second = able.invoke([question, first, *results])
    assert second.content == "The tools say: get_weather=dry 0; get_weather=dry 1"
    total: Any = None
    for chunk in able.stream([question]):
        total = chunk if total is None else total + chunk
    assert [call["args"] for call in total.tool_calls] == [{"city": "Paris"}, {"city": "Rome"}]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(world: World, model: str, method: Any) -> None:
    shaped = chat(world, model).with_structured_output(Person, method=method)
    assert shaped.invoke("who?") == Person(name="word", age=3)


@pytest.mark.parametrize("model", SEERS)
def test_a_picture(world: World, model: str) -> None:
    parts: list[Any] = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": DATA_URL}},
    ]
    assert chat(world, model).invoke([HumanMessage(parts)]).content == SEEN


async def test_it_waits_for_several_at_a_time(world: World) -> None:
    one = chat(world, CHAT)
    answers = await one.abatch([f"number {i}" for i in range(6)])
    assert [answer.content for answer in answers] == [f"You said: number {i}" for i in range(6)]


def test_embeddings(world: World) -> None:
    """Texts cross as they are: it would send tokens of OpenAI's own tokenizer otherwise."""
    one = OpenAIEmbeddings(
        model=EMBEDDER,
        base_url=f"{world.url}/v1",
        api_key="none",
        max_retries=0,
        check_embedding_ctx_length=False,
    )
    assert one.embed_documents(["the lion", "a sheep"]) == [mind.vector("the lion"), mind.vector("a sheep")]
