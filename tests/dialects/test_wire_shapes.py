"""Shapes as real servers and clients write them: Ollama 0.12 to 0.14, vLLM, llama.cpp, and the three SDKs."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from sidecar.dialects.translate import BackendAnswerError, count_tokens, error_answer, translate
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
    Script,
    outgoing,
    sent_by_openai,
)

PNG = "iVBORw0KGgoAAAANSUhEUg=="
JPEG = "/9j/4AAQSkZJRg=="
HI = [{"role": "user", "content": "hi"}]
EMBEDDINGS, EMBED, LEGACY = b"/v1/embeddings", b"/api/embed", b"/api/embeddings"


def saying(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def sent(path: bytes, body: dict[str, Any], spoken: frozenset[str]) -> Any:
    return json.loads(outgoing(path, body, spoken).body)


def answered(path: bytes, body: dict[str, Any], spoken: frozenset[str], answer: dict[str, Any]) -> Any:
    return json.loads(outgoing(path, body, spoken).answer.whole(json.dumps(answer).encode()))


# What llama.cpp's server answers, with its timings and a cached prefix.
LLAMA_CPP = {
    "choices": [
        {
            "finish_reason": "stop",
            "index": 0,
            "message": {"role": "assistant", "reasoning_content": "Short.", "content": "Hello!"},
        }
    ],
    "created": 1_760_000_000,
    "model": "qwen3-8b",
    "system_fingerprint": "b6700-abc",
    "object": "chat.completion",
    "usage": {
        "completion_tokens": 10,
        "prompt_tokens": 25,
        "total_tokens": 35,
        "prompt_tokens_details": {"cached_tokens": 20},
    },
    "id": "chatcmpl-x",
    "timings": {"cache_n": 20, "prompt_n": 5, "prompt_ms": 50.5, "predicted_n": 10, "predicted_ms": 200.25},
}
# What vLLM answers: nulls everywhere, thinking under another name, which stop sequence it was.
VLLM = {
    "id": "chatcmpl-y",
    "object": "chat.completion",
    "created": 1_760_000_000,
    "model": "meta/llama",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hello!",
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "tool_calls": [],
                "reasoning": "Short.",
            },
            "logprobs": None,
            "finish_reason": "stop",
            "stop_reason": "END",
            "token_ids": None,
        }
    ],
    "service_tier": None,
    "system_fingerprint": None,
    "usage": {
        "prompt_tokens": 25,
        "total_tokens": 35,
        "completion_tokens": 10,
        "prompt_tokens_details": None,
    },
    "prompt_logprobs": None,
    "kv_transfer_params": None,
}


def test_llama_cpp_for_ollama() -> None:
    assert answered(OLLAMA_CHAT, {"messages": HI, "stream": False}, OPENAI, LLAMA_CPP) == {
        "model": "asked",
        "created_at": "2023-11-14T22:13:20Z",
        "message": {"role": "assistant", "content": "Hello!", "thinking": "Short."},
        "done": True,
        "done_reason": "stop",
        "total_duration": 250_750_000,
        "load_duration": 0,
        "prompt_eval_count": 25,
        "prompt_eval_duration": 50_500_000,
        "eval_count": 10,
        "eval_duration": 200_250_000,
    }


def test_durations_that_no_backend_told_are_measured() -> None:
    """Kills: a prompt that takes the whole time, zeros (clients divide by them)."""
    ticks = iter(range(1_000, 100_000, 1_000))
    out = translate(
        OLLAMA_CHAT,
        json.dumps({"model": "asked", "messages": HI}).encode(),
        spoken=OPENAI,
        model="m",
        asked="asked",
        answer_id="abc",
        now_s=0,
        clock_ns=lambda: next(ticks),
    )
    said = b"".join(out.answer.push(frame) for frame in sent_by_openai(Script()))
    last = json.loads(said.splitlines()[-1])
    assert [last[f"{name}_duration"] for name in ("total", "load", "prompt_eval", "eval")] == [
        2000,
        0,
        1000,
        1000,
    ]


def test_llama_cpp_and_vllm_for_anthropic() -> None:
    body = {"messages": HI, "max_tokens": 9}
    first = answered(MESSAGES, body, OPENAI, LLAMA_CPP)
    assert first["usage"] == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 20,
        "output_tokens": 10,
    }
    assert (first["stop_reason"], first["stop_sequence"]) == ("end_turn", None)
    second = answered(MESSAGES, body, OPENAI, VLLM)
    assert second == {
        "id": "msg_abc",
        "type": "message",
        "role": "assistant",
        "model": "asked",
        "content": [
            {"type": "thinking", "thinking": "Short.", "signature": ""},
            {"type": "text", "text": "Hello!"},
        ],
        "stop_reason": "stop_sequence",
        "stop_sequence": "END",
        "usage": {
            "input_tokens": 25,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 10,
        },
    }


def test_llama_cpp_for_responses() -> None:
    body = {"input": "hi", "temperature": 0.5, "metadata": {"a": "b"}, "tools": []}
    answer = answered(RESPONSES, body, OPENAI, LLAMA_CPP)
    assert answer["usage"] == {
        "input_tokens": 25,
        "input_tokens_details": {"cached_tokens": 20},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 35,
    }
    assert (answer["temperature"], answer["metadata"], answer["status"]) == (0.5, {"a": "b"}, "completed")
    assert [item["type"] for item in answer["output"]] == ["reasoning", "message"]
    assert len({item["id"] for item in answer["output"]}) == 2


def test_what_servers_leave_out_or_null_is_no_fault() -> None:
    bare = {
        "choices": [{"index": None, "message": {"content": "Hello!"}}],
        "usage": None,
        "timings": {"prompt_ms": None},
    }
    said = answered(MESSAGES, {"messages": HI, "max_tokens": 9}, OPENAI, bare)
    assert (said["content"], said["stop_reason"]) == ([{"type": "text", "text": "Hello!"}], "end_turn")
    said = answered(OLLAMA_CHAT, {"messages": HI, "stream": False}, OPENAI, bare)
    assert (said["message"]["content"], said["done"], "eval_count" in said) == ("Hello!", True, False)
    plain = {"message": {"role": "assistant", "content": "Hello!"}, "done": True}
    said = answered(CHAT, {"messages": HI}, OLLAMA, plain)
    assert said["choices"][0]["finish_reason"] == "stop"


def test_what_a_request_of_responses_repeats_fits_on_a_line() -> None:
    body = b'{"model":"asked","input":"hi","stream":true,"metadata":{\n"a":\n"b"}}'
    out = translate(
        RESPONSES, body, spoken=OPENAI, model="m", asked="asked", answer_id="abc", now_s=1_700_000_000
    )
    said = out.answer.push(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n')
    assert all(line.startswith((b"event: ", b"data: ")) for line in said.splitlines() if line)


def test_pictures() -> None:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{JPEG}", "detail": "low"}},
    ]
    assert sent(CHAT, {"messages": [{"role": "user", "content": parts}]}, OLLAMA)["messages"] == [
        {"role": "user", "content": "What is it?", "images": [JPEG]}
    ]
    body = {"messages": [{"role": "user", "content": "What is it?", "images": [JPEG, PNG]}]}
    urls = [
        part["image_url"]["url"] for part in sent(OLLAMA_CHAT, body, OPENAI)["messages"][0]["content"][1:]
    ]
    assert urls == [f"data:image/jpeg;base64,{JPEG}", f"data:image/png;base64,{PNG}"]
    source = {"type": "url", "url": "https://example.org/x.png"}
    body = {"messages": [{"role": "user", "content": [{"type": "image", "source": source}]}], "max_tokens": 9}
    assert sent(MESSAGES, body, OPENAI)["messages"][0]["content"][0]["image_url"]["url"] == source["url"]


WEB = "http://example.org/x.png"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": saying({"type": "image_url", "image_url": {"url": WEB}})}, "messages"),
        (
            MESSAGES,
            {"max_tokens": 9, "messages": saying({"type": "image", "source": {"type": "url", "url": WEB}})},
            "messages",
        ),
        (RESPONSES, {"input": saying({"type": "input_image", "image_url": WEB})}, "input"),
    ],
)
def test_nobody_fetches_a_picture(path: bytes, body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError, match="fetches no pictures") as error:
        outgoing(path, body, OLLAMA)
    assert error.value.details["param"] == param, "a member of what this client sent"


def test_results_of_tools_without_ids_answer_the_oldest_open_call() -> None:
    """As Ollama's clients write them. Kills: results all given to the first call, ids that are not unique."""
    calls = [{"function": {"name": name, "arguments": {"n": n}}} for n, name in enumerate(("f", "g", "f"))]
    messages = [
        *HI,
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_name": "g", "content": "of g"},
        {"role": "tool", "tool_name": "f", "content": "of the first f"},
        {"role": "tool", "content": "of the other"},
    ]
    turns = sent(OLLAMA_CHAT, {"messages": messages}, OPENAI)["messages"]
    ids = [call["id"] for call in turns[1]["tool_calls"]]
    assert len(set(ids)) == 3
    assert [turn["tool_call_id"] for turn in turns[2:]] == [ids[1], ids[0], ids[2]]


