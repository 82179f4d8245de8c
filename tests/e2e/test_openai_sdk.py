"""The unmodified ``openai`` client against a host without models of its own."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import openai
import pytest

from swarmplane import models
from tests.e2e.hosts import Host, Swarm, eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

TRAINED, CHAIN = "tiny-trained-q8", "tiny-chain-q8"
QUESTION = [{"role": "user", "content": "What does the lion eat?"}]


@pytest.fixture(scope="module")
def entry(shared_swarm: Swarm) -> Host:
    """A, which has no model; B serves two."""
    a, _ = shared_swarm.pair("--model", str(models.path(TRAINED)), "--model", str(models.path(CHAIN)))
    eventually("both models are ready on A", lambda: _ready(a) >= {TRAINED, CHAIN}, within_s=60)
    return a


def _ready(host: Host) -> set[str]:
    return {e["id"] for e in host.get("/v1/models")["data"] if e["swarm"]["nodes"] and e["swarm"]["loaded"]}


@pytest.fixture
def client(entry: Host) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{entry.url}/v1", api_key="none", max_retries=0, timeout=30) as one:
        yield one


def test_models_are_listed_with_their_nodes(client: openai.OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert set(listed) == {TRAINED, CHAIN}
    extra = listed[TRAINED].model_dump()["swarm"]
    assert extra["nodes"] == ["b"]
    assert extra["context_length"] > 0
    assert client.models.retrieve(TRAINED).id == TRAINED


def test_a_plain_chat(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=TRAINED, messages=QUESTION, temperature=0)
    answer = raw.parse()
    assert (answer.choices[0].message.content or "").strip() == "The lion eats meat."
    assert answer.usage
    assert answer.usage.completion_tokens > 0
    assert raw.headers["x-swarm-node"] == "b"
    assert raw.headers["x-swarm-model"] == TRAINED
    assert raw.headers["x-request-id"]


def test_a_streamed_chat(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model=TRAINED, messages=QUESTION, temperature=0, stream=True)
    words = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert len(words) > 2
    assert "".join(words).strip() == "The lion eats meat."


def test_a_completion_and_its_golden_answer(client: openai.OpenAI) -> None:
    first, second = (
        client.completions.create(model=CHAIN, prompt=prompt, max_tokens=64, temperature=0).choices[0].text
        for prompt in ("Once", "Twice upon a time")
    )
    assert first.split() == second.split()
    assert len(set(first.split())) > 20


def test_embeddings(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=TRAINED, input=["The lion", "The sheep"], encoding_format="float")
    assert len(answer.data) == 2
    assert len(answer.data[0].embedding) == len(answer.data[1].embedding) > 16
    assert answer.data[0].embedding != answer.data[1].embedding


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody-has-this", messages=QUESTION)
    assert caught.value.code == "model_not_found"
    assert TRAINED in caught.value.message


def test_a_bad_body_leaves_the_connection_usable(entry: Host) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", entry.ports["listen"], timeout=30)
    headers = {"content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body='{"model": ', headers=headers)
    bad = connection.getresponse()
    document = json.load(bad)
    assert bad.status == 400
    assert document["error"]["type"] == "invalid_request_error"
    socket_before = connection.sock
    connection.request(
        "POST",
        "/v1/chat/completions",
        body=json.dumps({"model": TRAINED, "messages": QUESTION}),
        headers=headers,
    )
    good = connection.getresponse()
    assert good.status == 200
    assert "meat" in good.read().decode()
    assert connection.sock is socket_before, "the same connection served both"
    connection.close()


def test_the_async_client_too(entry: Host) -> None:
    import asyncio

    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=f"{entry.url}/v1", api_key="none", max_retries=0) as client:
            async with asyncio.TaskGroup() as group:
                answers = [
                    group.create_task(
                        client.chat.completions.create(model=TRAINED, messages=QUESTION, temperature=0)
                    )
                    for _ in range(6)
                ]
            return "|".join((a.result().choices[0].message.content or "").strip() for a in answers)

    assert asyncio.run(ask()) == "|".join(["The lion eats meat."] * 6)
