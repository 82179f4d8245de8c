"""Chunks of a stream that pass without the parser: whatever is cut where, the same bytes come out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.dataplane.upstream import Upstream

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Wire:
    """A transport and a destination that do nothing."""

    def __init__(self) -> None:
        self.kept = 0
        self.dropped = 0

    def put(self, _upstream: Upstream) -> None:
        self.kept += 1

    def remove(self, _upstream: Upstream) -> None:
        self.dropped += 1

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, _data: bytes) -> None:
        pass

    def abort(self) -> None:
        pass


class Reader:
    """A sink that writes down what it is told."""

    def __init__(self) -> None:
        self.body = b""
        self.framed = 0
        self.ends: list[str] = []

    def upstream_head(self, upstream: Upstream) -> None:
        assert upstream.status == 200

    def upstream_data(self, data: bytes, framed: bytes = b"") -> None:
        assert data
        if framed:
            assert framed == b"%x\r\n%b\r\n" % (len(data), data)
            self.framed += 1
        self.body += data

    def upstream_end(self) -> None:
        self.ends.append("end")

    def upstream_lost(self, _upstream: Upstream, *, clean: bool) -> None:
        self.ends.append(f"lost {clean}")


def read(pieces: list[bytes]) -> tuple[Reader, Wire]:
    wire, reader = Wire(), Reader()
    unchecked: Any = wire
    sink: Any = reader
    upstream = Upstream(unchecked)
    upstream.connection_made(unchecked)
    upstream.send(sink, b"GET / HTTP/1.1\r\n\r\n", b"")
    for piece in pieces:
        upstream.data_received(piece)
    return reader, wire


def chunk(data: bytes, size: str = "%x") -> bytes:
    return (size % len(data)).encode() + b"\r\n" + data + b"\r\n"


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from(["%x", "%X", "0%x", "%x;a=b"]))),
    st.lists(st.integers(0, 600), max_size=12),
)
@example([(b"hello", "%x"), (b"12345678", "%x")], [len(HEAD) + 13])
@example([(b"\r\n", "%x"), (b"1\r\na\r\n", "%x"), (b"x", "%x")], [len(HEAD), len(HEAD) + 7])
def test_any_cut_gives_the_same(chunks: list[tuple[bytes, str]], cuts: list[int]) -> None:
    """Kills: sizes not compared, no look at the last CRLF."""
    whole = HEAD + b"".join(chunk(data, size) for data, size in chunks) + b"0\r\n\r\n"
    places = sorted({0, *(cut for cut in cuts if cut < len(whole)), len(whole)})
    reader, wire = read([whole[a:b] for a, b in pairwise(places)])
    assert reader.body == b"".join(data for data, _ in chunks)
    assert reader.ends == ["end"]
    assert (wire.kept, wire.dropped) == (1, 0)


def test_a_chunk_a_read_passes_without_the_parser() -> None:
    events = [b"data: %d\n\n" % number for number in range(20)]
    reader, _ = read([HEAD, *map(chunk, events), b"0\r\n\r\n"])
    assert reader.body == b"".join(events)
    assert reader.framed == len(events) - 1
    assert reader.ends == ["end"]


@pytest.mark.parametrize("size", [1, 15, 16, 17, 255, 256, 257, 1015, 1016, 1017, 1018, 4095, 4096, 65536])
def test_a_chunk_of_any_size_passes_without_the_parser(size: int) -> None:
    """Kills: a digit of the size missed, a short one taken for a long one."""
    reader, _ = read([HEAD, chunk(b"a"), chunk(b"x" * size), chunk(b"y" * size), b"0\r\n\r\n"])
    assert reader.body == b"a" + b"x" * size + b"y" * size
    assert reader.framed == 2
    assert reader.ends == ["end"]


@pytest.mark.parametrize("size", [1, 15, 16, 17, 255, 256, 257])
def test_a_piece_as_long_as_a_chunk_of_another_size_is_parsed(size: int) -> None:
    two = chunk(b"x" * size) + chunk(b"y" * 3)
    reader, _ = read([HEAD, chunk(b"a"), two, two[:-1], two[-1:], b"0\r\n\r\n"])
    assert reader.body == b"a" + (b"x" * size + b"yyy") * 2
    assert reader.framed == 0
    assert reader.ends == ["end"]


@pytest.mark.parametrize("odd", [b"0x5\r\nhello\r\n", b"+5\r\nhello\r\n", b"5\r\nhello\r\r", b"5\r\nhelloX"])
def test_what_is_no_chunk_ends_the_answer(odd: bytes) -> None:
    reader, wire = read([HEAD, chunk(b"a"), odd])
    assert reader.ends == ["lost False"]
    assert b"hello" not in reader.body or odd.startswith(b"5")
    assert wire.kept == 0
