"""Requests as people's clients send them, and all that the backend gets of each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.dialects.token_count import count_tokens
from sidecar.dialects.translate import translate
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
    outgoing,
)

HI = [{"role": "user", "content": "hi"}]
PNG = "iVBORw0KGgoAAAANSUhEUg=="
JPEG = "/9j/4AAQSkZJRg=="
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
ANTHROPIC = frozenset({"anthropic"})
EMBEDDINGS = b"/v1/embeddings"


def sent(path: bytes, body: dict[str, Any], spoken: frozenset[str]) -> Any:
    return json.loads(outgoing(path, body, spoken).body)


def call(number: int, arguments: str = "{}") -> dict[str, Any]:
    return {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": arguments}}


def test_of_openai_for_ollama() -> None:
    pictures = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{d}"}} for d in (PNG, JPEG)
    ]
    messages = [
        {"role": "developer", "content": "Be brief"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, *pictures, {"type": "text", "text": "b"}],
        },
        {"role": "assistant", "content": None, "tool_calls": [call(1)], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "of c1"},
        {"role": "function", "name": "g", "content": "of g"},
        {"role": "assistant", "content": None, "refusal": "I won't"},
    ]
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    body: dict[str, Any] = {
        "messages": messages,
        "response_format": form,
        "keep_alive": "1h",
        "reasoning_effort": "low",
    }
    body |= {
        "temperature": None,
        "made_up": False,
        "tools": [{"function": {"name": "f", "parameters": None}}],
    }
    parameters = {"type": "object", "properties": {}}
    assert sent(CHAT, body, OLLAMA) == {
        "model": "m:latest",
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "a\n\nb", "images": [PNG, JPEG]},
            {
                "role": "assistant",
                "content": "",
                "thinking": "hm",
                "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {}}}],
            },
            {"role": "tool", "content": "of c1", "tool_call_id": "c1", "tool_name": "f"},
            {"role": "tool", "content": "of g", "tool_call_id": "", "tool_name": "g"},
            {"role": "assistant", "content": "I won't"},
        ],
        "stream": False,
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "", "parameters": parameters}}
        ],
        "format": SCHEMA,
        "think": "low",
        "keep_alive": "1h",
    }
    assert "format" not in sent(CHAT, {"messages": HI, "response_format": {"type": "text"}}, OLLAMA)
    assert "think" not in json.loads(
        translate(
            CHAT,
            json.dumps({"messages": HI, "reasoning_effort": "high"}).encode(),
            spoken=OLLAMA,
            model="m",
            asked="m",
            answer_id="a",
            now_s=0,
            thinks=False,
        ).body
    ), "Ollama would refuse it"


def test_of_ollama_for_openai() -> None:
    text = {"function": {"name": "f", "arguments": '{"a":1}'}}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "thinking": "hm"},
        {"role": "assistant", "content": "", "tool_calls": [text]},
        {"role": "tool", "content": "1", "tool_name": "f"},
    ]
    body = {"messages": messages, "options": {"num_predict": -1}, "think": True, "format": "json"}
    made = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    assert sent(OLLAMA_CHAT, body, OPENAI) == {
        "model": "m:latest",
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "", "reasoning_content": "hm"},
            {"role": "assistant", "content": None, "tool_calls": [made]},
            {"role": "tool", "content": "1", "tool_call_id": "call_0"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "response_format": {"type": "json_object"},
        "chat_template_kwargs": {"enable_thinking": True},
    }


def test_of_anthropic_for_openai() -> None:
    document = {"type": "document", "title": "T", "source": {"type": "text", "data": "D"}}
    hidden = [{"type": "redacted_thinking", "data": "x"}, {"type": "thinking", "thinking": "hm"}]
    use = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    failed = {"type": "tool_result", "tool_use_id": "t1", "is_error": True}
    messages = [
        {"role": "user", "content": [document]},
        {"role": "assistant", "content": [*hidden, use]},
        {"role": "user", "content": [failed]},
    ]
    body: dict[str, Any] = {"messages": messages, "max_tokens": 9, "thinking": {"type": "adaptive"}}
    body["output_format"] = {"type": "json_schema", "schema": SCHEMA}
    body["tools"] = [{"name": "f", "input_schema": SCHEMA, "strict": True}]
    body["tool_choice"] = {"type": "tool", "name": "f", "disable_parallel_tool_use": True}
    found = sent(MESSAGES, body, OPENAI)
    assert found == {
        "model": "m:latest",
        "messages": [
            {"role": "user", "content": "T\nD"},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [call(0) | {"id": "t1"}],
            },
            {"role": "tool", "content": "The tool failed", "tool_call_id": "t1"},
        ],
        "stream": False,
        "max_tokens": 9,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
    }
    assert sent(MESSAGES, body | {"tool_choice": {"type": "any"}}, OPENAI)["tool_choice"] == "required"


def test_of_responses_for_openai() -> None:
    thought = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "short"}],
        "content": [{"type": "reasoning_text", "text": "hm"}],
    }
    items = [
        {"role": "developer", "content": "And kind"},
        {"role": "user", "content": "hi"},
        thought,
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "namespace": "n"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "+1"},
        {"type": "custom_tool_call", "call_id": "c3", "name": "patch", "input": "", "namespace": "n"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "2"},
        thought,
        {"role": "assistant", "content": "done"},
        {"role": "assistant", "content": "really"},
        {"role": "user", "content": "go on"},
    ]
    form = {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}
    body: dict[str, Any] = {"input": items, "instructions": "Be brief", "text": {"format": form}}
    body |= {"parallel_tool_calls": True, "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}]}
    functions = [
        {"name": "n__f", "arguments": "{}"},
        {"name": "patch", "arguments": '{"input": "+1"}'},
        {"name": "n__patch", "arguments": '{"input": ""}'},
    ]
    calls = [{"id": f"c{n}", "type": "function", "function": one} for n, one in enumerate(functions, 1)]
    assert sent(RESPONSES, body, OPENAI) == {
        "model": "m:latest",
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "system", "content": "And kind"},
            *HI,
            {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": calls},
            {"role": "tool", "content": "1", "tool_call_id": "c1"},
            {"role": "tool", "content": "2", "tool_call_id": "c2"},
            {"role": "assistant", "content": "done", "reasoning_content": "hm"},
            {"role": "assistant", "content": "really"},
            {"role": "user", "content": "go on"},
        ],
        "stream": False,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
        "parallel_tool_calls": True,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
        },
    }
    plain = sent(RESPONSES, {"input": "hi", "text": {"format": {"type": "text"}}}, OPENAI)
    assert "response_format" not in plain
    alone = sent(RESPONSES, {"input": "hi", "parallel_tool_calls": False}, OPENAI)
    assert "parallel_tool_calls" not in alone, "OpenAI refuses it where there are no tools"
    assert sent(RESPONSES, {"input": "hi", "reasoning": {"effort": "none"}}, OLLAMA)["think"] is False


def test_of_generate_for_openai() -> None:
    body = {
        "prompt": "p",
        "system": "s",
        "images": [PNG],
        "format": SCHEMA,
        "think": False,
        "options": {"seed": 1},
    }
    shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    found = sent(GENERATE, body, OPENAI)
    assert found["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "p"}, shown]},
    ]
    assert found["seed"] == 1
    assert found["response_format"]["json_schema"]["schema"] == SCHEMA
    assert found["chat_template_kwargs"] == {"enable_thinking": False}
    alone = sent(GENERATE, {"images": [PNG]}, OPENAI)
    assert shown in alone["messages"][0]["content"], "a picture alone is no wish to load the model"
    raw = sent(GENERATE, {"prompt": "p", "suffix": "e", "options": {"seed": 1}}, OPENAI)
    assert raw == {
        "model": "m:latest",
        "prompt": "p",
        "stream": True,
        "seed": 1,
        "suffix": "e",
        "stream_options": {"include_usage": True},
    }
    for name, value in (("images", [PNG]), ("format", "json"), ("think", True)):
        with pytest.raises(InvalidRequestError) as error:
            outgoing(GENERATE, {"prompt": "p", "raw": True, name: value}, OPENAI)
        assert error.value.details["param"] == name


def test_of_completions_for_ollama() -> None:
    plain = {"prompt": ["p"], "logprobs": 2, "keep_alive": "1h"}
    assert sent(COMPLETIONS, plain, OLLAMA) == {
        "model": "m:latest",
        "prompt": "p",
        "stream": False,
        "raw": True,
        "logprobs": True,
        "top_logprobs": 2,
        "keep_alive": "1h",
    }
    filled = sent(COMPLETIONS, {"prompt": "p", "suffix": "e"}, OLLAMA)
    assert (filled["suffix"], "raw" in filled) == ("e", False), "the model's template knows how to fill"
    wanted = sent(GENERATE, {"prompt": "p", "raw": True, "logprobs": True, "top_logprobs": 2}, OPENAI)
    assert wanted["logprobs"] == 2


@pytest.mark.parametrize(
    ("path", "body", "spoken", "param"),
    [
        (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, OLLAMA, "messages[0].tool_call_id"),
        (
            CHAT,
            {"messages": [{"role": "assistant", "tool_calls": [call(1, "[1]")]}]},
            OLLAMA,
            "tool_calls.arguments",
        ),
        (CHAT, {"messages": HI, "reasoning_effort": "some"}, OLLAMA, "reasoning_effort"),
        (
            CHAT,
            {"messages": HI, "chat_template_kwargs": {"custom": True}},
            OLLAMA,
            "chat_template_kwargs.custom",
        ),
        (
            CHAT,
            {"messages": HI, "response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            OLLAMA,
            "response_format.json_schema.schema",
        ),
        (CHAT, {"messages": HI, "logit_bias": {str(n): 1 for n in range(99)}}, OLLAMA, "logit_bias"),
        (CHAT, {"messages": HI, "made_up": ["x"] * 99}, OLLAMA, "made_up"),
        (COMPLETIONS, {"prompt": ["a", "b"]}, OLLAMA, "prompt"),
        (OLLAMA_CHAT, {"messages": HI, "options": {"seed": 1}}, ANTHROPIC, "options.seed"),
        (RESPONSES, {"input": "hi", "previous_response_id": "r"}, OPENAI, "previous_response_id"),
        (RESPONSES, {"input": "hi", "include": ["message.output_text.logprobs"]}, OPENAI, "include"),
        (RESPONSES, {"input": [{"type": "computer_call"}]}, OPENAI, "input[0].type"),
        (
            RESPONSES,
            {"input": "hi", "text": {"format": {"type": "json_schema", "name": "x"}}},
            OPENAI,
            "text.format.schema",
        ),
        (
            RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "x"}]}]},
            OPENAI,
            "input[0][0].image_url",
        ),
        (
            MESSAGES,
            {
                "max_tokens": 9,
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "file", "file_id": "x"}}],
                    }
                ],
            },
            OPENAI,
            "messages[0].content[0].source.type",
        ),
        (EMBEDDINGS, {"input": "x", "encoding_format": "int8"}, OLLAMA, "encoding_format"),
        (EMBEDDINGS, {"input": ["x", 5]}, OLLAMA, "input"),
    ],
)
def test_refusals(path: bytes, body: dict[str, Any], spoken: frozenset[str], param: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        outgoing(path, body, spoken)
    assert error.value.details["param"] == param


def test_a_picture_in_percent_signs_is_refused() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/svg+xml,%3Csvg/%3E"}}
    with pytest.raises(InvalidRequestError, match="must be in base64"):
        outgoing(CHAT, {"messages": [{"role": "user", "content": [part]}]}, OLLAMA)


def test_a_backend_of_ollamas_dialect_embeds_whatever_else_it_speaks() -> None:
    assert outgoing(EMBEDDINGS, {"input": "x"}, OLLAMA | ANTHROPIC).path == b"/api/embed"


def test_counts() -> None:
    def counted(*blocks: dict[str, Any], role: str = "assistant") -> int:
        body = {"model": "m", "messages": [{"role": role, "content": list(blocks)}]}
        found: int = json.loads(count_tokens(json.dumps(body).encode()))["input_tokens"]
        return found

    plain = counted({"type": "text", "text": "x" * 400})
    assert 100 <= plain <= 110
    assert counted({"type": "text", "text": "ж" * 400}) >= plain + 100, "by bytes, not by letters"
    assert counted({"type": "thinking", "thinking": "x" * 400}) >= 100
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": "x" * 400}}
    assert counted(use) >= 100
