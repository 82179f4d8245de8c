"""Requests as Claude Code and Continue send them, byte for byte but for the model's name.

The models have a context of 8,192 tokens and are on another node.
"""

from __future__ import annotations

import json

import pytest

from tests.clients.conftest import CHAT, CODER, NATIVE, World
from tests.clients.replaying import Answer, replay

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

CONTEXT = 8192
MODELS = [pytest.param(CHAT, id="vllm"), pytest.param(NATIVE, id="ollama")]
FILLERS = [pytest.param(CHAT, id="vllm"), pytest.param(CODER, id="ollama")]


def text(answer: Answer) -> str:
    """What Anthropic's stream says."""
    deltas = [event["delta"] for event in answer.events() if event["type"] == "content_block_delta"]
    return "".join(delta.get("text", "") for delta in deltas)


@pytest.mark.parametrize("model", MODELS)
def test_claude_code_looks_whether_it_may(world: World, model: str) -> None:
    answer = replay(world, "claude_code", "quota", model)
    assert answer.status == 200
    assert answer.document["type"] == "message"
    assert answer.document["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("model", MODELS)
def test_claude_code_counts_its_tools(world: World, model: str) -> None:
    answer = replay(world, "claude_code", "count_tools", model)
    assert answer.status == 200
    assert answer.document["input_tokens"] > 100
    assert not world.server(model).requests(), "nothing was generated for it"


@pytest.mark.parametrize("model", MODELS)
def test_claude_code_begins_the_answer_itself(world: World, model: str) -> None:
    answer = replay(world, "claude_code", "topic", model)
    assert answer.status == 200
    assert [event["type"] for event in answer.events()][-1] == "message_stop"
    assert world.server(model).last()["messages"][-1] == {"role": "assistant", "content": "{"}


@pytest.mark.parametrize("model", MODELS)
def test_claude_codes_first_turn(world: World, model: str) -> None:
    """It asks for 32,000 tokens, of which the model can't hold a third."""
    answer = replay(world, "claude_code", "first_turn", model)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-swarm-node"] == "b"
    assert 0 < int(answer.headers["x-swarm-max-tokens"]) < CONTEXT
    events = answer.events()
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"]
    starts = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    (call,) = [block for block in starts if block["type"] == "tool_use"]
    assert call["name"] == "Read"
    assert call["id"]
    pieces = [event["delta"].get("partial_json", "") for event in events if "delta" in event]
    assert json.loads("".join(pieces))["file_path"] == "Paris"
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    sent = world.server(model).last()
    limit = sent.get("max_completion_tokens") or sent.get("max_tokens") or sent["options"]["num_predict"]
    assert limit == int(answer.headers["x-swarm-max-tokens"])
    assert "cache_control" not in json.dumps(sent)
    assert [one["function"]["name"] for one in sent["tools"]] == ["Bash", "Read", "Grep", "TodoWrite"]


@pytest.mark.parametrize("model", MODELS)
def test_claude_codes_second_turn(world: World, model: str) -> None:
    answer = replay(world, "claude_code", "second_turn", model)
    assert answer.status == 200, answer.body
    assert text(answer) == "The tools say: Read=     1→line one; Bash=README.md"
    assert answer.events()[-2]["delta"]["stop_reason"] == "end_turn"


@pytest.mark.parametrize("model", MODELS)
def test_continue_chats(world: World, model: str) -> None:
    answer = replay(world, "continue", "chat", model)
    assert answer.status == 200
    deltas = [event["choices"][0]["delta"] for event in answer.events() if event["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas).startswith("You said: good day")
    assert answer.events()[-1]["usage"]["completion_tokens"] > 4


@pytest.mark.parametrize("model", MODELS)
def test_continue_as_an_agent(world: World, model: str) -> None:
    answer = replay(world, "continue", "agent", model)
    assert answer.status == 200, answer.body
    deltas = [event["choices"][0]["delta"] for event in answer.events() if event["choices"]]
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls") or ()]
    assert calls[0]["name"] == "read_file"
    assert json.loads("".join(call.get("arguments") or "" for call in calls)) == {"filepath": "Paris"}


@pytest.mark.parametrize("model", FILLERS)
def test_continue_fills_in_the_middle(world: World, model: str) -> None:
    answer = replay(world, "continue", "fim", model)
    assert answer.status == 200, answer.body
    told = "".join(event["choices"][0]["text"] for event in answer.events() if event["choices"])
    assert told == "between return and print(add(1,"


@pytest.mark.parametrize("model", FILLERS)
def test_continue_fills_in_by_ollama(world: World, model: str) -> None:
    answer = replay(world, "continue", "ollama_fim", model)
    assert answer.status == 200, answer.body
    assert "".join(line["response"] for line in answer.lines()) == "between return and print(add(1,"
    assert answer.lines()[-1]["done"] is True


@pytest.mark.parametrize("model", FILLERS)
def test_continue_sends_its_own_template(world: World, model: str) -> None:
    answer = replay(world, "continue", "ollama_raw", model)
    assert answer.status == 200, answer.body
    sent = world.server(model).last()
    assert sent["prompt"].startswith("<|fim_prefix|>"), "nobody puts a template around it"
    # The fake repeats what it is told, and there a word stands at which it is to stop.
    assert "".join(line["response"] for line in answer.lines()) == "You said:"


@pytest.mark.parametrize("model", MODELS)
def test_continue_by_ollama(world: World, model: str) -> None:
    answer = replay(world, "continue", "ollama_chat", model)
    assert answer.status == 200, answer.body
    told = "".join(line["message"]["content"] for line in answer.lines())
    assert told.startswith("You said: good day")
