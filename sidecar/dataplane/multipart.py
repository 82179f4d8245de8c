"""Find the ``model`` part of a multipart body without decoding the rest."""

from __future__ import annotations

import re
from typing import Final

from sidecar.dataplane.peek import Body, Peek
from swarmplane.errors import InvalidRequestError

_BOUNDARY: Final = re.compile(rb'boundary=(?:"([^"]{1,200})"|([^\s;,"]{1,200}))', re.IGNORECASE)
_NAME: Final = re.compile(
    rb'content-disposition:\s*form-data\s*;[^\r\n]*?\bname="?model"?(?:[;\r]|\Z)', re.IGNORECASE
)
_STREAM: Final = re.compile(
    rb'content-disposition:\s*form-data\s*;[^\r\n]*?\bname="?stream"?(?:[;\r]|\Z)', re.IGNORECASE
)
_LONGEST_HEAD: Final = 8 * 1024
_LONGEST_VALUE: Final = 1024


def peek_multipart(body: Body, content_type: bytes) -> Peek:
    """The model that a form names, and where it stands.

    Raises:
        InvalidRequestError: It has no boundary, no such part, or two.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise InvalidRequestError("the multipart body has no boundary")
    delimiter = b"--" + (found[1] or found[2])
    models: list[tuple[int, int]] = []
    stream = False
    position = body.find(delimiter)
    while position >= 0:
        start = position + len(delimiter)
        if body.startswith(b"--", start):
            break
        position = body.find(b"\r\n" + delimiter, start)
        ends = len(body) if position < 0 else position
        head_ends = body.find(b"\r\n\r\n", start, min(ends, start + _LONGEST_HEAD))
        if head_ends >= 0:
            head = bytes(body[start:head_ends])
            if _NAME.search(head):
                models.append((head_ends + 4, ends))
            elif _STREAM.search(head):
                stream = bytes(body[head_ends + 4 : min(ends, head_ends + 9)]).lower() == b"true"
        if position >= 0:
            position += 2
    if not models:
        raise InvalidRequestError("you must provide a model parameter", param="model")
    if len(models) > 1:
        raise InvalidRequestError("the form names the model twice", param="model")
    return _named(body, models[0], stream=stream)


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
