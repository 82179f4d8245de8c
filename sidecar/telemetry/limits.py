"""Label values that may not grow without end. Pure but for what it remembers."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"


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
