"""Conversations of other dialects at a backend that speaks Anthropic's alone, and its answers back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from sidecar.dialects.anthropic_answer import AnthropicAnswer
from sidecar.dialects.failures import BackendAnswerError
from sidecar.dialects.translate import (
    ANTHROPIC,
    COUNTS,
    OLLAMA,
    OPENAI,
    RESPONSES,
    Outgoing,
    translate,
    translates,
)
from swarmplane.errors import InvalidRequestError

SPOKEN = frozenset({ANTHROPIC})
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "of a place", "parameters": {"type": "object"}},
}


def _sent(body: dict[str, Any], path: bytes = b"/v1/chat/completions") -> Outgoing:
    return translate(
        path,
        json.dumps(body).encode(),
        spoken=SPOKEN,
        model="claude-x",
        asked="mine",
        answer_id="a1",
        now_s=1,
    )


def _chat(**more: Any) -> dict[str, Any]:
    body = {"model": "mine", "messages": [{"role": "user", "content": "hi"}], **more}
    outgoing = _sent(body)
    assert outgoing.path == b"/v1/messages"
    found: dict[str, Any] = json.loads(outgoing.body)
    return found


@pytest.mark.parametrize(
    ("path", "spoken", "answer"),
    [
        (b"/v1/chat/completions", {ANTHROPIC}, True),
        (b"/v1/chat/completions", {ANTHROPIC, OPENAI}, False),
        (b"/v1/messages", {ANTHROPIC}, False),
        (b"/v1/messages/count_tokens", {ANTHROPIC, COUNTS}, False),
        (b"/v1/messages/count_tokens", {ANTHROPIC}, True),
        (b"/v1/responses", {ANTHROPIC}, True),
        (b"/v1/responses", {RESPONSES, OPENAI}, False),
        (b"/api/chat", {ANTHROPIC}, True),
        (b"/v1/chat/completions", {OPENAI, OLLAMA}, True),
    ],
)
def test_what_is_translated(path: bytes, spoken: set[str], answer: bool) -> None:
    assert translates(path, frozenset(spoken)) is answer


def test_a_conversation_with_tools_keeps_its_turns() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"place":"Rome"}'}}
    other = {**call, "id": "c2"}
    body = _chat(
        messages=[
            {"role": "system", "content": "be brief"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "look"}, _picture("data:image/jpeg;base64,AA==")],
            },
            {"role": "assistant", "content": None, "tool_calls": [call, other], "reasoning_content": "hm"},
            {"role": "tool", "tool_call_id": "c1", "content": "sun"},
            {"role": "tool", "tool_call_id": "c2", "content": ""},
            {"role": "user", "content": "and?"},
            {"role": "system", "content": "still"},
        ],
        tools=[TOOL],
        parallel_tool_calls=False,
        stop="END",
        max_completion_tokens=50,
        presence_penalty=0,
    )
    assert body["system"] == "be brief\n\nstill"
    assert (body["max_tokens"], body["stop_sequences"], body["model"]) == (50, ["END"], "claude-x")
    first, second, third = body["messages"]
    source = {"type": "base64", "media_type": "image/jpeg", "data": "AA=="}
    assert first == {
        "role": "user",
        "content": [{"type": "text", "text": "look"}, {"type": "image", "source": source}],
    }
    used = {"type": "tool_use", "name": "weather", "input": {"place": "Rome"}}
    assert second == {"role": "assistant", "content": [{**used, "id": "c1"}, {**used, "id": "c2"}]}
    assert third["role"] == "user"
    assert third["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "sun"}]},
        {"type": "tool_result", "tool_use_id": "c2"},
        {"type": "text", "text": "and?"},
    ]
    assert body["tools"] == [
        {"name": "weather", "description": "of a place", "input_schema": {"type": "object"}}
    ]
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


def test_what_was_said_stands_before_the_calls_and_what_was_not_said_nowhere() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    body = _chat(
        messages=[
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": "look!"},
            {"role": "assistant", "content": "I look", "tool_calls": [call]},
        ]
    )
    assert [turn["role"] for turn in body["messages"]] == ["user", "user", "assistant"]
    assert body["messages"][2]["content"] == [
        {"type": "text", "text": "I look"},
        {"type": "tool_use", "id": "c1", "name": "weather", "input": {}},
    ]


def _picture(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, {"max_tokens": 8192}),
        ({"tools": [TOOL], "tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tools": [TOOL], "tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
            {"tool_choice": {"type": "tool", "name": "weather"}},
        ),
        (
            {"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": False},
            {"tool_choice": {"type": "none"}},
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "now", "strict": True}}]},
            {"tools": [
                {"name": "now", "input_schema": {"type": "object", "properties": {}}, "strict": True}]},
        ),
        ({"temperature": 1}, {"temperature": 1}),
        ({"stream": True}, {"stream": True}),
        ({}, {"stream": False}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}}}},
            {"output_config": {"format": {"type": "json_schema", "schema": {"a": 1}}}},
        ),
        (
            {"messages": [{"role": "user", "content": [_picture("https://x/y.png")]}]},
            {"messages": [{"role": "user", "content": [
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}]}]},
        ),
    ],
)  # fmt: skip
def test_members(more: dict[str, Any], wanted: dict[str, Any]) -> None:
    body = _chat(**more)
    assert {key: body[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"seed": 7}, "seed"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"temperature": 1.5}, "temperature"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "[1"}}]}]},
            "messages[0].tool_calls",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "[1]"}}]}]},
            "messages[0].tool_calls",
        ),
    ],
)  # fmt: skip
def test_what_has_no_word_there_is_refused_by_name(more: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{re.escape(param)}: "):
        _chat(**more)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (b"/v1/embeddings", {"model": "mine", "input": "x"}),
        (b"/v1/completions", {"model": "mine", "prompt": "x"}),
    ],
)
def test_what_it_can_not_do_is_refused(path: bytes, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="this model's provider"):
        _sent(body, path)


def _events(*told: dict[str, Any]) -> bytes:
    return b"".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in told)


def _arguments(text: str) -> dict[str, Any]:
    delta = {"type": "input_json_delta", "partial_json": text}
    return {"type": "content_block_delta", "index": 2, "delta": delta}


START = {
    "type": "message_start",
    "message": {
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 2,
            "output_tokens": 1,
        }
    },
}
ENDED = (
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
)


def test_a_stream_with_thoughts_and_calls_comes_back() -> None:
    stream = _events(
        START,
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "I "}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "see"}},
        {"type": "content_block_start", "index": 2,
         "content_block": {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}},
        _arguments('{"a":'),
        _arguments("1}"),
        {"type": "content_block_stop", "index": 2},
        {"type": "something_new"},
        *ENDED,
    )  # fmt: skip
    answer = _sent(
        {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True,
         "stream_options": {"include_usage": True}}
    ).answer  # fmt: skip
    said = b"".join(answer.push(stream[place : place + 7]) for place in range(0, len(stream), 7))
    assert said.endswith(b"data: [DONE]\n\n"), "though the connection stays open"
    assert answer.end() == b""
    assert answer.ended
    chunks = [json.loads(row[6:]) for row in said.split(b"\n\n") if row.startswith(b"data: {")]
    deltas = [one["choices"][0]["delta"] for one in chunks if one["choices"]]
    assert "".join(one.get("content") or "" for one in deltas) == "I see"
    calls = [call for one in deltas for call in one.get("tool_calls") or ()]
    assert (calls[0]["id"], calls[0]["function"]["name"]) == ("t1", "weather")
    assert {call["index"] for call in calls} == {0}, "the first call, though the third block"
    assert not any({"id", "type"} & call.keys() for call in calls[1:]), "SDKs join what comes in pieces"
    assert "".join(call["function"].get("arguments") or "" for call in calls) == '{"a":1}'
    assert [one["choices"][0]["finish_reason"] for one in chunks if one["choices"]][-1] == "tool_calls"
    usage = chunks[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (11, 9)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 4}


def test_a_whole_answer_comes_back() -> None:
    body = {
        "type": "message",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "one"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            {"type": "text", "text": " two"},
        ],
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    answer = json.loads(_sent({"model": "m", "messages": [{"role": "user", "content": "x"}]}).answer.whole(
        json.dumps(body).encode()))  # fmt: skip
    choice = answer["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two", "length")
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    assert answer["usage"]["total_tokens"] == 5


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_why_an_answer_ended(reason: str, finish: str) -> None:
    body = {"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": reason}
    answer = _sent({"model": "m", "messages": [{"role": "user", "content": "x"}]}).answer
    said = json.loads(answer.whole(json.dumps(body).encode()))
    assert said["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    "frame",
    [
        b"{",
        b'{"type":"error","error":{"type":"overloaded_error"}}',
        b'{"type":"message_stop"}',
    ],
    ids=["no-json", "reported", "stopped-without-a-reason"],
)
def test_a_stream_that_breaks_is_a_failure(frame: bytes) -> None:
    with pytest.raises(BackendAnswerError):
        AnthropicAnswer().read(frame)


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"type":"error","error":{}}', b'{"type":"message"}', b'{"type":"message","content":[]}'],
    ids=["no-json", "reported", "no-content", "cut-off"],
)
def test_a_whole_answer_that_is_none_is_a_failure(body: bytes) -> None:
    with pytest.raises(BackendAnswerError):
        AnthropicAnswer().whole(body)
