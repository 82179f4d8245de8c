from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.usage import KEPT_BYTES, NOTHING, Tail, Usage, finish_reason, last_of, read

CHAT = {
    "id": "x",
    "choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 5,
        "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 4},
    },
}


def sse(*events: object) -> bytes:
    return b"".join(
        b"data: %b\n\n" % (event.encode() if isinstance(event, str) else json.dumps(event).encode())
        for event in events
    )


@pytest.mark.parametrize(
    ("tail", "usage"),
    [
        pytest.param(json.dumps(CHAT).encode(), Usage(12, 5, 4), id="openai-whole"),
        pytest.param(json.dumps(CHAT, indent=2).encode(), Usage(12, 5, 4), id="openai-indented"),
        pytest.param(
            sse(
                {"choices": [{"delta": {}}], "usage": None}, {"choices": [], "usage": CHAT["usage"]}, "[DONE]"
            ),
            Usage(12, 5, 4),
            id="openai-stream",
        ),
        pytest.param(
            sse({"usage": {"prompt_tokens": 3, "completion_tokens": 1}}, {"usage": None}, "[DONE]"),
            Usage(3, 1),
            id="null-does-not-hide-it",
        ),
        pytest.param(
            sse({"choices": [], "timings": {"cache_n": 2, "prompt_n": 8, "predicted_n": 20}}, "[DONE]"),
            Usage(10, 20, 2),
            id="llama-cpp-timings",
        ),
        pytest.param(
            b'{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":7,"total_tokens":7}}',
            Usage(7, 0),
            id="embeddings",
        ),
        pytest.param(
            sse(
                {
                    "type": "response.completed",
                    "response": {
                        "usage": {
                            "input_tokens": 9,
                            "input_tokens_details": {"cached_tokens": 1},
                            "output_tokens": 3,
                            "output_tokens_details": {"reasoning_tokens": 2},
                        },
                        "metadata": {},
                    },
                }
            ),
            Usage(9, 3, 1),
            id="responses",
        ),
        pytest.param(
            b'{"type":"message","usage":{"input_tokens":4,"output_tokens":6,"cache_read_input_tokens":2}}',
            Usage(6, 6, 2),
            id="anthropic-whole",
        ),
        pytest.param(
            b'data: {"type":"message_delta","usage":{"input_tokens":4,"output_tokens":6,'
            b'"cache_creation_input_tokens":3,"cache_read_input_tokens":0}}\n\n',
            Usage(7, 6, 0),
            id="anthropic-written-to-a-cache",
        ),
        pytest.param(
            b'{"model":"m","embeddings":[[1]],"total_duration":5,"prompt_eval_count":8}',
            Usage(8, None),
            id="ollama-embeddings",
        ),
        pytest.param(
            b'{"model":"m","done":false}\n{"model":"m","done":true,"prompt_eval_count":26,"eval_count":298}\n',
            Usage(26, 298),
            id="ollama",
        ),
        pytest.param(b'{"choices":[{"message":{"content":"usage"}}]}', NOTHING, id="the-word-alone"),
        pytest.param(
            json.dumps({"choices": [{"text": '"usage": {"prompt_tokens": 1}'}]}).encode(),
            NOTHING,
            id="said-by-the-model",
        ),
        pytest.param(b'{"usage":{"prompt_tokens":-1,"completion_tokens":true}}', NOTHING, id="no-counts"),
        pytest.param(b'{"usage":{"prompt_tokens":1' + b"0" * 40 + b"}}", NOTHING, id="absurd"),
        pytest.param(b'{"usage":{"prompt_tokens":12,"comp', NOTHING, id="cut-off"),
        pytest.param(b"", NOTHING, id="empty"),
    ],
)
def test_usage_of_an_answer(tail: bytes, usage: Usage) -> None:
    assert read(tail) == usage


def test_input_of_an_anthropic_stream_stands_at_its_beginning() -> None:
    opening = b'event: message_start\ndata: {"message":{"usage":{"input_tokens":25,"output_tokens":1}}}\n\n'
    tail = b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":15}}\n\n'
    assert read(tail, opening) == Usage(25, 15)
    assert read(tail) == Usage(None, 15)
    assert read(tail, b"event: ping\n\n") == Usage(None, 15)


@given(st.binary(max_size=600))
def test_any_bytes_have_a_usage_or_none(data: bytes) -> None:
    usage = read(data + b'"usage":' + data, data)
    assert all(count is None or count >= 0 for count in usage)
    assert isinstance(finish_reason(data), str)


@given(st.lists(st.binary(max_size=3000), max_size=8))
def test_a_tail_is_an_end_of_the_stream(pieces: list[bytes]) -> None:
    tail = Tail(pieces[0] if pieces else b"")
    for piece in pieces[1:]:
        tail.keep(piece)
    whole = b"".join(pieces)
    assert whole.endswith(tail.last())
    assert len(tail.last()) <= KEPT_BYTES
    if pieces:
        assert len(tail.last()) >= min(len(b"".join(pieces[-2:])), KEPT_BYTES)
    assert whole.startswith(tail.opening)


def test_short_pieces_do_not_push_the_usage_out() -> None:
    tail = Tail(sse({"choices": [{"delta": {"content": "a" * 100}}]}))
    tail.append(sse({"usage": {"prompt_tokens": 1, "completion_tokens": 2}, "choices": [], "id": "x" * 40}))
    for piece in (b"data: ", b"[DONE]", b"\n", b"\n"):
        tail.append(piece)
    assert read(tail.last()) == Usage(1, 2)


def test_a_large_piece_is_kept_by_its_end_only() -> None:
    tail = Tail(b"a")
    tail.keep(b"x" * 100_000 + b"end")
    assert tail.last() == b"x" * (KEPT_BYTES - 3) + b"end"


def test_only_the_end_of_a_large_answer_is_looked_at() -> None:
    body = b'{"choices":"' + b"x" * 100_000 + b'","usage":{"prompt_tokens":1,"completion_tokens":2}}'
    assert len(last_of(body)) == KEPT_BYTES
    assert read(last_of(body)) == Usage(1, 2)


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b'{"finish_reason":null} {"finish_reason": "length"}', "length"),
        (b'{"stop_reason":"end_turn"}', "end_turn"),
        (b'{"done_reason":"stop"}', "stop"),
        (b"{}", ""),
    ],
)
def test_why_the_model_stopped(tail: bytes, reason: str) -> None:
    assert finish_reason(tail) == reason
