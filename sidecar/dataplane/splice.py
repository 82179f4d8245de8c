"""Change named spans of a body and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from sidecar.dataplane.peek import Body, locate
from swarmplane.errors import InvalidRequestError

Edit = tuple[int, int, bytes]
"""Start, end (exclusive) and replacement."""

_VIEWED_BYTES: Final = 64 * 1024
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode: Final = msgspec.json.Encoder().encode


def splice(body: Body, edits: Iterable[Edit]) -> bytes:
    """``body`` with every edit applied. Edits must not overlap."""
    # A view costs a little, and saves a copy or two of what is large.
    source = memoryview(body) if len(body) > _VIEWED_BYTES else body
    pieces: list[Body | memoryview] = []
    position = 0
    for start, end, replacement in sorted(edits):
        pieces += (source[position:start], replacement)
        position = end
    pieces.append(source[position:])
    return b"".join(pieces)


def rename_answer(body: Body, name: bytes, within: bytes = b"") -> bytes:
    """``body``, a JSON object, with its top-level ``model`` replaced by ``name`` (JSON text).

    Anything that is not such an object comes back as it is. ``within``: the name of a member whose ``model``
    is meant, where the object itself has none.
    """
    try:
        members = _decode(body)
        inner = within.decode()
        if "model" in members:
            _, start, end = locate(body, members)["model"]
        elif inner in members:
            _, start, end = locate(body, members)[inner]
            name = rename_answer(body[start:end], name)
        else:
            return bytes(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidRequestError):
        return bytes(body)
    return splice(body, ((start, end, name),))


def rename_events(lines: bytes, name: bytes, within: bytes = b"") -> bytes:
    """Whole SSE ``lines`` with the ``model`` of every JSON event replaced by ``name``.

    ``within``: see :func:`rename_answer`.
    """
    if lines.find(b'"model"') < 0:  # every piece of a stream comes here, and ``in`` costs four times as much
        return lines
    renamed = []
    for line in lines.splitlines(keepends=True):
        if not line.startswith(b"data:") or b'"model"' not in line:
            renamed.append(line)
            continue
        begins = 6 if line.startswith(b"data: ") else 5
        content = line[begins:].rstrip(b"\r\n")
        renamed += (line[:begins], rename_answer(content, name, within), line[begins + len(content) :])
    return b"".join(renamed)
