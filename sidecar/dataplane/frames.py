"""Whether an answer that passes as it is can be read: a look at its ends, at the rest only if they are odd.

A piece of a stream that ends as a JSON object does is passed on unread: what is broken is broken at its end,
almost always, and reading every event would cost a third of translating it (ADR 26).
"""

from __future__ import annotations

from typing import Final

import msgspec

EVENT_END: Final = b"}\n\n"
"""How nearly all events end."""
WHOLE: Final = (b"}\n\n", b"}\n", b"}\r\n\r\n", b"}\r\n", b"[DONE]\n\n")
"""How whole events and lines end."""
_OBJECTS: Final = frozenset(
    {
        b"/v1/chat/completions",
        b"/v1/completions",
        b"/v1/embeddings",
        b"/v1/messages",
        b"/v1/responses",
        b"/api/chat",
        b"/api/generate",
        b"/api/embed",
        b"/api/embeddings",
    }
)
"""Where a whole answer is a JSON object in every dialect."""
_FAILURES: Final = (b'{"error":"', b'{"error": "', b'{"error":{', b'{"error": {')
"""Some servers report a failure with status 200."""
_MARK: Final = b"[DONE]"
_DATA: Final = b"data:"
_validate: Final = msgspec.json.Decoder(msgspec.Raw).decode


def is_broken(lines: bytes, *, events: bool) -> bool:
    """Whether any of whole ``lines`` should be JSON and is none. O(lines), a microsecond for the first.

    ``events``: they are server-sent ones, of which only data is looked at; else each line is a document.
    """
    for line in lines.splitlines():
        if events:
            if not line.startswith(_DATA):
                continue
            line = line[len(_DATA) :]  # noqa: PLW2901 - what stands in it
        content = line.strip()
        if not content or (events and content == _MARK):
            continue
        try:
            _validate(content)
        except (msgspec.DecodeError, RecursionError):
            return True
    return False


def is_answer(path: bytes, body: bytes) -> bool:
    """Whether ``body`` can be a good answer at ``path``: a look at both its ends, whatever its length."""
    if path not in _OBJECTS:
        return True
    opens = body.startswith(b"{") or body[:64].lstrip().startswith(b"{")
    return opens and (body.endswith(b"}") or body.rstrip().endswith(b"}")) and not body.startswith(_FAILURES)
