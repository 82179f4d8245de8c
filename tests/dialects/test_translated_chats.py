"""Chats between OpenAI and Ollama, in the shapes that real clients and servers send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.dialects.translate import BackendAnswerError, Outgoing, translate, translates
from swarmplane.errors import InvalidRequestError

OPENAI = frozenset({"openai"})
OLLAMA = frozenset({"ollama"})
CHAT = b"/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]


def asked(path: bytes, body: dict[str, Any], spoken: frozenset[str]) -> Outgoing:
    assert translates(path, spoken)
    return translate(
        path,
        json.dumps({"model": "m", **body}).encode(),
        spoken=spoken,
        model="m:latest",
        asked="m",
        answer_id="abc",
        now_s=1_700_000_000,
    )


def line(**members: Any) -> bytes:
    return json.dumps({"model": "m:latest", "created_at": "2026-01-01T00:00:00Z", **members}).encode() + b"\n"


def events(*documents: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in documents) + b"data: [DONE]\n\n"


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def read_events(stream: bytes) -> list[Any]:
    found = [one.removeprefix(b"data: ") for one in stream.split(b"\n\n") if one]
    assert found.pop() == b"[DONE]"
    return [json.loads(one) for one in found]


def test_what_passes_raw() -> None:
    assert not translates(CHAT, OPENAI)
    assert not translates(b"/api/chat", OLLAMA)
    assert translates(CHAT, OLLAMA | OPENAI), "Ollama's own /v1 drops fields"


def test_openai_request_for_ollama() -> None:
    body = {
        "messages": HI,
        "max_completion_tokens": 10,
        "stop": "x",
        "seed": 1,
        "temperature": 0,
        "n": 1,
        "response_format": {"type": "json_object"},
        "reasoning_effort": "none",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "user": "me",
    }
    out = asked(CHAT, body, OLLAMA)
    assert (out.path, out.answer.streams, out.answer.content_type) == (
        b"/api/chat",
        False,
        b"application/json",
    )
    assert json.loads(out.body) == {
        "model": "m:latest",
        "messages": HI,
        "stream": False,
        "options": {"num_predict": 10, "stop": ["x"], "seed": 1, "temperature": 0},
        "format": "json",
        "think": False,
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": "", "parameters": {"type": "object"}},
            }
        ],
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("logit_bias", {"1": 2}),
        ("tool_choice", "required"),
        ("top_logprobs", []),
        ("audio", {"voice": "a"}),
        ("made_up", 1),
        ("temperature", "hot"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as error:
        asked(CHAT, {"messages": HI, field: value}, OLLAMA)
    assert error.value.details["param"] == field
    assert field in error.value.message


def test_ollama_stream_for_openai() -> None:
    out = asked(CHAT, {"messages": HI, "stream": True, "stream_options": {"include_usage": True}}, OLLAMA)
    stream = (
        line(message={"role": "assistant", "content": "He"}, done=False)
        + line(
            message={
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
            },
            done=False,
        )
        + line(
            message={"role": "assistant", "content": ""},
            done=True,
            done_reason="stop",
            prompt_eval_count=3,
            eval_count=4,
        )
    )
    found = read_events(out.answer.push(stream) + out.answer.end())
    assert {(one["id"], one["created"], one["model"]) for one in found} == {
        ("chatcmpl-abc", 1_700_000_000, "m")
    }
    deltas = [one["choices"][0]["delta"] for one in found if one["choices"]]
    call = {"name": "f", "arguments": '{"a": 1}'}
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "He"},
        {"tool_calls": [{"index": 0, "id": "call_abc_0", "type": "function", "function": call}]},
        {},
    ]
    assert found[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert found[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def test_openai_stream_for_ollama() -> None:
    out = asked(b"/api/chat", {"messages": HI}, OPENAI)
    assert json.loads(out.body)["stream_options"] == {"include_usage": True}
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    stream = events(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hey"}),
        chunk({"tool_calls": [call]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{\n"a":'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
        chunk({}, "tool_calls"),
        {"id": "1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
    )
    found = [json.loads(one) for one in (out.answer.push(stream) + out.answer.end()).splitlines()]
    assert [one["done"] for one in found] == [False, False, True]
    assert found[0]["message"] == {"role": "assistant", "content": "Hey"}
    assert found[1]["message"]["tool_calls"] == [
        {"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}
    ]
    assert found[2] == {
        "model": "m",
        "created_at": "2023-11-14T22:13:20Z",
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 3,
        "eval_count": 4,
    }


@pytest.mark.parametrize("cut", [1, 40, 90])
def test_a_stream_that_is_cut_off_is_no_success(cut: int) -> None:
    out = asked(CHAT, {"messages": HI, "stream": True}, OLLAMA)
    stream = line(message={"role": "assistant", "content": "He"}, done=False)
    assert b"[DONE]" not in out.answer.push(stream[:cut])
    assert not out.answer.ended
    with pytest.raises(BackendAnswerError):
        out.answer.end()