def test_results_of_tools_for_anthropic_stand_before_what_the_user_says() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    content = [
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "r"}, picture]},
        {"type": "tool_result", "tool_use_id": "t2", "content": "bad", "is_error": True},
        {"type": "text", "text": "Go on", "cache_control": {"type": "ephemeral"}},
    ]
    uses = [{"type": "tool_use", "id": f"t{n}", "name": "f", "input": {"n": n}} for n in (1, 2)]
    body = {
        "system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        "messages": [*HI, {"role": "assistant", "content": uses}, {"role": "user", "content": content}],
        "max_tokens": 32_000,
        "thinking": {"type": "enabled", "budget_tokens": 31_999},
        "metadata": {"user_id": "x"},
        "context_management": {"edits": []},
    }
    found = sent(MESSAGES, body, OLLAMA)
    assert [(turn["role"], turn["content"]) for turn in found["messages"]] == [
        ("system", "a\n\nb"),
        ("user", "hi"),
        ("assistant", ""),
        ("tool", "r"),
        ("tool", "bad"),
        ("user", "Go on"),
    ]
    assert found["messages"][5]["images"] == [PNG]
    assert [turn["tool_name"] for turn in found["messages"][3:5]] == ["f", "f"]
    assert "think" not in found, "a model that can't think need not"
    assert sent(MESSAGES, body | {"thinking": {"type": "disabled"}}, OLLAMA)["think"] is False


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"messages": saying({"type": "container_upload", "file_id": "x"})}, "messages[0].content[0].type"),
        (
            {"messages": saying({"type": "document", "source": {"type": "base64", "data": "x"}})},
            "messages[0].content[0].source.type",
        ),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"messages": "x"}, "messages"),
    ],
)  # fmt: skip
def test_refusals_name_the_place(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        outgoing(MESSAGES, {"messages": HI, "max_tokens": 9} | body, OLLAMA)
    assert error.value.details["param"] == field
    assert error.value.message.startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (CHAT, {"messages": []}, "messages"),
        (MESSAGES, {"messages": [], "max_tokens": 9}, "messages"),
        (RESPONSES, {"input": []}, "input"),
        (COMPLETIONS, {"prompt": ""}, "prompt"),
        (COMPLETIONS, {"prompt": []}, "prompt"),
    ],
)
def test_nothing_is_no_request_to_load_a_model(path: bytes, body: dict[str, Any], field: str) -> None:
    """Ollama takes it for one, and would answer with nothing."""
    with pytest.raises(InvalidRequestError) as error:
        outgoing(path, body, OLLAMA)
    assert error.value.details["param"] == field


