"""How the streams of each dialect say that they are whole, and where their pieces name the model.

What says it stands last, so it is looked for from the end; ``in`` costs bytes four times as much. Text of an
answer can't be taken for a mark: within a JSON string its quotes are escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from sidecar.dataplane.splice import rename_answer, rename_events


class Marks(NamedTuple):
    """Of the answers at one path."""

    ends: Callable[[bytes], bool]
    """Whether whole lines say that the answer is whole, or that it failed."""
    rename: Callable[[bytes, bytes], bytes] = rename_events
    """Whole lines with the model's name replaced by another one, as JSON text."""


def says_finished(lines: bytes) -> bool:
    """Whether OpenAI events say that the model is done: a finish reason, the end marker, or an error."""
    return (
        lines.rfind(b"[DONE]") >= 0
        or lines.rfind(b'"finish_reason":"') >= 0
        or lines.rfind(b'"finish_reason": "') >= 0
        or lines.rfind(b'"error"') >= 0
    )


def _message_stopped(lines: bytes) -> bool:
    return lines.rfind(b'"message_stop"') >= 0 or lines.rfind(b'"error"') >= 0


def _response_ended(lines: bytes) -> bool:
    # Every one of its objects has an ``error`` member, mostly null.
    return (
        lines.rfind(b'"response.completed"') >= 0
        or lines.rfind(b'"response.incomplete"') >= 0
        or lines.rfind(b'"response.failed"') >= 0
        or lines.rfind(b"event: error") >= 0
        or lines.rfind(b"[DONE]") >= 0
    )


def _done(lines: bytes) -> bool:
    return (
        lines.rfind(b'"done":true') >= 0 or lines.rfind(b'"done": true') >= 0 or lines.rfind(b'"error"') >= 0
    )


def _succeeded(lines: bytes) -> bool:
    return lines.rfind(b'"success"') >= 0 or lines.rfind(b'"error"') >= 0


def _rename_lines(lines: bytes, name: bytes) -> bytes:
    if lines.find(b'"model"') < 0:
        return lines
    renamed: list[bytes] = []
    for line in lines.splitlines(keepends=True):
        content = line.rstrip(b"\r\n")
        renamed += (rename_answer(content, name), line[len(content) :])
    return b"".join(renamed)


def _rename_message(lines: bytes, name: bytes) -> bytes:
    return rename_events(lines, name, b"message")


def _rename_response(lines: bytes, name: bytes) -> bytes:
    return rename_events(lines, name, b"response")


_COMPLETION: Final = Marks(says_finished)
_LINES: Final = Marks(_done, _rename_lines)
_PROGRESS: Final = Marks(_succeeded, _rename_lines)
UNMARKED: Final = Marks(lambda _lines: True)
"""Of answers that never say so: they end where their framing ends."""
MARKS: Final[Mapping[bytes, Marks]] = {
    b"/v1/chat/completions": _COMPLETION,
    b"/v1/completions": _COMPLETION,
    b"/v1/messages": Marks(_message_stopped, _rename_message),
    b"/v1/responses": Marks(_response_ended, _rename_response),
    b"/api/chat": _LINES,
    b"/api/generate": _LINES,
    b"/api/pull": _PROGRESS,
    b"/api/create": _PROGRESS,
}
"""By path."""
