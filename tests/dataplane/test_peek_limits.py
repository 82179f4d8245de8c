"""What a body may cost the loop: shapes that are small enough to be admitted and dear enough to hurt."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from sidecar.dataplane.multipart import MOST_PARTS, peek_multipart
from sidecar.dataplane.peek import MOST_METADATA_BYTES, peek
from sidecar.dataplane.splice import splice
from swarmplane.errors import InvalidRequestError

FORM = b"multipart/form-data; boundary=B"
MODEL = b'--B\r\ncontent-disposition: form-data; name="model"\r\n\r\nm1\r\n'
OTHER = b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n'
END = b"--B--\r\n"
BOUND_S = 2.0
"""Of processor time, generous; without the limits each of these took many seconds."""


def cost_s(act: Callable[[], object]) -> float:
    begun_s = time.process_time()
    act()
    return time.process_time() - begun_s


def test_a_form_has_a_thousand_parts_at_most() -> None:
    assert peek_multipart(OTHER * (MOST_PARTS - 1) + MODEL + END, FORM).model == "m1"
    with pytest.raises(InvalidRequestError, match="more than 1000 parts"):
        peek_multipart(MODEL + OTHER * 3_000_000 + END, FORM)


@pytest.mark.parametrize(
    "line",
    [b"content-disposition: form-data;" * 260, b"content-disposition:" + b" " * 8000, b"name=" * 1600],
)
def test_heads_of_parts_are_read_once(line: bytes) -> None:
    part = b"--B\r\n" + line + b"\r\n\r\n1\r\n"
    assert cost_s(lambda: peek_multipart(part * 900 + MODEL + END, FORM)) < BOUND_S


def test_the_disposition_may_be_any_line_of_the_head() -> None:
    body = b"--B\r\nContent-Type: text/plain\r\nContent-Disposition:form-data; name=model\r\n\r\nm2\r\n" + END
    assert peek_multipart(body, FORM).model == "m2"


def test_metadata_is_limited() -> None:
    inside = b'{"tags":["a"],"b":"' + b"x" * (MOST_METADATA_BYTES - 100) + b'"}'
    assert peek(b'{"model":"m1","metadata":' + inside + b"}").removals
    with pytest.raises(InvalidRequestError, match="metadata is larger than 65536 bytes"):
        peek(b'{"model":"m1","metadata":{"tags":["a"],"b":[' + b"1," * 10_000_000 + b"1]}}")


def test_long_keys_are_refused_before_they_are_read_again() -> None:
    key = b'"\\u0061' + b"\\n" * 30_000
    members = b",".join(key + b'%d":1' % number for number in range(900))

    def look() -> None:
        with pytest.raises(InvalidRequestError, match="longer than 256 characters"):
            peek(b'{"model":"m1",' + members + b"}")

    assert cost_s(look) < BOUND_S
    assert peek(b'{"model":"m1","%b":1}' % (b"\\n" * 256)).model == "m1"


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_bodies_are_spliced_alike(kind: type[bytes]) -> None:
    body = kind(b"a" * 70_000 + b"-" + b"b" * 70_000)
    assert splice(body, [(70_000, 70_001, b"+")]) == b"a" * 70_000 + b"+" + b"b" * 70_000
    assert splice(kind(b"a-b"), [(1, 2, b"")]) == b"ab"