def test_numbers_as_javascript_writes_them() -> None:
    assert sent(CHAT, {"messages": HI, "max_tokens": 5.0, "seed": 1}, OLLAMA)["options"] == {
        "num_predict": 5,
        "seed": 1,
    }


def test_logprobs() -> None:
    token = {
        "token": "Hi",
        "logprob": -0.5,
        "bytes": [72, 105],
        "top_logprobs": [{"token": "Hi", "logprob": -0.5}],
    }
    more = {"token": " you", "logprob": -1.0}
    answer = {"model": "m", "message": {"content": "Hi you"}, "done": True, "logprobs": [token, more]}
    said = answered(CHAT, {"messages": HI, "logprobs": True, "top_logprobs": 1}, OLLAMA, answer)
    assert said["choices"][0]["logprobs"] == {"content": [token, more], "refusal": None}
    text = {"model": "m", "response": "Hi you", "done": True, "logprobs": [token, more]}
    said = answered(COMPLETIONS, {"prompt": "x", "logprobs": 1}, OLLAMA, text)
    assert said["choices"][0]["logprobs"] == {
        "tokens": ["Hi", " you"],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{"Hi": -0.5}, {}],
        "text_offset": [0, 2],
    }
    choice = {
        "text": "Hi",
        "finish_reason": "stop",
        "logprobs": {"tokens": ["Hi"], "token_logprobs": [-0.5], "top_logprobs": [{"Hi": -0.5}]},
    }
    said = answered(GENERATE, {"prompt": "x", "raw": True, "stream": False}, OPENAI, {"choices": [choice]})
    assert said["logprobs"] == [
        {"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Hi", "logprob": -0.5}]}
    ]
    out = outgoing(CHAT, {"messages": HI, "logprobs": True, "stream": True}, OLLAMA)
    line = json.dumps({"message": {"content": "Hi"}, "done": False, "logprobs": [token]}).encode() + b"\n"
    assert json.loads(out.answer.push(line).split(b"\n\n")[1][6:])["choices"][0]["logprobs"]["content"] == [
        token
    ]


