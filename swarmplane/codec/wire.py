"""Joining encoded messages without building them: the same bytes go to many streams.

Protobuf allows the fields of a message in any order, and joins a repeated field that comes in several places,
so a message may be put together of encoded pieces. See "Encoding" in protobuf's documentation.
"""

from __future__ import annotations

from typing import Final

_SEVEN_BITS: Final = 0x7F
_MORE: Final = 0x80
_VARINT: Final = 0
_LENGTH_DELIMITED: Final = 2


def varint(number: int) -> bytes:
    """``number`` (not negative) as protobuf writes it."""
    out = bytearray()
    while number > _SEVEN_BITS:
        out.append(number & _SEVEN_BITS | _MORE)
        number >>= 7
    out.append(number)
    return bytes(out)


def number_field(field: int, number: int) -> bytes:
    """A field of an unsigned or enumerated kind; nothing where it has its default."""
    return varint(field << 3 | _VARINT) + varint(number) if number else b""


def message_field(field: int, *pieces: bytes) -> bytes:
    """A field that holds a message; the message is ``pieces`` one after the other."""
    length = sum(map(len, pieces))
    return b"".join((varint(field << 3 | _LENGTH_DELIMITED), varint(length), *pieces))
