"""Answers as backends send them that say something unusual, and what each client gets of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.dialects.translate import BackendAnswerError
from tests.dialects.scripts import (
    CHAT,
    COMPLETIONS,
    GENERATE,
    MESSAGES,
    OLLAMA,
    OLLAMA_CHAT,
    OPENAI,
    RESPONSES,
    STREAMS,
    WAYS,
    WHOLES,
    Script,
    asking,
    events_of,
    outgoing,
    sent_by_ollama,
    sent_by_openai,
    whole_of_ollama,
    whole_of_openai,
)

HI = [{"role": "user", "content": "hi"}]
ANTHROPIC = frozenset({"anthropic"})
DONE = b"data: [DONE]\n\n"
TWO = Script((), (), (("c0", "f", {"a": "line\nend"}), ("c1", "g", {"b": 2})))
THREE = Script((), ("I look",), (*TWO.calls, ("c2", "f", {})))
OPENAI_CLIENTS = pytest.mark.parametrize("path", [MESSAGES, RESPONSES, OLLAMA_CHAT], ids=bytes.decode)


def event(delta: dict[str, Any], finish: str | None = None, **choice: Any) -> bytes:
    document = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}]}
    return b"data: %b\n\n" % json.dumps(document).encode()


def begun(index: int, name: str, arguments: str = "") -> dict[str, Any]:
    return {"index": index, "id": f"c{index}", "function": {"name": name, "arguments": arguments}}


def more(index: int, arguments: str) -> dict[str, Any]:
    return {"index": index, "function": {"arguments": arguments}}


def told(path: bytes, spoken: frozenset[str], *frames: bytes) -> bytes:
    out = asking(path, spoken, stream=True)
    return b"".join(map(out.answer.push, frames)) + out.answer.end()


def whole(path: bytes, spoken: frozenset[str], body: Any) -> Any:
    return json.loads(asking(path, spoken, stream=False).answer.whole(json.dumps(body).encode()))


def line(content: str, **members: Any) -> bytes:
    return json.dumps({"message": {"content": content}, "done": False, **members}).encode() + b"\n"


@pytest.mark.parametrize(
    ("finish", "openai", "anthropic", "responses", "ollama"),
    [
        ("stop", "stop", "end_turn", "completed", "stop"),
        ("length", "length", "max_tokens", "incomplete", "length"),
        ("content_filter", "content_filter", "refusal", "incomplete", "stop"),
        ("something_new", "stop", "end_turn", "completed", "stop"),
    ],
)
def test_why_it_ended(finish: str, openai: str, anthropic: str, responses: str, ollama: str) -> None:
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": finish}]}
    assert whole(MESSAGES, OPENAI, body)["stop_reason"] == anthropic
    assert whole(RESPONSES, OPENAI, body)["status"] == responses
    assert whole(OLLAMA_CHAT, OPENAI, body)["done_reason"] == ollama
    stream = told(RESPONSES, OPENAI, event({"content": "x"}), event({}, finish), DONE)
    assert b"event: response.%b\n" % responses.encode() in stream
    if finish in {"stop", "length"}:
        said = {"message": {"content": "x"}, "done": True, "done_reason": finish}
        assert whole(CHAT, OLLAMA, said)["choices"][0]["finish_reason"] == openai
        text = {"response": "x", "done": True, "done_reason": finish}
        assert whole(COMPLETIONS, OLLAMA, text)["choices"][0]["finish_reason"] == openai
        stream = told(COMPLETIONS, OLLAMA, json.dumps(text).encode() + b"\n")
        assert b'"finish_reason":"%b"' % openai.encode() in stream


def test_a_refusal_says_why_it_was_incomplete() -> None:
    body = {"choices": [{"message": {"refusal": "no"}, "finish_reason": "content_filter"}]}
    found = whole(RESPONSES, OPENAI, body)
    assert found["incomplete_details"] == {"reason": "content_filter"}
    assert found["output"][0]["content"][0]["text"] == "no"
    stream = told(MESSAGES, OPENAI, event({"refusal": "no"}), event({}, "stop"), DONE)
    assert STREAMS[MESSAGES](stream).text == "no"


@pytest.mark.parametrize("name", ["tool_calls", "function_call"])
def test_calls_end_as_calls(name: str) -> None:
    call = begun(0, "f", "{}")
    frames = (event({"tool_calls": [call]}), event({}, name), DONE)
    assert STREAMS[MESSAGES](told(MESSAGES, OPENAI, *frames)).finish == "tool_calls"
    body = {"choices": [{"message": {"tool_calls": [call]}, "finish_reason": name}]}
    assert whole(MESSAGES, OPENAI, body)["stop_reason"] == "tool_use"
    heard = STREAMS[CHAT](told(CHAT, OLLAMA, *sent_by_ollama(TWO)))
    assert (heard.calls, heard.finish) == ([*TWO.calls], "tool_calls")
    assert WHOLES[CHAT](asking(CHAT, OLLAMA, stream=False).answer.whole(whole_of_ollama(TWO))) == heard


@OPENAI_CLIENTS
def test_several_calls(path: bytes) -> None:
    heard = STREAMS[path](told(path, OPENAI, *sent_by_openai(TWO)))
    assert (heard.calls, heard.finish) == ([*TWO.calls], "tool_calls")
    assert WHOLES[path](asking(path, OPENAI, stream=False).answer.whole(whole_of_openai(TWO))) == heard


@OPENAI_CLIENTS
def test_calls_without_numbers_are_counted(path: bytes) -> None:
    calls = [{key: begun(n, "f", "{}")[key] for key in ("id", "function")} for n in (0, 1)]
    heard = STREAMS[path](told(path, OPENAI, event({"tool_calls": calls}), event({}, "tool_calls"), DONE))
    assert heard.calls == [("c0", "f", {}), ("c1", "f", {})]


@OPENAI_CLIENTS
def test_calls_that_come_mixed_stand_apart(path: bytes) -> None:
    frames = (
        event({"content": "I look"}),
        event({"tool_calls": [begun(1, "g")]}),
        event({"tool_calls": [begun(0, "f", '{"a"')]}),
        event({"tool_calls": [more(1, '{"b":')]}),
        event({"tool_calls": [more(0, ":1}"), more(1, "2}")]}),
        event({}, "tool_calls"),
        DONE,
    )
    heard = STREAMS[path](told(path, OPENAI, *frames))
    assert sorted(heard.calls) == [("c0", "f", {"a": 1}), ("c1", "g", {"b": 2})]
    assert heard.text == "I look"
    if path == OLLAMA_CHAT:
        assert [call[0] for call in heard.calls] == ["c0", "c1"], "in the order of their numbers"


def test_a_call_is_told_as_soon_as_the_one_before_is_whole() -> None:
    out = asking(MESSAGES, OPENAI, stream=True)
    for name, index in (("f", 0), ("g", 1), ("h", 2)):
        said = out.answer.push(event({"tool_calls": [begun(index, name, '{"a":1}')]}))
        assert b'"name":"%b"' % name.encode() in said


def test_arguments_for_a_call_that_is_over_are_a_fault() -> None:
    out = asking(MESSAGES, OPENAI, stream=True)
    out.answer.push(event({"tool_calls": [begun(0, "f", "{}")]}) + event({"content": "so"}))
    assert b"tool" not in out.answer.push(event({"tool_calls": [more(0, " ")]}))
    with pytest.raises(BackendAnswerError):
        out.answer.push(event({"tool_calls": [more(0, '{"a":1}')]}))


@pytest.mark.parametrize("path", [MESSAGES, OLLAMA_CHAT], ids=bytes.decode)
def test_a_call_that_the_limit_cut_off_is_left_out_of_a_whole_answer(path: bytes) -> None:
    message = {"content": "x", "tool_calls": [begun(0, "f", '{"a')]}
    body = {"choices": [{"message": message, "finish_reason": "length"}]}
    heard = WHOLES[path](json.dumps(whole(path, OPENAI, body)).encode())
    assert (heard.text, heard.calls, heard.finish) == ("x", [], "length")
    body["choices"][0]["finish_reason"] = "tool_calls"
    with pytest.raises(BackendAnswerError):
        whole(path, OPENAI, body)


def test_counts() -> None:
    odd = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 9}}
    thought = odd | {"completion_tokens_details": {"reasoning_tokens": 2}}
    body = {"choices": [{"message": {"content": "x"}}], "usage": thought}
    assert whole(MESSAGES, OPENAI, body)["usage"]["input_tokens"] == 0, "never fewer than none"
    assert whole(RESPONSES, OPENAI, body)["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}
    plain = outgoing(COMPLETIONS, {"prompt": "x", "stream": True}, OLLAMA).answer
    assert b"usage" not in plain.push(b"".join(sent_by_ollama(Script(), text=True)))
    plain = outgoing(CHAT, {"messages": HI, "stream": True}, OLLAMA).answer
    assert b"usage" not in plain.push(b"".join(sent_by_ollama(Script())))
    asked = told(CHAT, OLLAMA, *sent_by_ollama(Script()))
    assert asked.count(b'"usage":{') == 1
    assert b'"usage":null' in asked, "as OpenAI writes it in every other piece"


def test_durations() -> None:
    body = {"choices": [{"message": {"content": "x"}}], "timings": {"prompt_ms": 1e300, "predicted_ms": -1}}
    assert "total_duration" not in whole(OLLAMA_CHAT, OPENAI, body)
    timings = b'data: {"choices":[],"timings":{"prompt_ms":1,"predicted_ms":2},"usage":null}\n\n'
    said = told(OLLAMA_CHAT, OPENAI, event({"content": "x"}, "stop"), timings, DONE)
    last = json.loads(said.splitlines()[-1])
    assert (last["prompt_eval_duration"], last["eval_duration"]) == (1_000_000, 2_000_000)


def test_a_number_is_no_stop_sequence() -> None:
    """vLLM tells the number of a token there."""
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop", "stop_reason": 128_009}]}
    found = whole(MESSAGES, OPENAI, body)
    assert (found["stop_reason"], found["stop_sequence"]) == ("end_turn", None)


def test_one_answer_of_several_is_read_up_to_its_end() -> None:
    frames = (
        event({"content": "a"}),
        event({"content": "of another"}, index=1),
        event({"content": "b"}, "stop"),
        event({"content": "after the end"}),
        DONE,
    )
    assert STREAMS[MESSAGES](told(MESSAGES, OPENAI, *frames)).text == "ab"


def test_thoughts_under_both_names() -> None:
    for name in ("reasoning", "reasoning_content"):
        stream = told(RESPONSES, OPENAI, event({name: "hm"}), event({"content": "x"}, "stop"), DONE)
        assert STREAMS[RESPONSES](stream).thinking == "hm"
    thinking = json.dumps({"message": {"content": "", "thinking": "hm"}, "done": False}).encode() + b"\n"
    heard = STREAMS[CHAT](told(CHAT, OLLAMA, thinking, line("x", done=True)))
    assert (heard.thinking, heard.text) == ("hm", "x"), "also what the last line says"
    heard = STREAMS[GENERATE](
        told(GENERATE, OPENAI, event({"reasoning": "hm"}), event({"content": "x"}, "stop"), DONE)
    )
    assert (heard.thinking, heard.text) == ("hm", "x")
    assert b'"message"' not in told(GENERATE, OPENAI, event({"content": "x"}, "stop"), DONE)


def test_calls_alone_are_no_text() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": {}}}
    body = {"message": {"content": "", "tool_calls": [call]}, "done": True}
    assert whole(CHAT, OLLAMA, body)["choices"][0]["message"]["content"] is None
    assert (
        whole(CHAT, OLLAMA, {"message": {"content": ""}, "done": True})["choices"][0]["message"]["content"]
        == ""
    )
    calls = {"choices": [{"message": {"tool_calls": [begun(0, "f", "{}")]}, "finish_reason": "tool_calls"}]}
    assert [item["type"] for item in whole(RESPONSES, OPENAI, calls)["output"]] == ["function_call"]
    assert [item["type"] for item in whole(RESPONSES, OPENAI, {"choices": [{"message": {}}]})["output"]] == [
        "message"
    ]


def test_a_free_text_streams_as_one() -> None:
    tools = [{"type": "custom", "name": "patch"}]
    out = outgoing(RESPONSES, {"input": "hi", "tools": tools, "stream": True}, OPENAI).answer
    frames = (
        event({"tool_calls": [begun(0, "patch", '{"input":')]}),
        event({"tool_calls": [more(0, '"+1"}')]}),
    )
    said = b"".join(map(out.push, (*frames, event({}, "tool_calls"), DONE)))
    assert b'"delta":"+1"' in said
    assert b'\\"input\\"' not in said


def test_probabilities_of_a_streamed_text() -> None:
    def piece(text: str) -> bytes:
        token = {"token": text, "logprob": -0.5}
        return json.dumps({"response": text, "done": False, "logprobs": [token]}).encode() + b"\n"

    out = asking(COMPLETIONS, OLLAMA, stream=True).answer
    said = [
        json.loads(one[6:]) for one in (out.push(piece("Hi")) + out.push(piece(" you"))).split(b"\n\n") if one
    ]
    assert [one["choices"][0]["logprobs"]["text_offset"] for one in said] == [[0], [2]]
    with pytest.raises(BackendAnswerError):
        out.push(b'{"response":"x","done":false,"logprobs":[{"token":5}]}\n')


@pytest.mark.parametrize(
    ("spoken", "path", "frames"),
    [
        (OLLAMA, CHAT, [b'{"error":"","done":true}\n']),
        (OLLAMA, CHAT, [b'{"model":"x"}\n']),
        (OLLAMA, CHAT, [line("half")]),
        (OPENAI, MESSAGES, [b'data: {"error":{},"choices":[]}\n\n']),
        (OPENAI, MESSAGES, [event({"content": "x"}), event({}, "abort")]),
        (OPENAI, MESSAGES, [event({"content": "x"}), event({}, "timeout")]),
    ],
)
def test_a_stream_that_is_none(spoken: frozenset[str], path: bytes, frames: list[bytes]) -> None:
    with pytest.raises(BackendAnswerError):
        told(path, spoken, *frames)


@pytest.mark.parametrize(
    ("spoken", "path", "body"),
    [
        (OLLAMA, CHAT, {"message": {"content": "half"}, "done": False}),
        (OPENAI, MESSAGES, {"choices": [{"message": {"tool_calls": [{"id": "x", "function": {}}]}}]}),
        (OPENAI, MESSAGES, {"choices": [{"message": {"content": "x"}}], "error": {}}),
    ],
)
def test_a_whole_answer_that_is_none(spoken: frozenset[str], path: bytes, body: dict[str, Any]) -> None:
    with pytest.raises(BackendAnswerError):
        whole(path, spoken, body)


def test_a_stream_has_one_end_and_all_that_stands_before_it() -> None:
    stream = b"".join(sent_by_ollama(Script()))
    for one in (stream.rstrip(), stream + line("again", done=True)):
        said = told(CHAT, OLLAMA, one)
        assert (STREAMS[CHAT](said).text, said.count(DONE)) == ("Hello world", 1)
    out = asking(CHAT, OLLAMA, stream=True).answer
    assert out.push(stream).endswith(DONE)
    assert out.push(line("again", done=True)) == b""
    bare = event({"content": "x"}, "stop").rstrip()
    assert STREAMS[MESSAGES](told(MESSAGES, OPENAI, bare)).text == "x"


def test_a_fault_comes_after_what_stood_before_it_and_stays() -> None:
    out = asking(CHAT, OLLAMA, stream=True).answer
    assert b'"content":"x"' in out.push(line("x") + b"{oops\n" + line("", done=True))
    assert not out.ended
    for _ in range(2):
        with pytest.raises(BackendAnswerError):
            out.push(line("y"))


def test_what_comes_in_pieces_is_one_item() -> None:
    frames = [
        event({"reasoning": "h"}),
        event({"reasoning": "m"}),
        event({"content": "a"}),
        event({"content": "b"}),
    ]
    stream = told(RESPONSES, OPENAI, *frames, event({}, "stop"), DONE)
    heard = STREAMS[RESPONSES](stream)
    assert (heard.thinking, heard.text) == ("hm", "ab")
    last = json.loads(stream.rstrip().rpartition(b"data: ")[2])
    assert [one["type"] for one in last["response"]["output"]] == ["reasoning", "message"]
    assert b"msg_abc_1" in stream, "the second item"


def test_a_limit_after_a_call_is_a_limit() -> None:
    message = {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    body = {"message": message, "done": True, "done_reason": "length"}
    assert whole(CHAT, OLLAMA, body)["choices"][0]["finish_reason"] == "length"


def test_a_fault_after_the_end_of_the_text_is_a_fault() -> None:
    out = asking(MESSAGES, OPENAI, stream=True).answer
    assert b"x" in out.push(event({"content": "x"}, "stop") + b'data: {"error":{}}\n\n')
    assert not out.ended


def test_a_raw_text_of_generate_is_a_response() -> None:
    body = {"choices": [{"text": "x", "finish_reason": "stop"}]}
    out = outgoing(GENERATE, {"prompt": "p", "raw": True, "stream": False}, OPENAI).answer
    assert json.loads(out.whole(json.dumps(body).encode()))["response"] == "x"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("path", "spoken"), [*WAYS, (CHAT, ANTHROPIC), (RESPONSES, ANTHROPIC), (OLLAMA_CHAT, ANTHROPIC)]
)
def test_who_asks_for_a_stream_gets_one(path: bytes, spoken: frozenset[str], *, stream: bool) -> None:
    out = asking(path, spoken, stream=stream)
    assert out.answer.streams is stream
    assert (out.answer.content_type == b"application/json") is not stream
    assert json.loads(out.body)["stream"] is stream


def test_three_calls_in_lines_of_their_own_have_three_numbers() -> None:
    for path in (CHAT, MESSAGES, RESPONSES):
        assert STREAMS[path](told(path, OLLAMA, *sent_by_ollama(THREE))).calls == [*THREE.calls]


def test_the_end_mark_alone_says_that_it_is_whole() -> None:
    """Some servers give no reason."""
    out = asking(MESSAGES, OPENAI, stream=True).answer
    said = out.push(event({"content": "x"}))
    assert not out.ended
    assert STREAMS[MESSAGES](said + out.push(DONE)).finish == "stop"
    assert out.ended


def test_one_item_ends_before_the_next_begins() -> None:
    stream = told(RESPONSES, OPENAI, *sent_by_openai(Script(("hm",), ("x",), TWO.calls[:1])))
    order = [
        (name.rpartition(".")[2], data["item"]["type"])
        for name, data in events_of(stream)
        if name.startswith("response.output_item.")
    ]
    kinds = ("reasoning", "message", "function_call")
    assert order == [(step, kind) for kind in kinds for step in ("added", "done")]


@pytest.mark.parametrize(
    ("deltas", "items"),
    [
        ([{"content": "x"}], [("message", "incomplete")]),
        ([{"reasoning": "hm"}], [("reasoning", "incomplete")]),
        ([{"reasoning": "hm"}, {"content": "x"}], [("reasoning", "completed"), ("message", "incomplete")]),
        (
            [{"content": "x"}, {"tool_calls": [begun(0, "f", "{}")]}, {"tool_calls": [begun(1, "g", "{")]}],
            [("message", "completed"), ("function_call", "completed"), ("function_call", "incomplete")],
        ),
        (
            [{"tool_calls": [begun(0, "f", "{}")]}, {"content": "x"}],
            [("function_call", "completed"), ("message", "incomplete")],
        ),
        ([{"tool_calls": [begun(0, "patch", '{"in')]}], [("custom_tool_call", "incomplete")]),
    ],
)
@pytest.mark.parametrize(
    ("finish", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_what_was_cut_off_is_the_last_item(
    deltas: list[Any], items: list[tuple[str, str]], finish: str, why: str
) -> None:
    body = {"input": "hi", "tools": [{"type": "custom", "name": "patch"}], "stream": True}
    out = outgoing(RESPONSES, body, OPENAI).answer
    events = events_of(b"".join(map(out.push, [*map(event, deltas), event({}, finish), DONE])))
    name, last = events[-1]
    assert (name, last["response"]["status"]) == ("response.incomplete", "incomplete")
    assert last["response"]["incomplete_details"] == {"reason": why}
    assert [(one["type"], one["status"]) for one in last["response"]["output"]] == items
    done = [data for name, data in events if name == "response.output_item.done"]
    assert [one["item"] for one in sorted(done, key=lambda one: one["output_index"])] == last["response"][
        "output"
    ]


@pytest.mark.parametrize(
    ("message", "items"),
    [
        ({"content": "x"}, ["incomplete"]),
        ({"content": "x", "tool_calls": [begun(0, "f", "{}"), begun(1, "g", "{")]},
         ["completed", "completed", "incomplete"]),
    ],
)  # fmt: skip
def test_what_was_cut_off_is_the_last_item_of_a_whole_answer(message: Any, items: list[str]) -> None:
    found = whole(RESPONSES, OPENAI, {"choices": [{"message": message, "finish_reason": "length"}]})
    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert [one["status"] for one in found["output"]] == items
    ended = whole(RESPONSES, OPENAI, {"choices": [{"message": message, "finish_reason": "stop"}]})
    assert {one["status"] for one in ended["output"]} == {"completed"}
