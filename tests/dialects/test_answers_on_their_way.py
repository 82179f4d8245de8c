"""Properties of answers: nothing is lost, cuts make no difference, and what is broken is never a success."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.dialects.translate import BackendAnswerError, Outgoing
from tests.dialects.scripts import (
    CHAT,
    COMPLETIONS,
    END_MARKS,
    MESSAGES,
    OLLAMA,
    OLLAMA_CHAT,
    OPENAI,
    RESPONSES,
    STREAMS,
    WAYS,
    WHOLES,
    WITHOUT,
    Script,
    asking,
    expected,
    outgoing,
    scripts,
    sent_by_ollama,
    sent_by_openai,
    stream_of,
    whole_of,
)

ways = pytest.mark.parametrize(
    ("path", "spoken"), WAYS, ids=lambda value: value.decode() if isinstance(value, bytes) else min(value)
)
BUSY = Script(
    ("hm", "m"),
    ("He", "llo \u2028\u00e9 \U0001f600"),
    (("call_0", "f", {"a": "line\nend", "b": [1, None]}), ("call_1", "g", {})),
)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges) if a < b]


def told(out: Outgoing, pieces: list[bytes]) -> bytes:
    return b"".join([out.answer.push(piece) for piece in pieces]) + out.answer.end()


def calls_of(path: bytes, script: Script) -> Script:
    """``script`` as far as a backend would send it on this surface."""
    if "calls" not in WITHOUT.get(path, ""):
        return script
    return Script(script.thinking, script.text, (), script.length, script.usage)


@ways
@settings(max_examples=50)
@given(script=scripts())
@example(script=BUSY)
@example(script=Script((), (), (), usage=None))
def test_a_stream_says_all_that_the_backend_said(path: bytes, spoken: frozenset[str], script: Script) -> None:
    """Kills: no role in the first chunk, another id per chunk, thinking as text, one index for all
    calls, arguments made anew in another order, "stop" for tools,
    counts of the wrong way round, a block that is not closed, text held back until the end.
    """
    script = calls_of(path, script)
    out = asking(path, spoken, stream=True)
    heard = STREAMS[path](told(out, stream_of(path, spoken, script)))
    wanted = expected(script, without=WITHOUT.get(path, ""))
    if path == MESSAGES or spoken == OLLAMA:
        wanted.usage = wanted.usage or (0, 0)  # Anthropic's clients need counts; Ollama leaves out zeros
    assert heard == wanted
    assert out.answer.ended


@ways
@settings(max_examples=50)
@given(script=scripts())
@example(script=BUSY)
def test_a_whole_answer_says_what_a_stream_says(path: bytes, spoken: frozenset[str], script: Script) -> None:
    """Kills: whole answers without tool calls or thinking (herd's), no usage, null content."""
    script = calls_of(path, script)
    body = asking(path, spoken, stream=False).answer.whole(whole_of(path, spoken, script))
    stream = told(asking(path, spoken, stream=True), stream_of(path, spoken, script))
    assert WHOLES[path](body) == STREAMS[path](stream)


@ways
@settings(max_examples=50)
@given(script=scripts(), places=st.lists(st.integers(0, 10_000), max_size=12))
@example(script=BUSY, places=list(range(1, 3000)))
def test_where_the_network_cuts_a_stream_makes_no_difference(
    path: bytes, spoken: frozenset[str], script: Script, places: list[int]
) -> None:
    """Kills: an event split at a chunk, a held piece dropped or said twice, CRLF seen as two ends, characters
    cut in the middle.
    """
    stream = b"".join(stream_of(path, spoken, calls_of(path, script)))
    whole = told(asking(path, spoken, stream=True), [stream])
    assert told(asking(path, spoken, stream=True), cut(stream, places)) == whole
    if spoken == OPENAI:
        loose = stream.replace(b"data: ", b": ping\r\nevent: x\r\ndata:").replace(b"\n\n", b"\r\n\r\n")
        assert told(asking(path, spoken, stream=True), cut(loose, places)) == whole


@ways
@settings(max_examples=50)
@given(script=scripts(), place=st.integers(0, 10_000), places=st.lists(st.integers(0, 10_000), max_size=3))
def test_a_stream_that_is_cut_off_is_never_a_success(
    path: bytes, spoken: frozenset[str], script: Script, place: int, places: list[int]
) -> None:
    """Kills: end() that writes the end whatever came, an end marker written at the first finish of a call."""
    frames = stream_of(path, spoken, calls_of(path, script))
    last = frames[-1] if spoken == OLLAMA else b"".join(frames[-3 if script.usage else -2 :])
    stream = b"".join(frames)
    short = stream[: place % (len(stream) - len(last) + 1)]
    out = asking(path, spoken, stream=True)
    said = b"".join(out.answer.push(piece) for piece in cut(short, places))
    assert not any(mark in said for mark in END_MARKS)
    assert not out.answer.ended
    with pytest.raises(BackendAnswerError):
        out.answer.end()


FAULTS: dict[str, tuple[bytes, bytes]] = {
    "error": (b'data: {"error":{"message":"x","type":"y","code":500}}\n\n', b'{"error":"x"}\n'),
    "error beside": (
        b'data: {"error":{"message":"x"},"choices":[],"usage":{}}\n\n',
        b'{"error":"x","message":{}}\n',
    ),
    "error text": (b'data: {"error":"x"}\n\n', b'{"error":{"message":"x"}}\n'),
    "error line": (b'error: {"code":500}\n\n', b'{"error":"","done":true}\n'),
    "not JSON": (b"data: {oops\n\n", b"{oops\n"),
    "wrong type": (b'data: {"choices":[{"delta":{"content":5}}]}\n\n', b'{"message":{"content":5}}\n'),
    "wrong shape": (b'data: {"id":"x"}\n\n', b'{"model":"x"}\n'),
    "not UTF-8": (
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
        b'{"message":{"content":"\xff"}}\n',
    ),
    "half an escape": (
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n',
        b'{"message":{"content":"\\ud83d"}}\n',
    ),
    "gave up": (
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}\n\n',
        b'{"message":null,"done":false}\n',
    ),
    "a page": (b"data: <html>\n\n", b"<html>\n"),
    "a list": (b"data: []\n\n", b"[]\n"),
}


