"""ULIDs: ids that sort by the time they were made."""

from __future__ import annotations

import secrets
from typing import Final

_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_CHARACTERS: Final = 26


def new_ulid(unix_s: float) -> str:
    """26 lower-case characters: 48 bits of milliseconds, then 80 random ones."""
    number = (int(unix_s * 1000) << 80) | secrets.randbits(80)
    return "".join(_CROCKFORD[(number >> (5 * place)) & 31] for place in reversed(range(_CHARACTERS)))
