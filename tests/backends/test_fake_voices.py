"""The fakes that speak as Ollama and vLLM do: one mind behind both, loads counted, faults in mid-stream."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.fakes.ollama import parse_model, running_ollama
from tests.fakes.vllm import running_vllm

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


async def ask(port: int, path: str, fake: str = "", method: str = "POST", **body: Any) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method, f"http://127.0.0.1:{port}{path}", json=body, headers={"x-fake": fake}
        ) as answer,
    ):
        return answer.status, await answer.read()


def lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


def events(body: bytes) -> list[Any]:
    found = [part.removeprefix(b"data: ") for part in body.split(b"\n\n") if part]
    assert found.pop() == b"[DONE]"
    return [json.loads(one) for one in found]


async def test_one_question_gets_one_answer_from_both() -> None:
    messages = [{"role": "system", "content": "kind"}, {"role": "user", "content": "good day"}]
    async with running_ollama("m1") as (ollama, _), running_vllm("m1") as (vllm, _):
        _, told = await ask(ollama.port, "/api/chat", model="m1", messages=messages)
        words = "".join(line["message"]["content"] for line in lines(told))
        _, said = await ask(vllm.port, "/v1/chat/completions", model="m1", messages=messages, stream=True)
        deltas = [choice["delta"].get("content", "") for one in events(said) for choice in one["choices"]]
    assert words == "".join(deltas) == "You said: good day (kind)"
    assert lines(told)[-1]["done_reason"] == "stop"
    assert lines(told)[-1]["prompt_eval_count"] == 3


async def test_tools_are_called_in_parallel_and_their_arguments_streamed() -> None:
    messages = [{"role": "user", "content": "weather in Paris and Rome"}]
    async with running_ollama("m1") as (ollama, _), running_vllm("m1") as (vllm, _):
        _, told = await ask(ollama.port, "/api/chat", model="m1", messages=messages, tools=[WEATHER])
        path = "/v1/chat/completions"
        _, said = await ask(vllm.port, path, model="m1", messages=messages, tools=[WEATHER], stream=True)
    calls = [call["function"] for line in lines(told) for call in line["message"].get("tool_calls", ())]
    assert [call["arguments"] for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
    pieces: dict[int, str] = {}
    for event in events(said):
        for call in event["choices"][0]["delta"].get("tool_calls", ()):
            pieces[call["index"]] = pieces.get(call["index"], "") + call["function"]["arguments"]
    assert [json.loads(text) for text in pieces.values()] == [{"city": "Paris"}, {"city": "Rome"}]


async def test_a_changed_context_reloads_the_model_and_an_equal_one_does_not() -> None:
    async with running_ollama("m1,resident=8192") as (backend, voice):
        for context in (8192, 8192, 4096):
            await ask(backend.port, "/api/generate", model="m1", prompt="a", options={"num_ctx": context})
        assert voice.reloads == [("m1:latest", 4096)]
        await ask(
            backend.port, "/v1/chat/completions", model="m1", messages=[{"role": "user", "content": "a"}]
        )
        assert len(voice.reloads) == 1, "its default is what is resident now"
        await ask(backend.port, "/api/generate", model="m1", prompt="", keep_alive=0)
        _, body = await ask(backend.port, "/api/ps", method="GET")
        assert json.loads(body) == {"models": []}


async def test_models_are_pulled_copied_and_deleted() -> None:
    new = parse_model("big:70b,size=1000")
    async with running_ollama("m1", library={new.name: new}) as (backend, voice):
        _, body = await ask(backend.port, "/api/pull", model="big:70b")
        assert [line["status"] for line in lines(body)][-1] == "success"
        assert [line["completed"] for line in lines(body) if "completed" in line] == [250, 500, 750, 1000]
        _, body = await ask(backend.port, "/api/pull", model="nobody-has-it")
        assert lines(body)[-1] == {"error": "pull model manifest: file does not exist"}
        assert (await ask(backend.port, "/api/copy", source="big:70b", destination="same"))[0] == 200
        assert (await ask(backend.port, "/api/delete", method="DELETE", model="big:70b"))[0] == 200
        assert (await ask(backend.port, "/api/delete", method="DELETE", model="big:70b"))[0] == 404
        assert set(voice.models) == {"m1:latest", "same:latest"}


@pytest.mark.parametrize(
    ("fake", "ends"),
    [
        pytest.param("fail_after=1", b'"error"', id="a-failure-is-said-in-the-stream"),
        pytest.param("stop_after=2", b'"done":false', id="it-ends-without-its-end-marker"),
        pytest.param("junk_after=5", b'"assis', id="an-event-can-not-be-read"),
    ],
)
async def test_faults_in_mid_stream(fake: str, ends: bytes) -> None:
    async with running_ollama("m1") as (backend, _):
        messages = [{"role": "user", "content": "good day"}]
        status, body = await ask(backend.port, "/api/chat", fake, model="m1", messages=messages)
    assert status == 200
    assert ends in body.splitlines()[-1]
    assert b'"done":true' not in body or fake.startswith("junk")


async def test_an_answer_may_count_nothing() -> None:
    messages = [{"role": "user", "content": "good day"}]
    async with running_vllm("m1") as (backend, _):
        path = "/v1/chat/completions"
        _, counted = await ask(backend.port, path, model="m1", messages=messages)
        _, silent = await ask(backend.port, path, "usage=0", model="m1", messages=messages)
    assert json.loads(counted)["usage"]["completion_tokens"] == 4
    assert "usage" not in json.loads(silent)


@pytest.fixture
def program() -> Iterator[int]:
    """The port of one in a process of its own."""
    arguments = [sys.executable, "-m", "tests.fakes.ollama", "--model", "llama3.2:3b,resident=8192"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.kill()
    process.wait(5)
    process.stdout.close()


@pytest.mark.process
async def test_it_runs_as_a_program_and_takes_orders(program: int) -> None:
    _, body = await ask(program, "/api/ps", method="GET")
    assert json.loads(body)["models"][0]["context_length"] == 8192
    await ask(program, "/fake", next=["status=503"])
    status, body = await ask(program, "/api/chat", model="llama3.2:3b", messages=[])
    assert status == 503
    assert set(json.loads(body)) == {"error"}
    _, body = await ask(program, "/fake", method="GET")
    targets = [one["target"] for one in json.loads(body)["requests"]]
    assert [one for one in targets if one != "/fake"] == ["/api/ps", "/api/chat"]
