"""Events and lines of streams: cut anywhere, of any length in all, and none of them without limit."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import framing
from sidecar.dialects.failures import BackendAnswerError
from sidecar.dialects.framing import Events, Frames, Lines

contents = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=6).map(
    lambda text: b"{" + text.encode() + b"}"
)
ends = st.sampled_from([b"\n", b"\r\n"])
noise = st.sampled_from([b"", b": ping", b"event: x", b"id: 1", b"retry: 5", b"data:", b"data: "])


def heard(frames: Frames, stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    found = [one for a, b in itertools.pairwise(edges) for one in frames.push(stream[a:b])]
    return found + frames.rest()


@st.composite
def events(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream, and what stands in it; its last event may lack its blank line, or its line's end."""
    stream, said = b"", []
    for _ in range(draw(st.integers(0, 4))):
        end = draw(ends)
        rows = draw(st.lists(contents, min_size=1, max_size=2))
        said.append(b" ".join(rows))
        before = draw(noise)
        stream += before + end if before else b""
        stream += b"".join(draw(st.sampled_from([b"data: ", b"data:"])) + row + end for row in rows) + end
    return stream[: len(stream) - draw(st.integers(0, 2))], said


@given(made=events(), places=st.lists(st.integers(0, 500), max_size=6))
def test_events_are_the_same_wherever_they_are_cut(
    made: tuple[bytes, list[bytes]], places: list[int]
) -> None:
    """Kills: a piece that is held and forgotten, a CR in the data, a last event without its end dropped."""
    stream, said = made
    assert heard(Events(), stream, places) == said


@given(
    rows=st.lists(st.tuples(contents, ends), max_size=4),
    cut=st.booleans(),
    places=st.lists(st.integers(0, 500), max_size=6),
)
def test_lines_are_the_same_wherever_they_are_cut(
    rows: list[tuple[bytes, bytes]], cut: bool, places: list[int]
) -> None:
    stream = b"\n".join(line + end for line, end in rows)
    stream = stream.rstrip() if cut else stream
    assert [line.strip() for line in heard(Lines(), stream, places)] == [line for line, _ in rows]


def test_the_last_word_counts_though_the_connection_stays_open() -> None:
    """Some servers send no blank line after it, and keep the connection."""
    assert Events().push(b"data: {}\n\ndata: [DONE]\n") == [b"{}", b"[DONE]"]


def test_an_error_line_is_told_in_its_place() -> None:
    assert Events().push(b'data: {"a":1}\n\nerror: {"code":500}\n\n') == [b'{"a":1}', b'{"error":{}}']


@pytest.mark.parametrize("frames", [Events, Lines])
def test_what_is_limited_is_one_event_and_not_the_stream(
    frames: type[Frames], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "MOST_BYTES", 64)
    made = frames()
    for _ in range(40):  # in pieces that end where no line ends
        assert made.push(b'data: {"a"') == []
        assert len(made.push(b":1}\n\ndata: {}\n\n: ")) == 2
        made.push(b"\n")


@pytest.mark.parametrize("piece", [b"x" * 10, b"data: 12345\n", b"data: 1234\r\n"])
def test_one_event_has_a_limit(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MOST_BYTES", 64)
    made = Events()

    def held() -> None:
        for _ in range(20):
            assert made.push(piece) == []

    with pytest.raises(BackendAnswerError):
        held()


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([b"data: a\n", b"data: b\n\n"], [b"a b"]),
        ([b"data: x ", b"data: y\n\n"], [b"x data: y"]),
        ([b"data: {}\r\n\n"], [b"{}"]),
    ],
)
def test_what_looks_like_one_whole_event(pieces: list[bytes], said: list[bytes]) -> None:
    frames = Events()
    assert [one for piece in pieces for one in frames.push(piece)] == said
