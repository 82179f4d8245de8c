"""What an etcd has to be, said once for the store that uses it and for whoever examines it."""

from __future__ import annotations

import re
from typing import Final

LEAST: Final = (3, 4, 23)
"""Older servers lack what the client relies on."""
RECOMMENDED: Final = (3, 5, 16)
"""Older ones can lose deletions on a compaction, and some of 3.5 lose data when they are killed."""
DEFAULT_QUOTA_BYTES: Final = 2 * 1024**3
"""What a member's file may take unless the member is told otherwise."""
LARGE_SHARE: Final = 0.8
"""Of the quota: who holds more than that should be tidied up soon."""


def version_of(text: str) -> tuple[int, ...] | None:
    """What a member calls itself, as numbers; None where it says nothing that can be read."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else None


def advice(text: str) -> str:
    """What to think of a member that calls itself ``text``; empty: it is well, or does not say."""
    version = version_of(text)
    if version is not None and version < LEAST:
        return f"{_dotted(LEAST)} is the oldest that works, use {_dotted(RECOMMENDED)} or newer"
    if version is not None and version < RECOMMENDED:
        return f"use {_dotted(RECOMMENDED)} or newer: older ones can lose deletions or data"
    return ""


def nearly_full(holds_bytes: int, quota_bytes: int) -> str:
    """Of which quota a member holds so much that something should be done; empty: it does not.

    Args:
        holds_bytes: Of its file.
        quota_bytes: As it says itself; 0: it does not, as none before 3.6; below 0: it has none.
    """
    if quota_bytes < 0:
        return ""
    if holds_bytes <= (quota_bytes or DEFAULT_QUOTA_BYTES) * LARGE_SHARE:
        return ""
    whose = "its quota" if quota_bytes else "the default quota"
    return f"{whose} of {(quota_bytes or DEFAULT_QUOTA_BYTES) / 2**20:.0f} MiB"


def too_old(text: str) -> bool:
    """Whether a member that calls itself ``text`` lacks what we need."""
    version = version_of(text)
    return version is not None and version < LEAST


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
