"""Properties of requests: what both sides can say survives the way there and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.dialects.surfaces import SURFACES
from sidecar.dialects.translate import NATIVE, Outgoing, count_tokens, translate
from swarmplane.errors import InvalidRequestError
from tests.dialects.scripts import (
    CHAT,
    COMPLETIONS,
    GENERATE,
    MESSAGES,
    OLLAMA,
    OLLAMA_CHAT,
    OPENAI,
    RESPONSES,
    arguments,
    json_values,
    names,
    outgoing,
    words,
)

PNG = "iVBORw0KGgoAAAANSUhEUg=="
numbers = st.floats(0, 2, allow_nan=False).map(lambda value: round(value, 3))
counts = st.integers(0, 1000)
OPTIONS = {
    "temperature": numbers,
    "top_p": numbers,
    "top_k": counts,
    "min_p": numbers,
    "typical_p": numbers,
    "seed": counts,
    "stop": st.lists(words, min_size=1, max_size=3),
    "presence_penalty": numbers,
    "frequency_penalty": numbers,
    "repeat_penalty": numbers,
    "repeat_last_n": counts,
    "mirostat": st.sampled_from([0, 1, 2]),
    "mirostat_tau": numbers,
    "mirostat_eta": numbers,
}
schemas = st.fixed_dictionaries({"type": st.just("object")}, optional={"properties": arguments})


def back(first: Outgoing, spoken: frozenset[str]) -> dict[str, Any]:
    """What a backend that speaks ``spoken`` would get of what the first backend got."""
    found = translate(
        first.path, first.body, spoken=spoken, model="asked", asked="asked", answer_id="x", now_s=0
    )
    body: dict[str, Any] = json.loads(found.body)
    return body


@st.composite
def openai_chats(draw: st.DrawFn) -> dict[str, Any]:
    """A chat in the one spelling that our writer has for it, of what Ollama can say too."""
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(words)})
    made = 0
    for _ in range(draw(st.integers(1, 3))):
        text = draw(words)
        parts = [
            {"type": "text", "text": text},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        ]
        messages.append({"role": "user", "content": parts if draw(st.booleans()) else text})
        calls = [
            {
                "id": f"call_{made + place}",
                "type": "function",
                "function": {
                    "name": draw(names),
                    "arguments": json.dumps(draw(arguments), separators=(",", ":")),
                },
            }
            for place in range(draw(st.integers(0, 2)))
        ]
        made += len(calls)
        answer: dict[str, Any] = {"role": "assistant", "content": None if calls else draw(words)}
        if draw(st.booleans()):
            answer["reasoning_content"] = draw(words)
        if calls:
            answer["tool_calls"] = calls
        messages.append(answer)
        order = draw(st.permutations(calls))
        messages += [{"role": "tool", "content": draw(words), "tool_call_id": call["id"]} for call in order]
    messages.append({"role": "user", "content": draw(words)})
    body: dict[str, Any] = {"model": "asked", "messages": messages, "stream": draw(st.booleans())}
    body |= draw(
        st.fixed_dictionaries(
            {},
            optional=OPTIONS
            | {"max_tokens": counts, "logprobs": st.booleans(), "top_logprobs": st.integers(0, 20)},
        )
    )
    if "repeat_penalty" in body:
        body["repetition_penalty"] = body["repeat_penalty"]
    if body["stream"]:
        body["stream_options"] = {"include_usage": True}
    if draw(st.booleans()):
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": name, "description": draw(words), "parameters": draw(schemas)},
            }
            for name in draw(st.lists(names, min_size=1, max_size=2))
        ]
    form = draw(st.sampled_from([None, {"type": "json_object"}, "schema"]))
    if form == "schema":
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": draw(schemas)}}
    if form is not None:
        body["response_format"] = form
    thinking = draw(
        st.sampled_from(
            [
                {},
                {"reasoning_effort": "low"},
                {"reasoning_effort": "high"},
                {"chat_template_kwargs": {"enable_thinking": False}},
                {"chat_template_kwargs": {"enable_thinking": True}},
            ]
        )
    )
    return body | thinking


@settings(max_examples=200)
@given(openai_chats())
def test_a_chat_of_openai_there_and_back(body: dict[str, Any]) -> None:
    """Kills: any setting in the wrong place or dropped, pictures or thinking dropped, calls answered by the
    wrong message, arguments as text, stream left to Ollama's default, a schema as "json".
    """
    assert back(outgoing(CHAT, body, OLLAMA), OPENAI) == body


@st.composite
def ollama_chats(draw: st.DrawFn) -> dict[str, Any]:
    """A chat in the one spelling that our writer has for it, of what OpenAI can say too."""
    messages: list[dict[str, Any]] = []
    made = 0
    for _ in range(draw(st.integers(1, 3))):
        asked: dict[str, Any] = {"role": draw(st.sampled_from(["system", "user"])), "content": draw(words)}
        if draw(st.booleans()):
            asked["images"] = [PNG]
        messages.append(asked)
        calls = [
            {"id": f"call_{made + place}", "function": {"name": draw(names), "arguments": draw(arguments)}}
            for place in range(draw(st.integers(0, 2)))
        ]
        made += len(calls)
        answer: dict[str, Any] = {"role": "assistant", "content": draw(words)}
        if draw(st.booleans()):
            answer["thinking"] = draw(words)
        if calls:
            answer["tool_calls"] = calls
        messages.append(answer)
        messages += [
            {
                "role": "tool",
                "content": draw(words),
                "tool_call_id": call["id"],
                "tool_name": call["function"]["name"],
            }
            for call in draw(st.permutations(calls))
        ]
    body: dict[str, Any] = {"model": "asked", "messages": messages, "stream": draw(st.booleans())}
    options = draw(st.fixed_dictionaries({}, optional=OPTIONS | {"num_predict": counts}))
    if options:
        body["options"] = options
    if draw(st.booleans()):
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": draw(names), "description": draw(words), "parameters": draw(schemas)},
            }
        ]
    return body | draw(
        st.fixed_dictionaries(
            {},
            optional={
                "format": st.just("json") | schemas,
                "think": st.booleans() | st.sampled_from(["low", "medium", "high"]),
                "logprobs": st.booleans(),
                "top_logprobs": st.integers(0, 20),
            },
        )
    )


@settings(max_examples=200)
@given(ollama_chats())
def test_a_chat_of_ollama_there_and_back(body: dict[str, Any]) -> None:
    assert back(outgoing(OLLAMA_CHAT, body, OPENAI), OLLAMA) == body


@given(
    prompt=words,
    suffix=st.just("") | words,
    more=st.fixed_dictionaries({}, optional=OPTIONS | {"max_tokens": counts, "logprobs": st.integers(0, 5)}),
)
def test_a_text_of_openai_there_and_back(prompt: str, suffix: str, more: dict[str, Any]) -> None:
    body = {"model": "asked", "prompt": prompt, "stream": False} | more
    if suffix:
        body["suffix"] = suffix
    if "repeat_penalty" in body:
        body["repetition_penalty"] = body["repeat_penalty"]
    first = outgoing(COMPLETIONS, body, OLLAMA)
    assert json.loads(first.body).get("raw", False) is not bool(suffix)
    assert back(first, OPENAI) == body


@given(body=openai_chats())
def test_messages_and_responses_say_what_a_chat_says(body: dict[str, Any]) -> None:
    """The same conversation in each dialect of a client comes to a backend as the same request."""
    for name in (
        "logprobs", "top_logprobs", "seed", "min_p", "typical_p", "presence_penalty", "frequency_penalty",
        "repeat_penalty", "repeat_last_n", "mirostat", "mirostat_tau", "mirostat_eta", "top_k", "stop",
        "chat_template_kwargs", "reasoning_effort", "repetition_penalty",
    ):  # fmt: skip
        body.pop(name, None)
    if body.get("response_format") == {"type": "json_object"}:
        del body["response_format"]
    body.setdefault("max_tokens", 5)
    wanted = json.loads(outgoing(CHAT, body, OLLAMA).body)
    assert json.loads(outgoing(MESSAGES, _as_messages(body), OLLAMA).body) == wanted
    assert json.loads(outgoing(RESPONSES, _as_response(body), OLLAMA).body) == wanted


def _as_messages(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: body[key] for key in ("stream", "temperature", "top_p", "max_tokens") if key in body
    }
    turns: list[dict[str, Any]] = []
    for message in body["messages"]:
        content: Any = message["content"]
        if message["role"] == "system":
            found["system"] = content
            continue
        if message["role"] == "tool":
            result = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": content}
            turns.append({"role": "user", "content": [result]})
            continue
        if isinstance(content, list):
            source = {"type": "base64", "media_type": "image/png", "data": PNG}
            content = [content[0], {"type": "image", "source": source}]
        blocks: list[dict[str, Any]] = (
            [] if content is None or isinstance(content, list) else [{"type": "text", "text": content}]
        )
        if "reasoning_content" in message:
            blocks.insert(0, {"type": "thinking", "thinking": message["reasoning_content"], "signature": "x"})
        for call in message.get("tool_calls", ()):
            given_arguments = json.loads(call["function"]["arguments"])
            blocks.append(
                {
                    "type": "tool_use",
                    "id": call["id"],
                    "name": call["function"]["name"],
                    "input": given_arguments,
                }
            )
        turns.append({"role": message["role"], "content": content if isinstance(content, list) else blocks})
    found["messages"] = turns
    if "tools" in body:
        found["tools"] = [
            {
                "name": t["function"]["name"],
                "description": t["function"]["description"],
                "input_schema": t["function"]["parameters"],
            }
            for t in body["tools"]
        ]
    if "response_format" in body:
        schema = body["response_format"]["json_schema"]["schema"]
        found["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return found


def _as_response(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {key: body[key] for key in ("stream", "temperature", "top_p") if key in body}
    found["max_output_tokens"] = body["max_tokens"]
    items: list[dict[str, Any]] = []
    for message in body["messages"]:
        content: Any = message["content"]
        if message["role"] == "system":
            found["instructions"] = content
            continue
        if message["role"] == "tool":
            items.append(
                {"type": "function_call_output", "call_id": message["tool_call_id"], "output": content}
            )
            continue
        if "reasoning_content" in message:
            part = {"type": "reasoning_text", "text": message["reasoning_content"]}
            items.append({"type": "reasoning", "id": "r", "summary": [], "content": [part]})
        if isinstance(content, list):
            picture = {"type": "input_image", "image_url": content[1]["image_url"]["url"]}
            content = [{"type": "input_text", "text": content[0]["text"]}, picture]
        if content is not None:
            items.append({"type": "message", "role": message["role"], "content": content})
        items += [
            {"type": "function_call", "call_id": call["id"], **call["function"]}
            for call in message.get("tool_calls", ())
        ]
    found["input"] = items
    if "tools" in body:
        found["tools"] = [{"type": "function", **tool["function"]} for tool in body["tools"]]
    if "response_format" in body:
        schema = body["response_format"]["json_schema"]["schema"]
        found["text"] = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    return found


KEYS = sorted({field.partition(".")[0] for surface in SURFACES.values() for field in surface.fields})
TURN_KEYS = [
    "role",
    "content",
    "tool_calls",
    "images",
    "type",
    "text",
    "source",
    "image_url",
    "tool_use_id",
    "input",
    "id",
    "name",
    "function",
    "arguments",
    "call_id",
    "output",
]
near_misses = st.recursive(
    json_values
    | st.sampled_from(["user", "assistant", "tool", "text", "image", "tool_use", "function", "json"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TURN_KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)
POSTS = sorted(set(NATIVE) - {b"/v1/messages/count_tokens"})


@pytest.mark.parametrize("spoken", [OPENAI, OLLAMA], ids=["openai", "ollama"])
@pytest.mark.parametrize("path", POSTS, ids=bytes.decode)
@settings(max_examples=60)
@given(body=st.dictionaries(st.sampled_from(KEYS), near_misses, max_size=6))
@example(body={"messages": [], "keep_alive": 0})
@example(body={"prompt": "x", "stop": [], "options": {"num_predict": -1}})
def test_a_body_is_translated_or_refused(path: bytes, spoken: frozenset[str], body: dict[str, Any]) -> None:
    """Kills: a KeyError, AttributeError or ValueError for a body of a form that was not thought of."""
    try:
        out = outgoing(path, body, spoken)
    except InvalidRequestError:
        return
    assert isinstance(json.loads(out.body), dict)


@pytest.mark.parametrize("path", [*POSTS, b"/v1/messages/count_tokens"], ids=bytes.decode)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"{",
        b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"m","messages":[{"role":"user","content":"\xff"}],"max_tokens":1}',
        b'{"model":"m","prompt":"\xff","input":"\xff"}',
        b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}],"input":"\\ud800","prompt":"\\ud800"}',
        b'{"model":"m","temperature":1e999}',
        b'{"model":"m","messages":{"a":1},"input":{"a":1},"prompt":{"a":1}}',
    ],
)
def test_a_body_that_is_none_is_refused(path: bytes, body: bytes) -> None:
    spoken = OPENAI if path.startswith(b"/api/") else OLLAMA

    def tried() -> bytes:
        if path.endswith(b"count_tokens"):
            return count_tokens(body)
        return translate(path, body, spoken=spoken, model="m", asked="m", answer_id="x", now_s=0).body

    with pytest.raises(InvalidRequestError):
        tried()


def test_generate_is_a_chat_unless_it_is_raw() -> None:
    chat = outgoing(GENERATE, {"prompt": "p", "system": "s", "images": [PNG]}, OPENAI)
    assert chat.path == CHAT
    assert [turn["role"] for turn in json.loads(chat.body)["messages"]] == ["system", "user"]
    for how in ({"raw": True}, {"suffix": "end"}):
        text = outgoing(GENERATE, {"prompt": "p"} | how, OPENAI)
        assert (text.path, json.loads(text.body)["prompt"]) == (COMPLETIONS, "p")
        with pytest.raises(InvalidRequestError, match="system"):
            outgoing(GENERATE, {"prompt": "p", "system": "s"} | how, OPENAI)
