"""Random bytes at the client listener: a backend sees whole, well-formed requests that were meant for it.

Differential: a strict reader of our own reads the same bytes. Where it finds a clean sequence of requests,
all of them must be served; the backend never sees more than were sent, nor a body that was none of theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fakes.backend import Behaviour, FakeBackend, MalformedError, read_head, running_backend
from tests.fakes.dataplane import CHAT, Node, Served, client, eventually, running_node

BODY = json.dumps(CHAT).encode()
SIZED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)
CHUNKED = (
    b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:])
)
LISTING = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
SEEDS = (SIZED, CHUNKED, LISTING)
TOKENS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b"0\r\n\r\n",
    b"content-length: 0\r\n",
    b"content-length: 5\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"transfer-encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"transfer-encoding: gzip, chunked\r\n",
    b"connection: close\r\n",
    b"connection: upgrade\r\nupgrade: h2c\r\n",
    b"expect: 100-continue\r\n",
    b"host: other\r\n",
    b"fffffff\r\n",
    b"-1\r\n",
    b"\xff\xfe",
    b"HTTP/1.0",
    b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
    SIZED,
)


@dataclass(frozen=True)
class Mutation:
    """Cut ``size`` bytes at a place and put ``token`` there. The place is a share of the whole."""

    place: int
    size: int
    token: bytes

    def apply(self, data: bytes) -> bytes:
        at = self.place * (len(data) + 1) // 10_000
        return data[:at] + self.token + data[at + self.size :]


mutations = st.builds(
    Mutation,
    st.integers(0, 9_999),
    st.integers(0, 12),
    st.one_of(st.sampled_from(TOKENS), st.binary(max_size=6), st.just(b"")),
)
conversations = st.lists(st.sampled_from(SEEDS), min_size=1, max_size=4)


def clean_requests(data: bytes) -> list[bytes] | None:
    """Bodies of the POSTs in ``data`` if it is a clean sequence of whole requests; else None."""
    bodies = []
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return None
        try:
            method, _, headers = read_head(head)
            named = dict(headers)
            if named.keys() & {"connection", "expect", "upgrade", "content-type", "origin"}:
                return None
            body, rest = _read_body(rest, named)
        except (MalformedError, ValueError):
            return None
        if method == "POST":
            bodies.append(body)
        data = rest
    return bodies


def _read_body(rest: bytes, headers: dict[str, str]) -> tuple[bytes, bytes]:
    if headers.get("transfer-encoding", "chunked") != "chunked":
        raise MalformedError("encoding")
    if "transfer-encoding" not in headers:
        length = int(headers.get("content-length", "0"))
        if length > len(rest):
            raise MalformedError("short")
        return rest[:length], rest[length:]
    body = b""
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end or not line or not set(line) <= set(b"0123456789abcdef"):
            raise MalformedError("chunk")
        size = int(line, 16)
        if len(rest) < size + 2 or rest[size : size + 2] != b"\r\n":
            raise MalformedError("chunk")
        if not size:
            return body, rest[2:]
        body, rest = body + rest[:size], rest[size + 2 :]


def names_m1(body: bytes) -> bool:
    try:
        document = json.loads(body)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("model") == "m1"


async def throw(node: Node, segments: Sequence[bytes], *, warm: bytes = b"") -> None:
    """Send ``segments``, then wait for a last answer or the end, and leave."""
    async with client(node) as http:
        if warm:
            http.send(warm)
            assert (await http.answer()).status == 200
        for segment in segments:
            http.send(segment)
            await asyncio.sleep(0)
        # A marker that is answered if the connection is in step, and harmless if it is not.
        http.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(http.reader.read(-1), 0.6)


def segmented(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut * len(data) // 10_000 for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


async def check(data: bytes, cuts: Sequence[int], warm: bytes = b"") -> None:
    async with (
        running_backend() as backend,
        running_node(
            served={"one": Served(backend)},
            head_timeout_s=0.3,
            body_timeout_s=0.3,
            linger_s=0.1,
            max_json_bytes=1_000_000,
        ) as node,
    ):
        await throw(node, segmented(data, cuts), warm=warm)
        if warm:
            assert backend.seen.pop(0).body == BODY
        await _verify(node, backend, data)


async def _verify(node: Node, backend: FakeBackend, data: bytes) -> None:
    assert backend.malformed == []
    for seen in backend.asked:
        assert names_m1(seen.body), "the backend sees JSON that names its model"
        assert seen.header("host") == f"127.0.0.1:{backend.port}"
        assert not any(name.startswith("x-swarm") for name, _ in seen.headers)
    assert len(backend.asked) <= data.count(b"POST /"), "never more than were sent"
    clean = clean_requests(data)
    if clean is not None:
        wanted = [body for body in clean if names_m1(body)]
        assert [seen.body for seen in backend.asked] == wanted[: len(backend.asked)]
    async with client(node) as http:
        assert (await http.ask(CHAT)).status == 200, "it still serves"
    await eventually(lambda: node.plane.counters.open_connections == 0, "no connection leaked")
    assert not node.plane.active
    assert node.plane.buffered_bytes == 0
    assert node.plane.counters.faults == 0


def _run(data: bytes, cuts: Sequence[int], warm: bytes = b"") -> None:
    asyncio.run(asyncio.wait_for(check(data, cuts, warm), 20))


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(conversations, st.lists(mutations, max_size=4), st.lists(st.integers(0, 9_999), max_size=6))
@example([SIZED, SIZED], [], [5_000])
@example([CHUNKED, SIZED], [], [1, 100, 2_000, 4_000, 9_000])
@example([SIZED], [Mutation(2_000, 0, b"transfer-encoding: chunked\r\n")], [])
@example([SIZED], [Mutation(9_999, 0, b"\r\n")], [])
@example([CHUNKED], [Mutation(9_999, 5, b"")], [])
@example([CHUNKED], [Mutation(5_500, 1, b"6")], [])
@example([CHUNKED, SIZED], [Mutation(4_000, 0, b"connection: upgrade\r\nupgrade: h2c\r\n")], [3_000])
@example([LISTING, SIZED], [Mutation(3_000, 0, b"\x00")], [])
@example([SIZED, LISTING], [Mutation(2_000, 0, b"Content-Length: 99999999999999999999\r\n")], [])
@example([SIZED], [Mutation(0, 0, b"\r\n\r\n\r\n")], [1])
@example([SIZED], [Mutation(3_500, 0, b"expect: 100-continue\r\n")], [4_000])
def test_mutated_requests(parts: list[bytes], changes: list[Mutation], cuts: list[int]) -> None:
    data = b"".join(parts)
    for change in changes:
        data = change.apply(data)
    _run(data, cuts)


NAMED = SIZED.replace(b"content-length", b"x-request-id: abc\r\ncontent-length")


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(st.sampled_from((SIZED, NAMED)), st.lists(mutations, min_size=1, max_size=3))
@example(SIZED, [])
@example(NAMED, [Mutation(2_500, 0, b"x")])
@example(NAMED, [Mutation(2_500, 3, b"a\r\ncontent-length: 3")])
@example(NAMED, [Mutation(3_700, 2, b"1\r\nx-request-id: b")])
@example(SIZED, [Mutation(9_999, 0, b"x")])
@example(SIZED, [Mutation(9_999, 0, SIZED)])
@example(SIZED, [Mutation(3_600, 1, b"")])
def test_a_head_that_nearly_repeats_is_read_as_it_is(first: bytes, changes: list[Mutation]) -> None:
    """After one request the connection recognises its head: a changed one fares as on a new connection."""
    data = first
    for change in changes:
        data = change.apply(data)
    _run(data, [], first)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(conversations, st.lists(st.integers(0, 9_999), max_size=30))
@example([SIZED, CHUNKED, LISTING, SIZED], list(range(0, 10_000, 37)))
def test_whole_requests_in_any_segments_are_all_served(parts: list[bytes], cuts: list[int]) -> None:
    async def all_served() -> None:
        async with (
            running_backend() as backend,
            running_node(served={"one": Served(backend)}) as node,
            client(node) as http,
        ):
            for segment in segmented(b"".join(parts), cuts):
                http.send(segment)
                await asyncio.sleep(0)
            statuses = [(await http.answer()).status for _ in parts]
            assert statuses == [200] * len(parts)
            assert [seen.body for seen in backend.asked] == [BODY for part in parts if part != LISTING]
            assert backend.malformed == []

    asyncio.run(asyncio.wait_for(all_served(), 20))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=400), st.lists(st.integers(0, 9_999), max_size=4))
@example(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", [])
@example(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [])
@example(b"GET http://[::1 HTTP/1.1\r\n\r\n", [])
def test_noise(data: bytes, cuts: list[int]) -> None:
    _run(data, cuts)


answers = st.lists(
    st.builds(
        Mutation,
        st.integers(0, 9_999),
        st.integers(0, 20),
        st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8)),
    ),
    max_size=3,
)
OK = b"HTTP/1.1 200 OK\r\ncontent-type: "
CHUNKS = b"%b\r\ntransfer-encoding: chunked\r\n\r\n"
GOOD_ANSWERS = (
    OK + b'application/json\r\ncontent-length: 14\r\n\r\n{"model":"m1"}',
    OK + CHUNKS % b"application/json" + b'e\r\n{"model":"m1"}\r\n0\r\n\r\n',
    OK
    + CHUNKS % b"text/event-stream"
    + b'16\r\ndata: {"model":"m1"}\n\r\n1\r\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n',
)


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(GOOD_ANSWERS), answers, st.integers(0, 300))
@example(GOOD_ANSWERS[1], [Mutation(8_000, 2, b"zz")], 300)
@example(GOOD_ANSWERS[2], [], 120)
@example(GOOD_ANSWERS[0], [Mutation(0, 0, b"HTTP/1.1 102 P\r\n\r\n")], 300)
@example(GOOD_ANSWERS[0], [Mutation(9_999, 0, SIZED)], 300)
@pytest.mark.parametrize("stream", [False, True])
def test_broken_answers_never_hang_or_confuse(
    stream: bool, answer: bytes, changes: list[Mutation], cut: int
) -> None:
    """Whatever a backend sends, the client gets one well-framed answer; the next request is not touched."""
    for change in changes:
        answer = change.apply(answer)

    async def check_answers() -> None:
        raw = answer.decode("latin-1").encode("unicode_escape").decode()
        async with (
            running_backend() as backend,
            running_node(
                served={"one": Served(backend)}, first_byte_timeout_s=0.2, stall_timeout_s=0.2
            ) as node,
            client(node) as http,
        ):
            backend.script.append(Behaviour(raw=raw, close_at=cut))
            got = await http.ask({**CHAT, "stream": stream})
            assert got.status in {200, 502, 504} or 100 <= got.status < 600
            broken_off = b"upstream_" in got.body and got.status == 200
            if got.headers.get("connection") != "close" and got.whole and not broken_off:
                second = await http.ask(CHAT)
                assert (second.status, second.json["object"]) == (200, "chat.completion")
            async with client(node) as other:
                third = await other.ask(CHAT)
                assert (third.status, third.json["object"]) == (200, "chat.completion")
            assert node.plane.counters.faults == 0

    asyncio.run(asyncio.wait_for(check_answers(), 30))
