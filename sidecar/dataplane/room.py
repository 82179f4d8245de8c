"""How much of a context a request asks for, and changing that in its body: spans only, the rest stays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from sidecar.core.context import Room
from sidecar.core.limits import ANSWER_KEYS
from sidecar.core.prefix import prompt_tokens
from sidecar.dataplane.peek import Body, Span, locate
from sidecar.dataplane.splice import Edit, splice
from swarmplane.errors import InvalidRequestError

PROMPTS: Final = ("tools", "system", "messages", "instructions", "prompt", "input", "suffix")
IMAGE_TOKENS: Final = 256
"""What a picture or a sound counts, whatever its size: models differ, most need more."""
MOST_READ_BYTES: Final = 4 * 1024 * 1024
"""Of larger bodies nothing is estimated: what makes them large is hardly text."""
_DIGITS: Final = 9
_ENCODED: Final = re.compile(rb'"(?:data:[^",]{0,256},)?[A-Za-z0-9+/_=-]{1024,}"')
"""Base64 of at least 768 bytes. Words of a text have spaces between them."""
_decode: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

Members = Mapping[str, msgspec.Raw]


def read_room(path: bytes, members: Members) -> Room:
    """What the request asks of a context, estimated from the bytes of its prompt. At most a few ms."""
    parts = [bytes(raw) for name in PROMPTS if (raw := members.get(name)) is not None]
    size, pictures = sum(map(len, parts)), 0
    if size > MOST_READ_BYTES:
        return Room(0, _answer(path, members))
    for part in parts:
        for found in _ENCODED.finditer(part):
            size -= found.end() - found.start()
            pictures += 1
    return Room(prompt_tokens(size) + pictures * IMAGE_TOKENS, _answer(path, members))


def read_context(path: bytes, members: Members) -> int:
    """The context that a request of Ollama's names, in tokens; 0: none, or nothing that is a number.

    Raises:
        InvalidRequestError: It names two, or its options are no object.
    """
    options = members.get("options") if path.startswith(b"/api/") else None
    if options is None or bytes(options) == b"null":
        return 0
    inner = _object(options)
    if inner is None:
        raise InvalidRequestError("options must be an object", param="options")
    if "num_ctx" in inner:
        locate(bytes(options), dict(inner))
    return _whole(inner.get("num_ctx"))


def with_answer(path: bytes, body: Body, most: int) -> Body:
    """``body`` for a backend's ``path`` with every longer limit of the answer lowered to ``most`` tokens."""
    members = _object(body)
    if members is None:
        return body
    number = b"%d" % most
    if path.startswith(b"/api/"):
        inner = _object(members.get("options")) or {}
        return (
            _with_option(body, members, "num_predict", number)
            if _whole(inner.get("num_predict")) > most
            else body
        )
    spans = locate(body, dict(members))
    edits: list[Edit] = [
        (*spans[key][1:], number) for key in ANSWER_KEYS if key in members and _whole(members[key]) > most
    ]
    return splice(body, edits) if edits else body


def with_context(body: Body, context: int) -> Body:
    """``body`` of a request to Ollama that names ``context``, whatever it named before."""
    members = _object(body)
    return body if members is None else _with_option(body, members, "num_ctx", b"%d" % context)


def _with_option(body: Body, members: Members, name: str, value: bytes) -> Body:
    spans = locate(body, dict(members))
    options = members.get("options")
    inner = _object(options)
    if options is None or inner is None:  # missing, or null
        member = b'{"%b":%b}' % (name.encode(), value)
        if "options" in spans:
            return splice(body, [(*spans["options"][1:], member)])
        return _with_member(body, members, b'"options":' + member)
    start = spans["options"][1]
    found: dict[str, Span] = locate(bytes(options), dict(inner))
    if name in found:
        _, begins, ends = found[name]
        return splice(body, [(start + begins, start + ends, value)])
    changed = _with_member(bytes(options), inner, b'"%b":%b' % (name.encode(), value))
    return splice(body, [(*spans["options"][1:], bytes(changed))])


def _with_member(body: Body, members: Members, member: bytes) -> Body:
    at = body.index(b"{") + 1
    return splice(body, [(at, at, member + (b"," if members else b""))])


def _answer(path: bytes, members: Members) -> int:
    if path.startswith(b"/api/"):
        return _whole((_object(members.get("options")) or {}).get("num_predict"))
    return max(_whole(members.get(key)) for key in ANSWER_KEYS)


def _object(body: Body | msgspec.Raw | None) -> Members | None:
    if body is None:
        return None
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _whole(raw: msgspec.Raw | None) -> int:
    """A whole number above 0, as ``8192`` or ``8192.0``; 0: it is none."""
    if raw is None:
        return 0
    text = bytes(raw).strip()
    digits = text.removesuffix(b".0")
    return int(digits) if digits.isdigit() and len(digits) <= _DIGITS else 0