@ways
@pytest.mark.parametrize("fault", FAULTS)
@settings(max_examples=10)
@given(after=st.integers(0, 20), places=st.lists(st.integers(0, 10_000), max_size=3))
def test_a_fault_in_a_stream_is_never_a_success(
    path: bytes, spoken: frozenset[str], fault: str, after: int, places: list[int]
) -> None:
    """Kills: errors skipped like comments, a fault forgotten once what stood before it went out."""
    frames = stream_of(path, spoken, calls_of(path, BUSY))
    unfinished = frames[: min(after, len(frames) - (1 if spoken == OLLAMA else 3))]
    stream = b"".join((*unfinished, FAULTS[fault][spoken == OLLAMA], *frames[len(unfinished) :]))
    said = []
    for pieces in ([stream], cut(stream, places)):
        out = asking(path, spoken, stream=True)
        got = b""
        try:
            for piece in pieces:
                got += out.answer.push(piece)
            out.answer.end()
        except BackendAnswerError:
            pass
        else:
            pytest.fail("a success")
        assert not out.answer.ended
        assert not any(mark in got for mark in END_MARKS)
        with pytest.raises(BackendAnswerError):
            out.answer.push(b"".join(frames))
        said.append(got)
    assert said[0] == said[1]


@ways
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"<html>",
        b"\xff\xfe",
        b'{"error":"x"}',
        b'{"error":{"message":"x"}}',
        b'{"choices":[]}',
        b'{"choices":[{"index":0}]}',
        b'{"message":{"content":"half"},"done":false}',
        b'{"response":"half","done":false}',
        b'{"choices":[{"message":{"tool_calls":[{"id":"x"}]}}]}',
        b"[" * 100_000,
    ],
)
def test_a_whole_answer_that_is_none_is_never_a_success(
    path: bytes, spoken: frozenset[str], body: bytes
) -> None:
    with pytest.raises(BackendAnswerError):
        asking(path, spoken, stream=False).answer.whole(body)


@pytest.mark.parametrize("spoken", [OPENAI, OLLAMA], ids=["openai", "ollama"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES, OLLAMA_CHAT])
@given(script=scripts(usage=True))
def test_both_backends_are_heard_alike(path: bytes, spoken: frozenset[str], script: Script) -> None:
    """The matrix: what passes raw is heard by the same ears."""
    if (path, spoken) in WAYS:
        stream = told(asking(path, spoken, stream=True), stream_of(path, spoken, script))
    else:
        stream = b"".join(sent_by_openai(script) if spoken == OPENAI else sent_by_ollama(script))
    heard = STREAMS[path](stream)
    heard.model = "asked"
    assert heard == expected(script)


