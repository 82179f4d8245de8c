"""What servers of some versions get wrong, and how we avoid relying on it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ORDERED = {(3, 4): 25, (3, 5): 8}
"""First patch in which an answer to a question for progress never overtakes events (etcd issue 15220)."""
_WHOLE = {(3, 4): 34, (3, 5): 16}
"""First patch that keeps deletions made at the very revision of a compaction (etcd issue 18089)."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How a member behaves.

    Where progress may overtake events, only what a member says about one watch by itself counts as a
    bookmark. Where deletions may be lost, a watch begins one revision early: then the server refuses it if
    the first revision that matters is the compacted one.
    """

    ordered_progress: bool
    keeps_deletions: bool

    @classmethod
    def of(cls, version: str) -> Habits:
        """Of the server that calls itself ``version``; of one we can't read, the worst."""
        found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
        if found is None:
            return cls(ordered_progress=False, keeps_deletions=False)
        major, minor, patch = map(int, found.groups())
        return cls(_since(_ORDERED, major, minor, patch), _since(_WHOLE, major, minor, patch))

    @classmethod
    def of_secretive(cls) -> Habits:
        """Of a server that tells its version to administrators only: some do since after 3.5.16."""
        return cls(ordered_progress=True, keeps_deletions=True)


def _since(fixed: dict[tuple[int, int], int], major: int, minor: int, patch: int) -> bool:
    if (major, minor) in fixed:
        return patch >= fixed[major, minor]
    return (major, minor) > max(fixed)