def test_a_model_is_loaded_by_one_token_and_never_unloaded() -> None:
    for path, body in ((OLLAMA_CHAT, {"messages": []}), (GENERATE, {"keep_alive": "5m"}), (GENERATE, {})):
        out = outgoing(path, body, OPENAI)
        asked = json.loads(out.body)
        assert (out.path, asked["max_tokens"], asked["stream"]) == (CHAT, 1, True)
        said = out.answer.push(
            b'data: {"choices":[{"delta":{"content":"X"},"finish_reason":"length"}]}\n\ndata: [DONE]\n\n'
        )
        (line,) = [json.loads(one) for one in said.splitlines()]
        assert (line["done"], line["done_reason"], "X" in str(line)) == (True, "load", False)
        whole = outgoing(path, body | {"stream": False}, OPENAI).answer.whole(json.dumps(VLLM).encode())
        assert json.loads(whole) == line
    for never in (0, "0", "0s", 0.0):
        with pytest.raises(InvalidRequestError, match=r"keep_alive: .*unload"):
            outgoing(GENERATE, {"keep_alive": never}, OPENAI)


def test_embeddings_of_ollama_for_openai() -> None:
    """Kills: doubles instead of floats, big-endian, lists in base64, another count of answers let through."""
    answer = {
        "model": "nomic-embed-text",
        "embeddings": [[0.25, -1.5], [1e-3, 2.0]],
        "total_duration": 14_143_917,
        "load_duration": 1_019_500,
        "prompt_eval_count": 8,
    }
    body = {"input": ["a", "b"], "dimensions": 2}
    assert sent(EMBEDDINGS, body | {"keep_alive": "1h"}, OLLAMA) == {
        "model": "m:latest",
        "input": ["a", "b"],
        "truncate": False,
        "dimensions": 2,
        "keep_alive": "1h",
    }
    said = answered(EMBEDDINGS, body, OLLAMA, answer)
    assert said == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.25, -1.5]},
            {"object": "embedding", "index": 1, "embedding": [1e-3, 2.0]},
        ],
        "model": "asked",
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    packed = answered(EMBEDDINGS, body | {"encoding_format": "base64"}, OLLAMA, answer)
    assert struct.unpack("<2f", base64.b64decode(packed["data"][0]["embedding"])) == (0.25, -1.5)
    with pytest.raises(BackendAnswerError):
        answered(EMBEDDINGS, {"input": ["a", "b", "c"]}, OLLAMA, answer)
    for value in ([1, 2], [[1, 2]]):
        with pytest.raises(InvalidRequestError, match=r"input: .*text"):
            outgoing(EMBEDDINGS, {"input": value}, OLLAMA)


def test_embeddings_of_openai_for_ollama() -> None:
    packed = base64.b64encode(struct.pack("<2f", 0.25, -1.5)).decode()
    answer = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 1, "embedding": [3.0, 4.0]},
            {"object": "embedding", "index": 0, "embedding": packed},
        ],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    said = answered(EMBED, {"input": ["a", "b"], "truncate": True, "options": {"num_ctx": 5}}, OPENAI, answer)
    assert said == {
        "model": "asked",
        "embeddings": [[0.25, -1.5], [3.0, 4.0]],
        "total_duration": 0,
        "load_duration": 0,
        "prompt_eval_count": 8,
    }
    answer["data"] = [{"object": "embedding", "index": 0, "embedding": [3.0]}]
    assert answered(LEGACY, {"prompt": "a"}, OPENAI, answer) == {"embedding": [3.0]}
    for body in ({"error": "x"}, {}, {"data": [{"embedding": "?"}]}):
        with pytest.raises(BackendAnswerError):
            answered(LEGACY, {"prompt": "a"}, OPENAI, body)