def test_calls_whose_pieces_come_mixed_are_told_apart() -> None:
    def chunk(*calls: dict[str, Any]) -> bytes:
        return (
            b"data: %b\n\n"
            % json.dumps(
                {"choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": None}]}
            ).encode()
        )

    def begun(index: int, name: str) -> dict[str, Any]:
        return {"index": index, "id": f"c{index}", "function": {"name": name, "arguments": ""}}

    def more(index: int, text: str) -> dict[str, Any]:
        return {"index": index, "function": {"arguments": text}}

    frames = [
        chunk(begun(0, "f"), begun(1, "g")),
        chunk(more(0, '{"a"')),
        chunk(more(1, '{"b":')),
        chunk(more(0, ":1}"), more(1, "2}")),
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n',
    ]
    for path in (MESSAGES, RESPONSES, OLLAMA_CHAT):
        heard = STREAMS[path](told(asking(path, OPENAI, stream=True), frames))
        assert heard.calls == [("c0", "f", {"a": 1}), ("c1", "g", {"b": 2})]


def begun_call(finish: str) -> list[bytes]:
    """A stream with a call whose arguments were never finished."""
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a'}}
    deltas = [({"content": "a", "tool_calls": [call]}, None), ({}, finish)]
    return [
        *(
            b"data: %b\n\n" % json.dumps({"choices": [{"delta": delta, "finish_reason": why}]}).encode()
            for delta, why in deltas
        ),
        b"data: [DONE]\n\n",
    ]


def test_a_call_whose_arguments_are_no_object_is_a_fault() -> None:
    with pytest.raises(BackendAnswerError):
        told(asking(OLLAMA_CHAT, OPENAI, stream=True), begun_call("tool_calls"))


def test_a_call_that_the_limit_cut_off_is_left_out_and_said_so() -> None:
    heard = STREAMS[OLLAMA_CHAT](told(asking(OLLAMA_CHAT, OPENAI, stream=True), begun_call("length")))
    assert (heard.calls, heard.finish, heard.text) == ([], "length", "a")


def test_a_stream_without_an_end_marker_ends_with_its_finish_reason() -> None:
    """Some servers send no [DONE]; the finish reason says that the text is whole."""
    frames = sent_by_openai(Script(usage=None))[:-1]
    out = asking(MESSAGES, OPENAI, stream=True)
    said = b"".join(out.answer.push(frame) for frame in frames)
    assert out.answer.ended
    assert b"message_stop" not in said
    assert STREAMS[MESSAGES](said + out.answer.end()).text == "Hello world"


def test_a_fault_after_the_finish_reason_is_a_fault() -> None:
    out = asking(MESSAGES, OPENAI, stream=True)
    frames = [*sent_by_openai(Script(usage=None))[:-1], FAULTS["error"][0]]
    said = out.answer.push(b"".join(frames))
    assert b"message_stop" not in said
    assert not out.answer.ended


def test_a_cut_in_front_of_what_looks_like_an_event() -> None:
    """Kills: a short cut for whole events that forgets what is held, or that CR is part of a line's end."""
    stream = b"".join(sent_by_openai(Script((), ("x data: y",))))
    whole = told(asking(MESSAGES, OPENAI, stream=True), [stream])
    place = stream.index(b"data: y")
    end = stream.index(b"\n\n", place) + 2
    pieces = [stream[:place], stream[place:end], stream[end:]]
    assert told(asking(MESSAGES, OPENAI, stream=True), pieces) == whole
    mixed = [one.replace(b"\n\n", b"\r\n\n") for one in sent_by_openai(Script((), ("x data: y",)))]
    assert told(asking(MESSAGES, OPENAI, stream=True), mixed) == whole


def test_what_follows_the_end_means_nothing() -> None:
    out = asking(CHAT, OLLAMA, stream=True)
    said = told(out, [*sent_by_ollama(Script()), b"{oops\n"])
    assert said.endswith(b"data: [DONE]\n\n")
    assert out.answer.push(b"more") == out.answer.end() == b""


def test_counts_come_in_a_stream_of_openai_only_if_asked_for() -> None:
    out = asking(COMPLETIONS, OLLAMA, stream=True)
    assert b'"usage":{' in told(out, sent_by_ollama(Script(), text=True))
    plain = outgoing(CHAT, {"messages": [{"role": "user", "content": "x"}], "stream": True}, OLLAMA)
    assert b"usage" not in told(plain, sent_by_ollama(Script()))


def test_a_line_without_end_is_not_kept_without_limit() -> None:
    out = asking(CHAT, OLLAMA, stream=True)
    for _ in range(16):
        out.answer.push(b"x" * 1_000_000)
    with pytest.raises(BackendAnswerError):
        out.answer.push(b"x" * 1_000_000)
