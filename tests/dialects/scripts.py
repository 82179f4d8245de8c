"""What a model says, spelled as backends send it and read as clients read it.

A script is one answer in no dialect. ``sent_by_*`` spell it on the wire; ``heard_by_*`` put together what a
client of each dialect understands of a stream or of a whole answer, written after those dialects' documents
and not after our own writers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from sidecar.dialects.translate import Outgoing, translate

OPENAI = frozenset({"openai"})
OLLAMA = frozenset({"ollama"})
CHAT, MESSAGES, RESPONSES, OLLAMA_CHAT = (
    b"/v1/chat/completions",
    b"/v1/messages",
    b"/v1/responses",
    b"/api/chat",
)
GENERATE, COMPLETIONS = b"/api/generate", b"/v1/completions"


@dataclass(frozen=True)
class Script:
    """One answer: runs of thinking and text, calls with whole arguments, why it ended, and counts."""

    thinking: tuple[str, ...] = ()
    text: tuple[str, ...] = ("Hello", " world")
    calls: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    length: bool = False
    usage: tuple[int, int] | None = (3, 4)

    @property
    def finish(self) -> str:
        return "length" if self.length else "tool_calls" if self.calls else "stop"


@dataclass
class Heard:
    """What a client understood."""

    thinking: str = ""
    text: str = ""
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    finish: str = ""
    usage: tuple[int, int] | None = None
    model: str = ""


def expected(script: Script, *, without: str = "") -> Heard:
    """What should be heard of ``script``, ``without`` what the surface has no place for."""
    return Heard(
        "" if "thinking" in without else "".join(script.thinking),
        "".join(script.text),
        [] if "calls" in without else [(i, n, a) for i, n, a in script.calls],
        "stop" if "calls" in without and script.finish == "tool_calls" else script.finish,
        script.usage,
        "asked",
    )


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(words, json_values, max_size=3)


@st.composite
def scripts(draw: st.DrawFn, *, calls: bool = True, usage: bool = False) -> Script:
    made = draw(st.lists(st.tuples(names, arguments), max_size=3)) if calls else []
    return Script(
        tuple(draw(st.lists(words, max_size=2))),
        tuple(draw(st.lists(words, max_size=4))),
        tuple((f"call_{i}", name, given) for i, (name, given) in enumerate(made)),
        False if made else draw(st.booleans()),
        (3, 4) if usage else draw(st.none() | st.tuples(st.integers(0, 99), st.integers(0, 99))),
    )


def dumped(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def outgoing(path: bytes, body: dict[str, Any], spoken: frozenset[str]) -> Outgoing:
    return translate(
        path,
        json.dumps({"model": "asked", **body}).encode(),
        spoken=spoken,
        model="m:latest",
        asked="asked",
        answer_id="abc",
        now_s=1_700_000_000,
    )


def asking(path: bytes, spoken: frozenset[str], *, stream: bool) -> Outgoing:
    """A plain request to ``path``."""
    turns = [{"role": "user", "content": "hi"}]
    bodies: dict[bytes, dict[str, Any]] = {
        CHAT: {"messages": turns, "stream_options": {"include_usage": True}},
        MESSAGES: {"messages": turns, "max_tokens": 100},
        RESPONSES: {"input": "hi"},
        OLLAMA_CHAT: {"messages": turns},
        GENERATE: {"prompt": "hi"},
        COMPLETIONS: {"prompt": "hi", "stream_options": {"include_usage": True}},
    }
    body = bodies[path] | {"stream": stream}
    if not stream:
        body.pop("stream_options", None)
    return outgoing(path, body, spoken)


def sent_by_openai(script: Script, *, pieces: int = 2, text: bool = False) -> list[bytes]:
    """The events of a stream; arguments of calls come in ``pieces``. ``text``: completions, not chat."""

    def chunk(choice: dict[str, Any] | None, **more: Any) -> bytes:
        choices = [{"index": 0, "finish_reason": None} | choice] if choice is not None else []
        document = {"id": "x", "object": "c", "created": 1, "model": "m", "choices": choices, **more}
        return b"data: %b\n\n" % dumped(document)

    if text:
        found = [chunk({"text": one}) for one in script.text]
        found.append(chunk({"text": "", "finish_reason": script.finish}))
    else:
        found = [chunk({"delta": {"role": "assistant", "content": ""}})]
        found += [chunk({"delta": {"reasoning_content": one}}) for one in script.thinking]
        found += [chunk({"delta": {"content": one}}) for one in script.text]
        for index, (call_id, name, given) in enumerate(script.calls):
            spelled = json.dumps(given, ensure_ascii=False)
            first = {
                "index": index,
                "id": call_id,
                "type": "function",
                "function": {"name": name, "arguments": ""},
            }
            found.append(chunk({"delta": {"tool_calls": [first]}}))
            size = max(1, -(-len(spelled) // pieces))
            for at in range(0, len(spelled), size):
                more = {"index": index, "function": {"arguments": spelled[at : at + size]}}
                found.append(chunk({"delta": {"tool_calls": [more]}}))
        found.append(chunk({"delta": {}, "finish_reason": script.finish}))
    if script.usage:
        read, written = script.usage
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        found.append(chunk(None, usage=usage))
    return [*found, b"data: [DONE]\n\n"]


def whole_of_openai(script: Script, *, text: bool = False) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(script.text)}
    if script.thinking:
        message["reasoning_content"] = "".join(script.thinking)
    if script.calls:
        message["tool_calls"] = [
            {"id": i, "type": "function", "function": {"name": n, "arguments": json.dumps(a)}}
            for i, n, a in script.calls
        ]
    choice: dict[str, Any] = {"index": 0, "finish_reason": script.finish}
    choice |= {"text": message["content"]} if text else {"message": message}
    document: dict[str, Any] = {"id": "x", "object": "c", "created": 1, "model": "m", "choices": [choice]}
    if script.usage:
        document["usage"] = {"prompt_tokens": script.usage[0], "completion_tokens": script.usage[1]}
    return dumped(document)


def _ending_of_ollama(script: Script) -> dict[str, Any]:
    ending: dict[str, Any] = {"done": True, "done_reason": "length" if script.length else "stop"}
    if script.usage:
        ending |= {"prompt_eval_count": script.usage[0], "eval_count": script.usage[1]}
    return ending


def _calls_of_ollama(script: Script) -> list[dict[str, Any]]:
    return [{"id": i, "function": {"name": n, "arguments": a}} for i, n, a in script.calls]


def sent_by_ollama(script: Script, *, text: bool = False) -> list[bytes]:
    """The lines of a stream. ``text``: generate, not chat."""

    def line(content: str, **more: Any) -> bytes:
        top = {key: more.pop(key) for key in list(more) if key not in {"thinking", "tool_calls"}}
        told = (
            {"response": content, **more}
            if text
            else {"message": {"role": "assistant", "content": content, **more}}
        )
        return (
            dumped({"model": "m", "created_at": "2026-01-01T00:00:00Z", **told, "done": False, **top}) + b"\n"
        )

    found = [line("", thinking=one) for one in script.thinking]
    found += [line(one) for one in script.text]
    found += [line("", tool_calls=[call]) for call in _calls_of_ollama(script)]
    return [*found, line("", **_ending_of_ollama(script))]


def whole_of_ollama(script: Script, *, text: bool = False) -> bytes:
    content = "".join(script.text)
    told: dict[str, Any] = {"thinking": "".join(script.thinking)} if script.thinking else {}
    if text:
        return dumped({"model": "m", "response": content, **told, **_ending_of_ollama(script)})
    if script.calls:
        told["tool_calls"] = _calls_of_ollama(script)
    message = {"role": "assistant", "content": content, **told}
    return dumped({"model": "m", "message": message, **_ending_of_ollama(script)})


def stream_of(path: bytes, spoken: frozenset[str], script: Script) -> list[bytes]:
    """What the backend sends for a request to ``path``."""
    text = path == COMPLETIONS
    return sent_by_ollama(script, text=text) if spoken == OLLAMA else sent_by_openai(script, text=text)


def whole_of(path: bytes, spoken: frozenset[str], script: Script) -> bytes:
    text = path == COMPLETIONS
    return whole_of_ollama(script, text=text) if spoken == OLLAMA else whole_of_openai(script, text=text)


END_MARKS = (b"[DONE]", b'"done":true', b"message_stop", b"response.completed", b"response.incomplete")


def events_of(stream: bytes) -> list[tuple[str, Any]]:
    """Names and data of server-sent events; every one ends with a blank line."""
    assert stream.endswith(b"\n\n")
    found = []
    for block in stream[:-2].split(b"\n\n"):
        rows = block.split(b"\n")
        name = rows[0].removeprefix(b"event: ").decode() if rows[0].startswith(b"event: ") else ""
        (data,) = [row for row in rows if row.startswith(b"data: ")]
        found.append((name, "[DONE]" if data == b"data: [DONE]" else json.loads(data[6:])))
        assert len(rows) == (2 if name else 1)
    return found


def _openai_usage(document: Any) -> tuple[int, int] | None:
    usage = document.get("usage")
    return (usage["prompt_tokens"], usage["completion_tokens"]) if usage else None


def heard_by_openai(stream: bytes) -> Heard:
    found = Heard()
    calls: dict[int, list[str]] = {}
    documents = [one for _, one in events_of(stream)]
    assert documents.pop() == "[DONE]"
    assert len({(one["id"], one["created"], one["model"], one["object"]) for one in documents}) == 1
    assert documents[0]["choices"][0].get("delta", {"role": "assistant"})["role"] == "assistant"
    for document in documents:
        found.model = document["model"]
        found.usage = _openai_usage(document) or found.usage
        for choice in document["choices"]:
            assert not found.finish, "nothing comes after the finish reason"
            delta = choice.get("delta", {})
            found.text += delta.get("content") or choice.get("text") or ""
            found.thinking += delta.get("reasoning_content", "")
            for call in delta.get("tool_calls", ()):
                if call["index"] not in calls:
                    assert call["type"] == "function"
                    calls[call["index"]] = [call["id"], call["function"]["name"], ""]
                else:
                    assert "id" not in call, "SDKs join what comes in pieces"
                calls[call["index"]][2] += call["function"]["arguments"]
            found.finish = choice["finish_reason"] or found.finish
    found.calls = [(one[0], one[1], json.loads(one[2])) for one in calls.values()]
    return found


def whole_for_openai(body: bytes) -> Heard:
    document = json.loads(body)
    (choice,) = document["choices"]
    message = choice.get("message") or {"content": choice.get("text")}
    return Heard(
        message.get("reasoning_content", ""),
        message["content"] or "",
        [
            (one["id"], one["function"]["name"], json.loads(one["function"]["arguments"]))
            for one in message.get("tool_calls", ())
        ],
        choice["finish_reason"],
        _openai_usage(document),
        document["model"],
    )


def heard_by_ollama(stream: bytes) -> Heard:
    assert stream.endswith(b"\n")
    lines = [json.loads(line) for line in stream.splitlines() if line] if b"\r" not in stream else []
    assert [one["done"] for one in lines] == [False] * (len(lines) - 1) + [True]
    assert len({(one["model"], one["created_at"]) for one in lines}) == 1
    found = Heard()
    for one in lines:
        _hear_ollama(found, one)
    return found


def _hear_ollama(found: Heard, one: Any) -> None:
    message = one.get("message") or {"content": one.get("response"), "thinking": one.get("thinking", "")}
    found.model = one["model"]
    found.text += message["content"]
    found.thinking += message.get("thinking", "")
    found.calls += [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls", ())
    ]
    if one["done"]:
        found.finish = one["done_reason"]
        if found.finish == "stop" and found.calls:
            found.finish = "tool_calls"
        if "eval_count" in one:
            found.usage = (one["prompt_eval_count"], one["eval_count"])


def whole_for_ollama(body: bytes) -> Heard:
    found = Heard()
    document = json.loads(body)
    assert document["done"] is True
    _hear_ollama(found, document)
    return found


STOPS = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


def heard_by_anthropic(stream: bytes) -> Heard:
    found = Heard()
    blocks: list[dict[str, Any]] = []
    open_block: int | None = None
    events = events_of(stream)
    assert all(name == data["type"] for name, data in events)
    assert [name for name, _ in events[-2:]] == ["message_delta", "message_stop"]
    for name, data in events[:-1]:
        match name:
            case "message_start":
                assert not found.model
                found.model = data["message"]["model"]
                assert (data["message"]["content"], data["message"]["stop_reason"]) == ([], None)
            case "content_block_start":
                assert (open_block, data["index"]) == (None, len(blocks))
                open_block = data["index"]
                blocks.append({"input": "", **data["content_block"], "partial": ""})
            case "content_block_delta":
                assert data["index"] == open_block
                block, delta = blocks[-1], data["delta"]
                key = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
                if delta["type"] == "input_json_delta":
                    block["partial"] += delta["partial_json"]
                elif delta["type"] != "signature_delta":
                    block[key[delta["type"]]] += delta[key[delta["type"]]]
            case "content_block_stop":
                assert data["index"] == open_block
                open_block = None
            case "message_delta":
                assert open_block is None
                found.finish = STOPS[data["delta"]["stop_reason"]]
                found.usage = (data["usage"]["input_tokens"], data["usage"]["output_tokens"])
            case _:
                raise AssertionError(name)
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["partial"] or "{}")
    _hear_blocks(found, blocks)
    return found


def _hear_blocks(found: Heard, blocks: list[dict[str, Any]]) -> None:
    for block in blocks:
        if block["type"] == "tool_use":
            found.calls.append((block["id"], block["name"], block["input"]))
        else:
            found.text += block.get("text", "")
            found.thinking += block.get("thinking", "")


def whole_for_anthropic(body: bytes) -> Heard:
    document = json.loads(body)
    assert (document["type"], document["role"]) == ("message", "assistant")
    usage = document["usage"]
    found = Heard(
        finish=STOPS[document["stop_reason"]],
        usage=(usage["input_tokens"], usage["output_tokens"]),
        model=document["model"],
    )
    _hear_blocks(found, document["content"])
    return found


def heard_by_responses(stream: bytes) -> Heard:
    """What the deltas say; the last event's response has to say the same."""
    events = events_of(stream)
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    assert all(name == data["type"] for name, data in events)
    items: dict[int, list[Any]] = {}
    for name, data in events:
        if name == "response.output_item.added":
            items[data["output_index"]] = [data["item"], "", False]
        elif name.endswith(".delta"):
            assert items[data["output_index"]][0]["id"] == data["item_id"]
            items[data["output_index"]][1] += data["delta"]
        elif name == "response.output_item.done":
            items[data["output_index"]][2] = True
    assert all(done for _, _, done in items.values())
    told = whole_for_responses(json.dumps(events[-1][1]["response"]).encode())
    found = Heard(finish=told.finish, usage=told.usage, model=told.model)
    for item, content, _ in items.values():
        match item["type"]:
            case "message":
                found.text += content
            case "reasoning":
                found.thinking += content
            case _:
                found.calls.append((item["call_id"], item["name"], json.loads(content)))
    assert found == told
    return found


