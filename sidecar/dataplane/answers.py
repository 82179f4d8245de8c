"""Answers of our own: errors in the shape of the dialect asked in, and small JSON documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from sidecar.core.fallbacks import category_of
from swarmplane.errors import Code

encode: Final = msgspec.json.Encoder().encode
REASONS: Final[Mapping[int, bytes]] = {s.value: s.phrase.encode() for s in HTTPStatus}
CLOSE: Final = b"connection: close\r\n"
KEEP: Final = b"connection: keep-alive\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LISTED: Final = 25
"""Names shown to a client who asked for a model nobody knows."""


def status_line(status: int) -> bytes:
    """``HTTP/1.1 200 OK`` with its line end."""
    return b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b""))


def error_document(
    path: bytes,
    code: Code,
    message: str,
    *,
    param: str | None = None,
    swarm: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The error as the dialect of ``path`` writes it. ``swarm`` is ours, added to whatever shape it is."""
    extra: dict[str, object] = {"swarm": dict(swarm)} if swarm else {}
    if path.startswith(b"/v1/messages"):
        error = {"type": code.anthropic_type, "message": message, **extra}
        return {"type": "error", "error": error, **extra}
    if path.startswith(b"/api/"):
        return {"error": message, **extra}
    error = {"message": message, "type": code.openai_type, "code": code.slug, "param": param, **extra}
    return {"error": error, **extra}


def error_event(path: bytes, code: Code, message: str) -> bytes:
    """What ends a stream that broke: an event of the dialect of ``path``, never an end marker."""
    document = encode(error_document(path, code, message))
    if path.startswith(b"/v1/messages"):
        return b"event: error\ndata: %b\n\n" % document
    if path.startswith(b"/api/"):
        return document + b"\n"
    return b"data: %b\n\n" % document


def response(
    status: int,
    body: bytes,
    *,
    content_type: bytes = b"application/json",
    extra: bytes = b"",
    head_only: bool = False,
) -> bytes:
    """A whole answer. ``extra`` are header lines, each with its line end."""
    head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b\r\n" % (
        status_line(status),
        content_type,
        len(body),
        extra,
    )
    return head if head_only else head + body


def unknown_model(asked: str, known: Sequence[str]) -> str:
    """The sentence for a name that no node knows."""
    shown = ", ".join(known[:LISTED])
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    has = f"the swarm has: {shown}{more}" if known else "no node serves any model yet; see `swarmctl status`"
    hint = ""
    if asked.startswith(("claude-", "gpt-")):
        chats = (name for name in known if category_of(name) != "embedding")
        target = next(chats, known[0] if known else "MODEL")
        hint = f". To answer this name with a model of yours: swarmctl alias set {asked} {target}"
    return f"The model {asked[:256]!r} does not exist; {has}{hint}"
