"""Recognise a message whose head equals the last one's, byte for byte but for the number that is its length.

Both ends of a keep-alive connection send the same head again and again. One that was parsed and accepted once
need not be parsed again: only its length is read anew. Anything else goes to the parser.
"""

from __future__ import annotations

import re
from typing import Final, Generic, TypeVar

_LENGTH_LINE: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_END: Final = b"\r\n\r\n"
_DIGITS: Final = 9
T = TypeVar("T")


class Repeat(Generic[T]):
    """The bytes of a head around its length, and what the head means."""

    __slots__ = ("_after", "_before", "meaning")

    def __init__(self, meaning: T, before: bytes, after: bytes) -> None:
        self.meaning = meaning
        self._before = before
        self._after = after

    @classmethod
    def of(cls, meaning: T, data: bytes) -> Repeat[T] | None:
        """From ``data`` that begins with a head which the parser accepted; None if it names no length.

        The parser has refused lengths that stand twice or beside another framing.
        """
        ends = data.find(_END) + 2
        found = _LENGTH_LINE.search(data, 0, ends)
        if found is None:
            return None
        return cls(meaning, data[: found.start(1)], data[found.end(1) : ends + 2])

    def body(self, data: bytes) -> bytes | None:
        """The body, if ``data`` is exactly one whole message with this head; else None."""
        before, after = self._before, self._after
        if not data.startswith(before):
            return None
        at = len(before)
        ends = data.find(after, at, at + _DIGITS + len(after))
        if ends < 0:
            return None
        digits = data[at:ends]
        start = ends + len(after)
        if not digits.isdigit() or len(data) - start != int(digits):
            return None
        return data[start:]