def whole_for_responses(body: bytes) -> Heard:
    document = json.loads(body)
    usage = document["usage"]
    found = Heard(
        finish="length" if document["status"] == "incomplete" else "stop",
        usage=(usage["input_tokens"], usage["output_tokens"]) if usage else None,
        model=document["model"],
    )
    for item in document["output"]:
        if item["type"] == "function_call":
            found.calls.append((item["call_id"], item["name"], json.loads(item["arguments"])))
            found.finish = "tool_calls"
        else:
            told = "".join(part["text"] for part in item["content"])
            if item["type"] == "message":
                found.text += told
            else:
                found.thinking += told
    return found


STREAMS = {
    CHAT: heard_by_openai,
    COMPLETIONS: heard_by_openai,
    OLLAMA_CHAT: heard_by_ollama,
    GENERATE: heard_by_ollama,
    MESSAGES: heard_by_anthropic,
    RESPONSES: heard_by_responses,
}
WHOLES = {
    CHAT: whole_for_openai,
    COMPLETIONS: whole_for_openai,
    OLLAMA_CHAT: whole_for_ollama,
    GENERATE: whole_for_ollama,
    MESSAGES: whole_for_anthropic,
    RESPONSES: whole_for_responses,
}
WAYS = [
    (CHAT, OLLAMA),
    (COMPLETIONS, OLLAMA),
    (MESSAGES, OLLAMA),
    (MESSAGES, OPENAI),
    (RESPONSES, OLLAMA),
    (RESPONSES, OPENAI),
    (OLLAMA_CHAT, OPENAI),
    (GENERATE, OPENAI),
]
"""Every way of an answer: the client's path, and what the backend speaks."""
WITHOUT = {COMPLETIONS: "thinking calls", GENERATE: "calls"}
"""What a client's surface has no place for."""
