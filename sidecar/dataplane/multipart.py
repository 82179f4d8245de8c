"""Find the ``model`` part of a multipart body without decoding the rest."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Final, cast

from sidecar.dataplane.peek import Body, Peek
from swarmplane.errors import InvalidRequestError

_BOUNDARY: Final = re.compile(rb'boundary=(?:"([^"]{1,200})"|([^\s;,"]{1,200}))', re.IGNORECASE)
_PART: Final = re.compile(
    # From the start of a line only: else every byte of a crafted head would be a start.
    rb'\ncontent-disposition:[ \t]*form-data[ \t]*;[^\r\n]*?\bname="?(model|stream)"?(?:[;\r]|\Z)',
    re.IGNORECASE,
)
MOST_PARTS: Final = 1_000
"""Every one costs the loop about 2 µs."""
STEP_BYTES: Final = 4 * 1024 * 1024
_LONGEST_HEAD: Final = 8 * 1024
_LONGEST_VALUE: Final = 1024


def peek_multipart(body: Body, content_type: bytes) -> Peek:
    """The model that a form names, and where it stands.

    Raises:
        InvalidRequestError: It has no boundary, no such part, or two; or more than :data:`MOST_PARTS` parts.
    """
    steps = scan(body, content_type)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return cast("Peek", done.value)


def scan(body: Body, content_type: bytes) -> Generator[None, None, Peek]:
    """:func:`peek_multipart` in steps, for a large body: none looks at more than :data:`STEP_BYTES`.

    A body full of what is nearly its boundary is searched at half a gigabyte a second, and no faster.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise InvalidRequestError("the multipart body has no boundary")
    delimiter = b"--" + (found[1] or found[2])
    models: list[tuple[int, int]] = []
    stream = False
    position = yield from _find(body, delimiter, 0)
    parts = 0
    while position >= 0:
        start = position + len(delimiter)
        if body.startswith(b"--", start):
            break
        parts += 1
        if parts > MOST_PARTS:
            raise InvalidRequestError(f"the form has more than {MOST_PARTS} parts")
        position = yield from _find(body, b"\r\n" + delimiter, start)
        ends = len(body) if position < 0 else position
        name, value = _named_part(body, start, ends)
        if name == b"model":
            models.append((value, ends))
        elif name:
            stream = bytes(body[value : min(ends, value + 5)]).lower() == b"true"
        if position >= 0:
            position += 2
    if not models:
        raise InvalidRequestError("you must provide a model parameter", param="model")
    if len(models) > 1:
        raise InvalidRequestError("the form names the model twice", param="model")
    return _named(body, models[0], stream=stream)


def _find(body: Body, wanted: bytes, start: int) -> Generator[None, None, int]:
    while True:
        ends = start + STEP_BYTES
        found = body.find(wanted, start, ends)
        if found >= 0 or ends >= len(body):
            return found
        # It may stand across the end.
        start = ends - len(wanted) + 1
        yield


def _named_part(body: Body, start: int, ends: int) -> tuple[bytes, int]:
    """The name of the part from ``start``, if it is one of ours, and where its value begins."""
    head_ends = body.find(b"\r\n\r\n", start, min(ends, start + _LONGEST_HEAD))
    named = _PART.search(body, start, head_ends) if head_ends >= 0 else None
    return (bytes(named[1]).lower(), head_ends + 4) if named is not None else (b"", ends)


def _named(body: Body, span: tuple[int, int], *, stream: bool) -> Peek:
    start, end = span
    try:
        model = bytes(body[start : min(end, start + _LONGEST_VALUE)]).decode()
    except UnicodeDecodeError as error:
        raise InvalidRequestError("model must be text in UTF-8", param="model") from error
    if not model:
        raise InvalidRequestError("model must not be empty", param="model")
    found = Peek(model, span)
    found.stream = stream
    return found
