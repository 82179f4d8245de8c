"""Recognise a message whose head equals the last one's, byte for byte, but for its length and some values.

Both ends of a keep-alive connection send the same head again and again. One that was parsed and accepted once
need not be parsed again: only what differs is read anew. Anything else goes to the parser.
"""

from __future__ import annotations

import re
from typing import Final, Generic, TypeVar

_LENGTH_LINE: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_END: Final = b"\r\n\r\n"
_LONGEST: Final = 128
"""Of any value; longer ones are parsed."""
_VALUE: Final = re.compile(rb"[!-~]+\Z")
T = TypeVar("T")


def varying(name: bytes) -> re.Pattern[bytes]:
    """The line of a header whose value differs from message to message: visible ASCII without spaces."""
    return re.compile(rb"\r\n%b:[ \t]*([!-~]{1,%d})\r\n" % (re.escape(name), _LONGEST), re.IGNORECASE)


class Repeat(Generic[T]):
    """The bytes of a head around what varies, and what the head means."""

    __slots__ = ("_before", "_blank", "_holes", "_start", "_values", "meaning")

    def __init__(
        self, meaning: T, before: bytes, holes: tuple[tuple[int, bytes, int], ...], lines: int
    ) -> None:
        self.meaning = meaning
        self._before = before
        self._start = len(before)
        self._holes = holes
        """In order: whose value stands there (0: the length), what follows it, and how long that is."""
        self._blank = [b""] * (lines + 1)
        self._values = tuple(which for which, _, _ in holes if which)

    @classmethod
    def of(cls, meaning: T, data: bytes, *lines: re.Pattern[bytes]) -> Repeat[T] | None:
        """From ``data`` that begins with a head which the parser accepted; None if it names no length.

        The parser has refused lengths that stand twice or beside another framing. One of the ``lines`` that
        stands not exactly once does not vary.
        """
        ends = data.find(_END) + 2
        length = _LENGTH_LINE.search(data, 0, ends)
        if length is None:
            return None
        spans = [(*length.span(1), 0)]
        for which, line in enumerate(lines, 1):
            other = line.search(data, 0, ends)
            if other is not None and line.search(data, other.end() - 2, ends) is None:
                spans.append((*other.span(1), which))
        spans.sort()
        nexts = [start for start, _, _ in spans[1:]] + [ends + 2]
        holes = tuple(
            (which, data[end:following], following - end)
            for (_, end, which), following in zip(spans, nexts, strict=True)
        )
        return cls(meaning, data[: spans[0][0]], holes, len(lines))

    def match(self, data: bytes) -> list[bytes] | None:
        """Body and varying values (empty: none), if ``data`` is exactly one whole message with this head."""
        if not data.startswith(self._before):
            return None
        start = self._start
        found = self._blank.copy()
        if not self._values:
            _, after, size = self._holes[0]
            ends = data.find(after, start, start + _LONGEST + size)
            digits = data[start:ends]
            found[0] = body = data[ends + size :]
            return found if ends >= 0 and digits.isdigit() and len(body) == int(digits) else None
        for which, after, size in self._holes:
            ends = data.find(after, start, start + _LONGEST + size)
            if ends < 0:
                return None
            found[which] = data[start:ends]
            start = ends + size
        digits = found[0]
        if not digits.isdigit() or len(data) - start != int(digits):
            return None
        for which in self._values:
            if _VALUE.match(found[which]) is None:
                return None
        found[0] = data[start:]
        return found
