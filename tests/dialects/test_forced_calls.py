"""A call that has to be made, at Ollama, which can't be told to make one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.dialects.translate import BackendAnswerError
from swarmplane.errors import InvalidRequestError
from tests.dialects.scripts import (
    CHAT,
    MESSAGES,
    OLLAMA,
    RESPONSES,
    STREAMS,
    WHOLES,
    Script,
    outgoing,
    sent_by_ollama,
    whole_of_ollama,
)

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ONE: dict[bytes, dict[str, Any]] = {
    CHAT: {
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [
            {"type": "function", "function": {"name": n, "parameters": WEATHER}} for n in ("look", "go")
        ],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
    },
    MESSAGES: {
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 9,
        "tools": [{"name": n, "input_schema": WEATHER} for n in ("look", "go")],
        "tool_choice": {"type": "tool", "name": "look"},
    },
    RESPONSES: {
        "input": "hi",
        "tools": [{"type": "function", "name": n, "parameters": WEATHER} for n in ("look", "go")],
        "tool_choice": {"type": "function", "name": "look"},
    },
}
HI = ONE[CHAT]["messages"]
ANY = {CHAT: "required", MESSAGES: {"type": "any"}, RESPONSES: "required"}
paths = pytest.mark.parametrize("path", ONE, ids=bytes.decode)
SAID = Script(("hm",), ('{"city":', ' "Oslo"}'))
CALL = ("call_abc_0", "look", {"city": "Oslo"})
CALLED = {"name": "look", "arguments": {"city": "Oslo"}}


@paths
@pytest.mark.parametrize("stream", [True, False])
def test_one_tool_that_is_named(path: bytes, stream: bool) -> None:
    """Kills: the text said as text too, the schema of another tool, a finish of "stop", thinking lost."""
    out = outgoing(path, ONE[path] | {"stream": stream}, OLLAMA)
    body = json.loads(out.body)
    assert body["format"] == WEATHER
    assert [tool["function"]["name"] for tool in body["tools"]] == ["look"]
    if stream:
        pieces = [out.answer.push(frame) for frame in sent_by_ollama(SAID)]
        assert sum(b"Oslo" in piece or b"city" in piece for piece in pieces) > 1, "arguments stream"
        heard = STREAMS[path](b"".join(pieces) + out.answer.end())
    else:
        heard = WHOLES[path](out.answer.whole(whole_of_ollama(SAID)))
    assert (heard.text, heard.thinking, heard.calls, heard.finish) == ("", "hm", [CALL], "tool_calls")


@paths
@pytest.mark.parametrize("stream", [True, False])
def test_any_of_several_tools(path: bytes, stream: bool) -> None:
    out = outgoing(path, ONE[path] | {"tool_choice": ANY[path], "stream": stream}, OLLAMA)
    branches = json.loads(out.body)["format"]["anyOf"]
    assert [one["properties"]["name"]["const"] for one in branches] == ["look", "go"]
    assert all(one["properties"]["arguments"] == WEATHER for one in branches)
    assert all(one["required"] == ["name", "arguments"] for one in branches)
    said = Script((), ('{"name":"look","argu', 'ments":{"city":"Oslo"}}'))
    if stream:
        frames = b"".join(sent_by_ollama(said))
        heard = STREAMS[path](out.answer.push(frames) + out.answer.end())
    else:
        heard = WHOLES[path](out.answer.whole(whole_of_ollama(said)))
    assert (heard.text, heard.calls, heard.finish) == ("", [CALL], "tool_calls")


@pytest.mark.parametrize("text", ["", "Oslo is nice", "[1]", '{"city":'])
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_is_no_call_is_a_fault(text: str, stream: bool) -> None:
    out = outgoing(CHAT, ONE[CHAT] | {"stream": stream}, OLLAMA)
    said = Script((), (text,) if text else ())

    def heard() -> bytes:
        if not stream:
            return out.answer.whole(whole_of_ollama(said))
        return b"".join([*(out.answer.push(frame) for frame in sent_by_ollama(said)), out.answer.end()])

    with pytest.raises(BackendAnswerError):
        heard()


def test_a_call_that_the_backend_made_by_itself_passes() -> None:
    script = Script((), (), (("call_0", "look", {"city": "Oslo"}),))
    out = outgoing(CHAT, ONE[CHAT], OLLAMA)
    assert WHOLES[CHAT](out.answer.whole(whole_of_ollama(script))).calls == [*script.calls]
    out = outgoing(CHAT, ONE[CHAT] | {"stream": True}, OLLAMA)
    heard = STREAMS[CHAT](b"".join(out.answer.push(frame) for frame in sent_by_ollama(script)))
    assert heard.calls == [*script.calls]


def test_nothing_is_said_beside_a_call_that_the_backend_made_by_itself() -> None:
    lines = [
        {"message": {"content": "", "tool_calls": [{"id": "c", "function": CALLED}]}, "done": False},
        {"message": {"content": "There you are"}, "done": False},
        {"message": {"content": ""}, "done": True, "done_reason": "stop"},
    ]
    out = outgoing(CHAT, ONE[CHAT] | {"stream": True}, OLLAMA)
    heard = STREAMS[CHAT](b"".join(out.answer.push(json.dumps(one).encode() + b"\n") for one in lines))
    assert (heard.text, heard.calls) == ("", [("c", "look", {"city": "Oslo"})])


def test_a_call_after_a_text_that_was_passed_on_as_one_is_a_fault() -> None:
    """The client would join both to arguments of one call."""
    lines = [
        {"message": {"content": "Let me look"}, "done": False},
        {"message": {"content": "", "tool_calls": [{"id": "c", "function": CALLED}]}, "done": False},
        {"message": {"content": ""}, "done": True, "done_reason": "stop"},
    ]
    out = outgoing(CHAT, ONE[CHAT] | {"stream": True}, OLLAMA)
    said = out.answer.push(b"".join(json.dumps(one).encode() + b"\n" for one in lines))
    assert b"Oslo" not in said
    with pytest.raises(BackendAnswerError):
        out.answer.end()


@pytest.mark.parametrize("own", [True, False])
def test_blanks_before_a_call_do_not_begin_one(own: bool) -> None:
    """Kills: a call of blanks to which a client joins the one that the backend made by itself."""
    lines: list[dict[str, Any]] = [
        {"message": {"content": "\n"}, "done": False},
        {"message": {"content": " "}, "done": False},
        {"message": {"content": "", "tool_calls": [{"id": "c", "function": CALLED}]}, "done": False}
        if own
        else {"message": {"content": '{"city":"Oslo"}'}, "done": False},
        {"message": {"content": ""}, "done": True, "done_reason": "stop"},
    ]
    out = outgoing(CHAT, ONE[CHAT] | {"stream": True}, OLLAMA)
    said = b"".join(out.answer.push(json.dumps(one).encode() + b"\n") for one in lines)
    assert STREAMS[CHAT](said).calls == [("c", *CALL[1:]) if own else CALL]
    assert said.count(b'"name":"look"') == 1
    assert (rb'"arguments":"\n {' in said) is not own, "nothing that the model said is dropped"


def test_tools_whose_schemas_refer_to_themselves() -> None:
    """In a branch of another schema, "#" would be another place."""
    schema = {"type": "object", "properties": {"in": {"$ref": "#"}}}
    tools = [{"type": "function", "function": {"name": n, "parameters": schema}} for n in ("look", "go")]
    named = outgoing(CHAT, ONE[CHAT] | {"tools": tools}, OLLAMA)
    assert json.loads(named.body)["format"] == schema
    with pytest.raises(InvalidRequestError, match=r"tool_choice: .*name one"):
        outgoing(CHAT, ONE[CHAT] | {"tools": tools, "tool_choice": "required"}, OLLAMA)


@pytest.mark.parametrize("stream", [True, False])
def test_a_call_that_is_whole_at_the_limit_ends_by_the_limit(stream: bool) -> None:
    """As it does at backends that make calls by themselves."""
    out = outgoing(CHAT, ONE[CHAT] | {"stream": stream}, OLLAMA)
    script = Script((), ('{"city":"Oslo"}',), length=True)
    if stream:
        heard = STREAMS[CHAT](b"".join(out.answer.push(frame) for frame in sent_by_ollama(script)))
    else:
        heard = WHOLES[CHAT](out.answer.whole(whole_of_ollama(script)))
    assert (heard.calls, heard.finish) == ([CALL], "length")


def test_a_call_that_the_limit_cut_off_says_so() -> None:
    out = outgoing(CHAT, ONE[CHAT], OLLAMA)
    said = json.loads(out.answer.whole(whole_of_ollama(Script((), ('{"city"',), length=True))))
    assert said["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "fly"}}])
def test_a_call_of_no_tool_is_refused(choice: Any) -> None:
    with pytest.raises(InvalidRequestError, match="tool_choice: names no tool"):
        outgoing(CHAT, {"messages": HI, "tool_choice": choice}, OLLAMA)


def test_tools_that_must_not_be_called_are_not_told() -> None:
    assert "tools" not in json.loads(outgoing(CHAT, ONE[CHAT] | {"tool_choice": "none"}, OLLAMA).body)


def test_one_call_at_a_time() -> None:
    script = Script((), (), (("call_0", "look", {}), ("call_1", "go", {})))
    body = {key: ONE[CHAT][key] for key in ("messages", "tools")} | {"parallel_tool_calls": False}
    heard = WHOLES[CHAT](outgoing(CHAT, body, OLLAMA).answer.whole(whole_of_ollama(script)))
    assert [name for _, name, _ in heard.calls] == ["look"]


def test_anthropic_asks_for_one_call_at_a_time_in_its_own_way() -> None:
    body = {key: ONE[MESSAGES][key] for key in ("messages", "tools", "max_tokens")}
    body["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
    assert json.loads(outgoing(MESSAGES, body, frozenset({"openai"})).body)["parallel_tool_calls"] is False
    script = Script((), (), (("call_0", "look", {}), ("call_1", "go", {})))
    heard = WHOLES[MESSAGES](outgoing(MESSAGES, body, OLLAMA).answer.whole(whole_of_ollama(script)))
    assert [name for _, name, _ in heard.calls] == ["look"]
