"""Recognise a message whose head equals the last one's, byte for byte but for its length and one more value.

Both ends of a keep-alive connection send the same head again and again. One that was parsed and accepted once
need not be parsed again: only what differs is read anew. Anything else goes to the parser.
"""

from __future__ import annotations

import re
from typing import Final, Generic, TypeVar

_LENGTH_LINE: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_END: Final = b"\r\n\r\n"
_LONGEST: Final = 128
"""Of either value; longer ones are parsed."""
_VALUE: Final = re.compile(rb"[!-~]+\Z")
T = TypeVar("T")


def varying(name: bytes) -> re.Pattern[bytes]:
    """The line of a header whose value differs from message to message: visible ASCII without spaces."""
    return re.compile(rb"\r\n%b:[ \t]*([!-~]{1,%d})\r\n" % (re.escape(name), _LONGEST), re.IGNORECASE)


class Repeat(Generic[T]):
    """The bytes of a head around what varies, and what the head means."""

    __slots__ = ("_after", "_before", "_between", "_length_first", "meaning")

    def __init__(
        self, meaning: T, before: bytes, between: bytes, after: bytes, *, length_first: bool
    ) -> None:
        self.meaning = meaning
        self._before = before
        self._between = between
        self._after = after
        self._length_first = length_first

    @classmethod
    def of(cls, meaning: T, data: bytes, line: re.Pattern[bytes]) -> Repeat[T] | None:
        """From ``data`` that begins with a head which the parser accepted; None if it names no length.

        The parser has refused lengths that stand twice or beside another framing. Where ``line`` stands not
        exactly once, nothing but the length varies.
        """
        ends = data.find(_END) + 2
        length = _LENGTH_LINE.search(data, 0, ends)
        if length is None:
            return None
        spans = [length.span(1)]
        other = line.search(data, 0, ends)
        if other is not None and line.search(data, other.end() - 2, ends) is None:
            spans.append(other.span(1))
        spans.sort()
        first, last = spans[0], spans[-1]
        between = data[first[1] : last[0]] if len(spans) > 1 else b""
        return cls(
            meaning,
            data[: first[0]],
            between,
            data[last[1] : ends + 2],
            length_first=first == length.span(1),
        )

    def match(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Body and varying value (empty: none), if ``data`` is exactly one whole message with this head."""
        before, between, after = self._before, self._between, self._after
        if not data.startswith(before):
            return None
        start = len(before)
        value = b""
        if between:
            ends = data.find(between, start, start + _LONGEST + len(between))
            if ends < 0:
                return None
            value = data[start:ends]
            start = ends + len(between)
        ends = data.find(after, start, start + _LONGEST + len(after))
        if ends < 0:
            return None
        digits = data[start:ends]
        if between:
            if self._length_first:
                digits, value = value, digits
            if _VALUE.match(value) is None:
                return None
        start = ends + len(after)
        if not digits.isdigit() or len(data) - start != int(digits):
            return None
        return data[start:], value
