"""Malformed HTTP: an answer or a closed connection, never a second request at the backend, never a leak."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import CHAT, Node, Served, client, eventually, running_node

BODY = json.dumps(CHAT).encode()
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
HOST = b"host: localhost\r\n"
SIZED = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
GOOD = LINE + HOST + SIZED + b"\r\n" + BODY
SMUGGLED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-smuggled: 1\r\n" + SIZED + b"\r\n" + BODY
)


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """What is sent, in segments, and the statuses that come back; empty: the connection just ends."""

    send: tuple[bytes, ...]
    statuses: tuple[int, ...]
    reached: int = 0
    """Requests that get to the backend."""
    closes: bool = True
    """Whether the connection ends by itself."""


def one(sent: bytes, status: int, **more: object) -> Case:
    return Case((sent,), (status,), **more)  # type: ignore[arg-type]


def head(*lines: bytes, body: bytes = BODY) -> bytes:
    return LINE + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def text(body: bytes) -> bytes:
    return LINE + HOST + b"content-length: %d\r\n\r\n" % len(body) + body


DEEP = b'{"model":"m1","messages":' + b"[" * 200_000 + b"]" * 200_000 + b"}"

CASES: dict[str, Case] = {
    # framing
    "both-length-and-chunked": one(LINE + HOST + SIZED + CHUNKED + b"\r\n" + chunks(BODY), 400),
    "both-chunked-and-length": one(LINE + HOST + CHUNKED + SIZED + b"\r\n" + chunks(BODY), 400),
    "cl-te-smuggle": one(
        LINE + HOST + b"content-length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\nG" + SMUGGLED, 400
    ),
    "te-cl-smuggle": one(
        LINE
        + HOST
        + b"content-length: 4\r\n"
        + CHUNKED
        + b"\r\n"
        + b"%x\r\n" % len(SMUGGLED)
        + SMUGGLED
        + b"\r\n0\r\n\r\n",
        400,
    ),
    "two-lengths-that-differ": one(LINE + HOST + b"content-length: 3\r\n" + SIZED + b"\r\n" + BODY, 400),
    "two-lengths-that-agree": one(LINE + HOST + SIZED + SIZED + b"\r\n" + BODY, 400),
    "length-with-a-plus": one(head(b"host: localhost", b"content-length: +5"), 400),
    "length-with-a-minus": one(head(b"host: localhost", b"content-length: -1"), 400),
    "length-in-hex": one(head(b"host: localhost", b"content-length: 0x10"), 400),
    "length-as-a-list": one(head(b"host: localhost", b"content-length: 5, 5"), 400),
    "length-empty": one(head(b"host: localhost", b"content-length:"), 400),
    "length-overflow": one(head(b"host: localhost", b"content-length: 99999999999999999999999"), 400),
    "length-with-a-space-inside": one(head(b"host: localhost", b"content-length: 1 0"), 400),
    "encoding-gzip-chunked": one(
        LINE + HOST + b"transfer-encoding: gzip, chunked\r\n\r\n" + chunks(BODY), 400
    ),
    "encoding-identity": one(LINE + HOST + b"transfer-encoding: identity\r\n\r\n", 400),
    "encoding-chunked-identity": one(
        LINE + HOST + b"transfer-encoding: chunked, identity\r\n\r\n" + chunks(BODY), 400
    ),
    "encoding-twice": one(LINE + HOST + CHUNKED + CHUNKED + b"\r\n" + chunks(BODY), 400),
    "encoding-misspelled": one(LINE + HOST + b"transfer-encoding: xchunked\r\n\r\n" + chunks(BODY), 400),
    "encoding-with-a-tab": one(LINE + HOST + b"transfer-encoding:\tchunked\x0b\r\n\r\n" + chunks(BODY), 400),
    "encoding-in-http-1.0": one(
        b"POST /v1/chat/completions HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n" + chunks(BODY), 400
    ),
    "name-with-a-space-before-the-colon": one(head(b"host: localhost", b"content-length : 5"), 400),
    "header-without-a-colon": one(head(b"host: localhost", b"nonsense"), 400),
    "header-name-empty": one(head(b"host: localhost", b": value"), 400),
    "header-folded": one(head(b"host: localhost", b"x-a: b", b" c"), 400),
    "header-name-with-nul": one(head(b"host: localhost", b"x-\x00a: b"), 400),
    "header-value-with-nul": one(head(b"host: localhost", b"x-a: b\x00c"), 400),
    "header-value-with-bare-cr": one(head(b"host: localhost", b"x-a: b\rx-smuggled: 1"), 400),
    "header-name-not-ascii": one(head(b"host: localhost", b"x-\xe9: b"), 400),
    "line-ends-of-lf-only": one(GOOD.replace(b"\r\n", b"\n"), 400),
    "head-ends-in-lf-lf": one(LINE + HOST + b"\n\n" + BODY, 400),
    # chunks
    "chunk-size-not-hex": one(LINE + HOST + CHUNKED + b"\r\nzz\r\nabc\r\n0\r\n\r\n", 400),
    "chunk-size-negative": one(LINE + HOST + CHUNKED + b"\r\n-5\r\nabc\r\n0\r\n\r\n", 400),
    "chunk-size-overflow": one(LINE + HOST + CHUNKED + b"\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n", 400),
    "chunk-size-with-0x": one(LINE + HOST + CHUNKED + b"\r\n0x5\r\nabcde\r\n0\r\n\r\n", 400),
    "chunk-size-empty": one(LINE + HOST + CHUNKED + b"\r\n\r\nabc\r\n0\r\n\r\n", 400),
    "chunk-size-huge": one(LINE + HOST + CHUNKED + b"\r\n7fffffff\r\n" + b"x" * 200_000, 413),
    "chunk-longer-than-said": one(LINE + HOST + CHUNKED + b"\r\n3\r\nabcdef\r\n0\r\n\r\n", 400),
    "chunk-without-line-end": one(LINE + HOST + CHUNKED + b"\r\n3\r\nabcXX0\r\n\r\n", 400),
    "chunk-lf-only": one(LINE + HOST + CHUNKED + b"\r\n3\nabc\n0\n\n", 400),
    "chunk-extension-flood": one(
        LINE + HOST + CHUNKED + b"\r\n" + b"".join(b"1;%b\r\nx\r\n" % (b"e" * 5000) for _ in range(100)), 400
    ),
    "trailers-cannot-reframe": one(
        LINE + HOST + CHUNKED + b"\r\n%x\r\n%b\r\n0\r\ncontent-length: 50\r\n\r\n" % (len(BODY), BODY), 400
    ),
    "trailers-are-dropped": Case(
        (LINE + HOST + CHUNKED + b"\r\n%x\r\n%b\r\n0\r\nx-smuggled: 1\r\n\r\n" % (len(BODY), BODY),),
        (200,),
        reached=1,
        closes=False,
    ),
    "trailer-flood": one(LINE + HOST + CHUNKED + b"\r\n0\r\nx-t: " + b"t" * 300_000, 400),
    # request line
    "no-http": one(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, 400),
    "no-version": one(b"POST /v1/chat/completions\r\n" + HOST + b"\r\n", 400),
    "version-0.9": one(b"GET /v1/models HTTP/0.9\r\n" + HOST + b"\r\n", 400),
    "version-2-preface": one(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "version-9.9": one(b"GET /v1/models HTTP/9.9\r\n" + HOST + b"\r\n", 400),
    "method-unknown": one(b"BREW /v1/models HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "method-lower-case": one(b"get /v1/models HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "target-with-a-space": one(b"GET /v1/ models HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "target-absolute": one(b"GET http://localhost/v1/models HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "target-asterisk": one(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "target-connect": one(b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED, 400),
    "target-with-nul": one(b"GET /v1/\x00models HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "target-not-ascii": one(b"GET /v1/mod\xc3\xa9l HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "target-with-a-fragment": one(b"GET /v1/models#x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "target-climbs-out": Case(
        (b"POST /v1/../slots HTTP/1.1\r\n" + HOST + SIZED + b"\r\n" + BODY,), (404,), closes=False
    ),
    "target-climbs-out-in-disguise": Case(
        (b"POST /v1/%2e%2e/slots HTTP/1.1\r\n" + HOST + SIZED + b"\r\n" + BODY,), (404,), closes=False
    ),
    # host
    "no-host": one(LINE + SIZED + b"\r\n" + BODY, 400),
    "two-hosts": one(LINE + HOST + HOST + SIZED + b"\r\n" + BODY, 400),
    "host-empty": Case((LINE + b"host:\r\n" + SIZED + b"\r\n" + BODY,), (403,), closes=False),
    "two-content-types": one(
        LINE + HOST + b"content-type: a/b\r\ncontent-type: c/d\r\n" + SIZED + b"\r\n" + BODY, 400
    ),
    # sizes
    "head-huge": one(LINE + HOST + b"x-a: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    "head-of-many-headers": one(LINE + HOST + b"x-a: b\r\n" * 20_000 + b"\r\n", 431),
    "head-without-end": one(LINE + HOST + b"x-a: " + b"a" * 400_000, 431),
    "head-huge-in-pieces": Case((LINE + HOST + b"x-a: ", *([b"a" * 9_000] * 12)), (431,)),
    "target-huge": one(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    "body-announced-too-large": one(LINE + HOST + b"content-length: 200000\r\n\r\n", 413),
    "body-announced-too-large-and-expecting": one(
        LINE + HOST + b"expect: 100-continue\r\ncontent-length: 200000\r\n\r\n", 413
    ),
    "body-chunked-too-large": one(
        LINE + HOST + CHUNKED + b"\r\n" + chunks(b"x" * 60_000, b"x" * 60_000), 413
    ),
    # time
    "slow-head": Case((LINE, HOST), (408,)),
    "slow-first-line": Case((b"PO", b"ST"), (408,)),
    "slow-body": Case((LINE + HOST + SIZED + b"\r\n", BODY[:5]), (408,)),
    "slow-chunk": Case((LINE + HOST + CHUNKED + b"\r\n5\r\nab",), (408,)),
    # bodies
    "body-empty": Case((text(b""),), (400,), closes=False),
    "body-no-json": Case((text(b"{model:m1}"),), (400,), closes=False),
    "body-cut-json": Case((text(BODY[:-1]),), (400,), closes=False),
    "body-an-array": Case((text(b"[1]"),), (400,), closes=False),
    "body-a-string": Case((text(b'"m1"'),), (400,), closes=False),
    "body-two-documents": Case((text(BODY + BODY),), (400,), closes=False),
    "body-bad-utf-8": Case((text(b'{"model":"m1","x":"\xff\xfe"}'),), (400,), closes=False),
    "body-bad-utf-8-in-the-model": Case((text(b'{"model":"m\xff"}'),), (400,), closes=False),
    "body-lone-surrogate": Case((text(b'{"model":"\\ud800"}'),), (400,), closes=False),
    "body-with-nul": Case((text(b'{"model":"m1\x00"}'),), (400,), closes=False),
    "body-with-a-bom": Case((text(b"\xef\xbb\xbf" + BODY),), (400,), closes=False),
    "body-deep": Case(
        (LINE + HOST + b"content-length: 90000\r\n\r\n" + DEEP[:44_975] + DEEP[-45_025:],),
        (400,),
        closes=False,
    ),
    "body-nan": Case((text(b'{"model":"m1","temperature":NaN}'),), (400,), closes=False),
    "body-without-model": Case((text(b'{"messages":[]}'),), (400,), closes=False),
    "body-model-a-number": Case((text(b'{"model":1}'),), (400,), closes=False),
    "body-model-null": Case((text(b'{"model":null}'),), (400,), closes=False),
    "body-model-twice": Case((text(b'{"model":"m1","model":"m2"}'),), (400,), closes=False),
    "body-model-twice-the-same": Case((text(b'{"model":"m1","model":"m1"}'),), (400,), closes=False),
    "body-model-by-case": Case((text(b'{"model":"m1","Model":"m2"}'),), (400,), closes=False),
    "body-model-by-escape": Case((text(b'{"mod\\u0065l":"m1"}'),), (400,), closes=False),
    "body-model-twice-by-escape": Case((text(b'{"model":"m1","mod\\u0065l":"m2"}'),), (400,), closes=False),
    "body-stream-a-string": Case((text(b'{"model":"m1","stream":"true"}'),), (400,), closes=False),
    "body-stream-by-long-s": Case(
        (text('{"model":"m1","\u017ftream":true}'.encode()),), (400,), closes=False
    ),
    "body-any-key-twice": Case((text(b'{"model":"m1","x":1,"x":2}'),), (400,), closes=False),
    "model-unknown": Case((text(b'{"model":"\\r\\nx-evil: 1"}'),), (404,), closes=False),
    "form-without-boundary": Case(
        (LINE + HOST + b"content-type: multipart/form-data\r\n" + SIZED + b"\r\n" + BODY,),
        (400,),
        closes=False,
    ),
    # several at once
    "pipelined": Case((GOOD * 3,), (200, 200, 200), reached=3, closes=False),
    "pipelined-byte-by-byte": Case(
        tuple(bytes([b]) for b in GOOD + GOOD), (200, 200), reached=2, closes=False
    ),
    "pipelined-after-bad-json": Case((text(b"{") + GOOD,), (400, 200), reached=1, closes=False),
    "pipelined-before-garbage": Case((GOOD + b"\x00\x01garbage\r\n\r\n",), (200, 400), reached=1),
    "pipelined-before-bad-framing": Case(
        (GOOD + LINE + HOST + SIZED + CHUNKED + b"\r\n" + SMUGGLED,), (200, 400), reached=1
    ),
    "pipelined-mix": Case(
        (
            GOOD
            + b"GET /v1/models HTTP/1.1\r\n"
            + HOST
            + b"\r\n"
            + LINE
            + HOST
            + CHUNKED
            + b"\r\n"
            + chunks(BODY[:9], BODY[9:])
            + b"GET /nothing HTTP/1.1\r\n"
            + HOST
            + b"\r\n"
            + GOOD,
        ),
        (200, 200, 200, 404, 200),
        reached=3,
        closes=False,
    ),
    "pipelined-too-many": Case((GOOD * 40,), (200,) * 16, reached=16),
    "pipelined-after-close": Case(
        (LINE + HOST + b"connection: close\r\n" + SIZED + b"\r\n" + BODY + SMUGGLED,), (200,), reached=1
    ),
    "pipelined-after-http-1.0": Case(
        (b"POST /v1/chat/completions HTTP/1.0\r\n" + HOST + SIZED + b"\r\n" + BODY + SMUGGLED,),
        (200,),
        reached=1,
    ),
    "get-with-a-body": Case(
        (b"GET /v1/models HTTP/1.1\r\n" + HOST + b"content-length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,),
        (200,),
        closes=False,
    ),
    "body-that-looks-like-a-request": Case((text(SMUGGLED),), (400,), closes=False),
    "upgrade-is-ignored": Case(
        (
            LINE
            + HOST
            + b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABk\r\n"
            + SIZED
            + b"\r\n"
            + BODY
            + GOOD,
        ),
        (200, 200),
        reached=2,
        closes=False,
    ),
    "upgrade-of-a-chunked-request": Case(
        (
            LINE + HOST + b"upgrade: h2c\r\nconnection: upgrade\r\n" + CHUNKED + b"\r\n" + chunks(BODY[:5]),
            GOOD,
        ),
        (400, 200),
        reached=1,
        closes=False,
    ),
    "upgrade-in-pieces": Case(
        (
            LINE + HOST + b"upgrade: h2c\r\nconnection: upgrade\r\n" + SIZED + b"\r\n",
            BODY[:9],
            BODY[9:] + GOOD,
        ),
        (200, 200),
        reached=2,
        closes=False,
    ),
    "upgrade-without-a-body": Case(
        (
            b"GET /v1/models HTTP/1.1\r\n"
            + HOST
            + b"upgrade: websocket\r\nconnection: upgrade\r\n\r\n"
            + GOOD,
        ),
        (200, 200),
        reached=1,
        closes=False,
    ),
    "blank-lines-before": Case((b"\r\n\r\n" + GOOD,), (200,), reached=1, closes=False),
    "method-not-allowed": Case(
        (b"PUT /v1/models HTTP/1.1\r\n" + HOST + b"content-length: 2\r\n\r\n{}",), (405,), closes=False
    ),
    "delete-nothing": Case(
        (b"DELETE /v1/chat/completions HTTP/1.1\r\n" + HOST + b"\r\n",), (405,), closes=False
    ),
}


def test_the_table_is_as_long_as_promised() -> None:
    assert len(CASES) >= 100


@pytest.fixture
async def small(backend: FakeBackend) -> AsyncIterator[Node]:
    """Limits small enough to reach, times short enough to wait for."""
    async with running_node(
        served={"one": Served(backend)},
        max_json_bytes=100_000,
        head_timeout_s=0.4,
        body_timeout_s=0.4,
        idle_timeout_s=30,
        linger_s=0.3,
    ) as node:
        yield node


async def _nothing_left(node: Node, backend: FakeBackend) -> None:
    plane = node.plane
    await eventually(lambda: plane.counters.open_connections == 0, "no connection leaked")
    assert not plane.active
    assert plane.buffered_bytes == 0
    assert plane.retrying == 0
    assert plane.counters.faults == 0
    assert all(not load.in_flight_by_origin for load in node.routes.load_report())
    assert backend.malformed == [], "the backend saw whole requests only"


@pytest.mark.parametrize("name", CASES)
async def test_malformed(name: str, small: Node, backend: FakeBackend) -> None:
    case = CASES[name]
    async with client(small) as http:
        for number, segment in enumerate(case.send):
            http.send(segment)
            if number < 15:
                await asyncio.sleep(0.002)
        for status in case.statuses:
            answer = await http.answer()
            assert answer.status == status, answer.body
            assert answer.whole
            assert "x-smuggled" not in answer.body.decode()
            if status >= 400:
                assert answer.json["error"]["message"]
        if case.closes:
            assert await http.closed() == b""
        else:
            assert (await http.ask(CHAT)).status == 200, "the same connection serves the next request"
    bodies = [seen.body for seen in backend.asked]
    assert len(bodies) == case.reached + (0 if case.closes else 1)
    assert all(seen.header("x-smuggled") is None for seen in backend.asked)
    async with client(small) as http:
        assert (await http.ask(CHAT)).status == 200, "it still serves"
    await _nothing_left(small, backend)


async def test_an_early_close_at_every_byte(small: Node, backend: FakeBackend) -> None:
    for cut in range(0, len(GOOD), 3):
        async with client(small) as http:
            http.send(GOOD[:cut])
            await asyncio.sleep(0)
    await eventually(lambda: small.plane.counters.open_connections == 0)
    assert not backend.asked
    async with client(small) as http:
        assert (await http.ask(CHAT)).status == 200
    await _nothing_left(small, backend)


async def test_more_connections_than_allowed(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend)}, max_connections=2) as node:
        async with client(node) as first, client(node) as second:
            assert (await first.ask(CHAT)).status == 200
            assert (await second.ask(CHAT)).status == 200
            async with client(node) as third:
                third.post(CHAT)
                assert await third.closed() == b""
        await eventually(lambda: node.plane.counters.open_connections == 0)
        async with client(node) as again:
            assert (await again.ask(CHAT)).status == 200


async def test_idle_connections_end(backend: FakeBackend) -> None:
    async with (
        running_node(served={"one": Served(backend)}, idle_timeout_s=0.2) as node,
        client(node) as http,
    ):
        assert (await http.ask(CHAT)).status == 200
        assert await http.closed() == b""


async def test_bodies_in_the_process_are_bounded(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend)}, max_buffered_bytes=300_000) as node:
        half = LINE + HOST + b"content-length: 200000\r\n\r\n" + b"x" * 190_000
        async with client(node) as first, client(node) as second:
            first.send(half)
            await eventually(lambda: node.plane.buffered_bytes >= 190_000)
            second.send(half)
            answer = await second.answer()
            assert (answer.status, answer.json["error"]["code"]) == (503, "unavailable")
            assert await second.closed() == b""
        await eventually(lambda: node.plane.buffered_bytes == 0)
        async with client(node) as http:
            assert (await http.ask(CHAT)).status == 200


async def test_a_body_in_one_byte_chunks_takes_no_more_memory_than_it_is_long(small: Node) -> None:
    body = json.dumps({**CHAT, "pad": "x" * 20_000}).encode()
    async with client(small) as one_byte:
        one_byte.send(LINE + HOST + CHUNKED + b"\r\n" + chunks(*(bytes([b]) for b in body)))
        assert (await one_byte.answer()).status == 200
