"""How keys and their versions stand in rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from controlplane.store.limits import prefix_end
from controlplane.store.port import KeyValue

KEY_VALUE: Final = "h.key, h.value, h.create_revision, h.revision, h.lease"
"""The columns that :func:`key_value` reads, of ``history h``."""

_AFTER_ALL: Final = b"\xff"
"""Comes after every key: no byte of UTF-8 is that high."""


def key_value(row: Sequence[Any]) -> KeyValue:
    """The key that starts ``row``."""
    key, value, create_revision, mod_revision, lease = row[:5]
    return KeyValue(key.decode(), value, create_revision, mod_revision, lease)


def bounds(prefix: bytes) -> tuple[bytes, bytes]:
    """The first key that may start with ``prefix``, and the first after them."""
    return prefix, prefix_end(prefix) or _AFTER_ALL


def meta(connection: sqlite3.Connection, name: str) -> int:
    """A figure of the store as it stands in the connection's transaction."""
    found: int = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]
    return found