def test_an_answer_that_was_not_asked_to_stream_is_no_stream() -> None:
    answer = outgoing(EMBED, {"input": "a"}, OPENAI).answer
    for act in (lambda: answer.push(b"x"), answer.end):
        with pytest.raises(BackendAnswerError):
            act()


MISSING = {"error": {"message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}}


@pytest.mark.parametrize(
    ("status", "body", "message", "code"),
    [
        (404, MISSING, "The model `x` does not exist.", None),
        (400, {"error": "x does not support thinking"}, "x does not support thinking", None),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "too large", "type": "x"}]}, "n: too large", None),
        (400, {"detail": "no"}, "no", None),
        (400, {"object": "error", "message": "bad", "code": 40}, "bad", None),
        (400, {"error": {"message": "bad", "code": "bad_thing"}}, "bad", "bad_thing"),
        (500, [], "the backend answered 500", None),
    ],
)
def test_errors_of_backends_in_every_shape(status: int, body: Any, message: str, code: str | None) -> None:
    raw = json.dumps(body).encode()
    assert json.loads(error_answer(OLLAMA_CHAT, status, raw)) == {"error": message}
    anthropic = json.loads(error_answer(MESSAGES, status, raw))
    assert (anthropic["type"], anthropic["error"]["message"]) == ("error", message)
    error = json.loads(error_answer(CHAT, status, raw))["error"]
    assert (error["message"], error["code"], set(error)) == (
        message,
        code,
        {"message", "type", "code", "param"},
    )


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"<html>Bad gateway</html>", b"[" * 99_999, b'{"error":null}']
)
def test_errors_of_backends_in_no_shape(body: bytes) -> None:
    for path in (CHAT, MESSAGES, OLLAMA_CHAT, RESPONSES):
        assert len(error_answer(path, 502, body)) < 70_000
        assert json.loads(error_answer(path, 502, body))["error"]


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (403, "permission_error", "permission_error"),
        (404, "invalid_request_error", "not_found_error"),
        (413, "invalid_request_error", "request_too_large"),
        (422, "invalid_request_error", "invalid_request_error"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "api_error", "api_error"),
        (503, "api_error", "overloaded_error"),
    ],
)
def test_types_of_errors_are_those_that_sdks_know(status: int, openai: str, anthropic: str) -> None:
    raw = json.dumps({"error": "x" * 100_000}).encode()
    for path, wanted in ((CHAT, openai), (RESPONSES, openai), (MESSAGES, anthropic)):
        error = json.loads(error_answer(path, status, raw))["error"]
        assert error["type"] == wanted
        assert len(error["message"]) < 5_000


TOO_LONG = {
    "vllm": {
        "message": "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens "
        "(8000 in the messages, 1000 in the completion). Please reduce the length of the messages.",
        "type": "BadRequestError",
        "code": 400,
    },
    "llama.cpp": {
        "code": 400,
        "message": "the request exceeds the available context size, try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 9000,
        "n_ctx": 8192,
    },
}


@pytest.mark.parametrize("server", TOO_LONG)
def test_a_prompt_that_is_too_long_is_said_in_the_words_clients_look_for(server: str) -> None:
    raw = json.dumps({"error": TOO_LONG[server]}).encode()
    openai = json.loads(error_answer(CHAT, 400, raw))["error"]
    assert openai["code"] == "context_length_exceeded"
    words = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens"
    assert openai["message"].startswith(words)
    anthropic = json.loads(error_answer(MESSAGES, 400, raw))["error"]
    assert anthropic == {
        "type": "invalid_request_error",
        "message": "prompt is too long: 9000 tokens > 8192 maximum",
    }


def test_counting() -> None:
    def counted(**body: Any) -> int:
        found: int = json.loads(count_tokens(json.dumps({"model": "m", "messages": HI} | body).encode()))[
            "input_tokens"
        ]
        return found

    plain = counted()
    assert plain > 0
    assert counted(system="x" * 400) >= plain + 100
    assert counted(tools=[{"name": "f", "input_schema": {"description": "x" * 400}}]) >= plain + 100
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG * 1000}}
    assert 1_000 < counted(messages=[{"role": "user", "content": [picture]}]) < 2_000
