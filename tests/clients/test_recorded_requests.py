"""Requests as Claude Code, Continue and Codex send them, byte for byte but for the model's name.

The models have a context of 8,192 tokens and are on another node.
"""

from __future__ import annotations

import json

import pytest

from tests.clients.conftest import CHAT, CODER, NATIVE, THINKER, World
from tests.clients.replaying import Answer, ask, replay

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


def calls_of(answer: Answer) -> list[tuple[str, str, str]]:
    """Kind, name, and what the tool is given, of Codex's stream: it reads finished items alone."""
    items = [one["item"] for one in answer.events() if one["type"] == "response.output_item.done"]
    return [
        (one["type"], one.get("namespace", "") + one["name"], one.get("arguments", one.get("input")))
        for one in items
        if one["type"].endswith("_call")
    ]


@pytest.mark.parametrize("model", MODELS)
def test_codexs_first_turn(world: World, model: str) -> None:
    """Beside functions it sends a free-form tool, a namespace and a search that nobody here has."""
    answer = replay(world, "codex", "first_turn", model)
    assert answer.status == 200, answer.body
    assert answer.events()[-1]["type"] == "response.completed"
    ((kind, name, arguments),) = calls_of(answer)
    assert (kind, name, json.loads(arguments)["command"]) == ("function_call", "shell_command", "Paris")
    sent = world.server(model).last()
    names = [tool["function"]["name"] for tool in sent["tools"]]
    assert names == ["shell_command", "update_plan", "apply_patch", "view_image", "mcp__tickets__find_ticket"]
    patch = sent["tools"][2]["function"]
    assert 'begin_patch: "*** Begin Patch" LF' in patch["description"], "who is not held to it has to know it"
    assert list(patch["parameters"]["properties"]) == ["input"]
    assert sent.get("reasoning_effort") == ("medium" if model == CHAT else None)
    assert "think" not in sent, "a model that does not think would refuse it"


@pytest.mark.parametrize("model", MODELS)
def test_codex_is_answered_in_kind(world: World, model: str) -> None:
    """A free-form tool is given text; a function in a namespace is called by both its names."""
    assert calls_of(replay(world, "codex", "patch", model)) == [("custom_tool_call", "apply_patch", "Rome")]
    ((kind, name, arguments),) = calls_of(replay(world, "codex", "ticket", model))
    assert (kind, name) == ("function_call", "mcp__tickets__find_ticket")
    assert json.loads(arguments) == {"words": "Berlin"}


@pytest.mark.parametrize("model", MODELS)
def test_codexs_second_turn(world: World, model: str) -> None:
    answer = replay(world, "codex", "second_turn", model)
    assert answer.status == 200, answer.body
    said = "".join(one["delta"] for one in answer.events() if one["type"] == "response.output_text.delta")
    assert said == "The tools say: mcp__tickets__find_ticket=no tickets"
    messages = world.server(model).last()["messages"]
    calls = [call["function"] for message in messages for call in message.get("tool_calls") or ()]
    given = [json.loads(one["arguments"]) if model == CHAT else one["arguments"] for one in calls]
    assert given[1] == {"input": "*** Begin Patch\n*** Add File: a.txt\n+one\n*** End Patch\n"}


@pytest.mark.parametrize(("effort", "level"), [("minimal", "low"), ("high", "high"), ("none", False)])
def test_how_much_a_model_thinks(world: World, effort: str, level: object) -> None:
    """Ollama has three levels; its word for none is no."""
    chat: dict[str, object] = {"messages": [{"role": "user", "content": "hi"}], "reasoning_effort": effort}
    for path, said in (
        ("/v1/chat/completions", chat),
        ("/v1/responses", {"reasoning": {"effort": effort}, "input": "hi"}),
    ):
        raw = ask(world, path, {"model": THINKER, **said})
        assert raw.status == 200, raw.body
        assert world.ollama.last()["think"] == level
    refused = ask(world, "/v1/chat/completions", {"model": THINKER, **chat, "reasoning_effort": "some"})
    assert refused.status == 400
    assert refused.document["error"]["param"] == "reasoning_effort"
