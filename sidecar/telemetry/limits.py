"""Bounds of what clients make up: of labels, and of texts that are kept. Pure but for what it remembers."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"
LONGEST_TEXT: Final = 256
"""Of a path or a name that a client sent: logs and spans have no more of it, and nothing longer is kept."""


class Capped:
    """Passes the first ``most`` different values; any further one is ``other``."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int) -> None:
        self._known: dict[str, str] = {}
        self._most = most

    def of(self, value: str) -> str:
        """``value`` itself, or ``other``."""
        known = self._known.get(value)
        if known is not None:
            return known
        if len(self._known) >= self._most:
            return OTHER
        self._known[value] = value
        return value
