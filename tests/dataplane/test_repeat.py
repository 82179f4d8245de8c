"""Recognising a head that repeats: the body and the value that varies come out, or nothing does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dataplane.repeat import Repeat, varying
from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import CHAT, Client

LINE = varying(b"x-request-id")
FIRST = b"POST / HTTP/1.1\r\nhost: a\r\nX-Request-Id: one\r\nContent-Length: 3\r\naccept: b\r\n\r\nabc"
SWAPPED = b"POST / HTTP/1.1\r\ncontent-length: 3\r\nhost: a\r\nx-request-id:one\r\n\r\nabc"
ALONE = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length:  3 \r\n\r\nabc"


def learned(data: bytes) -> Repeat[str]:
    repeat = Repeat.of("meaning", data, LINE)
    assert repeat is not None
    assert repeat.meaning == "meaning"
    return repeat


@pytest.mark.parametrize("first", [FIRST, SWAPPED, ALONE])
def test_the_same_again(first: bytes) -> None:
    value = b"" if first is ALONE else b"one"
    assert learned(first).match(first) == [b"abc", value]


@pytest.mark.parametrize("first", [FIRST, SWAPPED])
@given(identity=st.text("abc-.~!", min_size=1, max_size=128).map(str.encode), body=st.binary(max_size=2_000))
def test_another_length_and_value(first: bytes, identity: bytes, body: bytes) -> None:
    again = first.replace(b"one", identity).replace(b"3", b"%d" % len(body), 1)[:-3] + body
    assert learned(first).match(again) == [body, identity]


@pytest.mark.parametrize("first", [FIRST, SWAPPED, ALONE])
@given(place=st.integers(0, 200), size=st.integers(0, 3), token=st.binary(max_size=4))
def test_whatever_matches_differs_in_nothing_else(first: bytes, place: int, size: int, token: bytes) -> None:
    changed = first[:place] + token + first[place + size :]
    found = learned(first).match(changed)
    if found is None:
        return
    body, value = found
    head = changed[: len(changed) - len(body)]
    plain = b"" if first is ALONE else b"one"
    assert b"\r" not in value
    assert head.count(b"\r\n") == first.count(b"\r\n")
    restored = head.replace(value, plain, 1) if value else head
    digits = b"%d" % len(body)
    assert len(restored) - len(digits) <= len(first) - 3


@pytest.mark.parametrize(
    "changed",
    [
        FIRST + b"x",
        FIRST[:-1],
        FIRST.replace(b"one", b""),
        FIRST.replace(b"one", b"o ne"),
        FIRST.replace(b"one", b"one\r\nx: y"),
        FIRST.replace(b"one", b"x" * 129),
        FIRST.replace(b": 3", b": +3"),
        FIRST.replace(b": 3", b": 3, 3"),
        FIRST.replace(b": 3", b":"),
        FIRST.replace(b": 3", b": 3\r\ntransfer-encoding: chunked"),
        FIRST.replace(b": 3", b": \xd9\xa3"),
        FIRST.replace(b"accept: b", b"accept: c"),
        b"GET" + FIRST[4:],
        b"",
    ],
)
def test_anything_else_goes_to_the_parser(changed: bytes) -> None:
    assert learned(FIRST).match(changed) is None


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\ncontent-length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nx: content-length: 3\r\n\r\n",
        b"",
    ],
)
def test_heads_without_a_length_are_not_kept(first: bytes) -> None:
    assert Repeat.of("", first, LINE) is None


def test_a_value_that_stands_twice_does_not_vary() -> None:
    first = FIRST.replace(b"accept: b", b"x-request-id: two")
    assert learned(first).match(first) == [b"abc", b""]
    assert learned(first).match(first.replace(b"one", b"six")) is None


TRACED = (
    b"POST / HTTP/1.1\r\nhost: a\r\ntraceparent: 00-aa-bb-01\r\ncontent-length: 3\r\n"
    b"x-request-id: one\r\n\r\nabc"
)
PARENT = varying(b"traceparent")


@given(
    identity=st.text("abc-.~!", min_size=1, max_size=128).map(str.encode),
    parent=st.text("abc-.~!", min_size=1, max_size=128).map(str.encode),
    body=st.binary(max_size=2_000),
    moved=st.booleans(),
)
def test_three_values_vary(identity: bytes, parent: bytes, body: bytes, moved: bool) -> None:
    first = TRACED
    if moved:
        line = b"x-request-id: one\r\n"
        first = first.replace(line, b"").replace(b"host", line + b"host")
    repeat = Repeat.of("", first, LINE, PARENT)
    assert repeat is not None
    again = first[:-3].replace(b"length: 3", b"length: %d" % len(body)) + body
    again = again.replace(b"00-aa-bb-01", parent, 1).replace(b"id: one", b"id: " + identity, 1)
    assert repeat.match(again) == [body, identity, parent]
    assert repeat.match(again.replace(b"traceparent", b"traceparenT", 1)) is None


def test_a_line_that_the_first_head_did_not_have_is_no_repeat() -> None:
    repeat = Repeat.of("", FIRST, LINE, PARENT)
    assert repeat is not None
    assert repeat.match(FIRST) == [b"abc", b"one", b""]
    assert repeat.match(FIRST.replace(b"accept: b", b"accept: b\r\ntraceparent: x")) is None


async def test_every_request_of_a_connection_keeps_its_own(http: Client, backend: FakeBackend) -> None:
    for number in range(6):
        body = {**CHAT, "n": "x" * number}
        answer = await http.ask(body, x_request_id=f"r{number}", x_fake=f"size={600 + number}")
        assert answer.headers["x-request-id"] == f"r{number}"
        assert len(answer.body) == 600 + number
    assert [seen.header("x-request-id") for seen in backend.asked] == [f"r{number}" for number in range(6)]


async def test_ids_of_our_own_differ_on_one_connection(http: Client) -> None:
    ids = {(await http.ask(CHAT)).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5
