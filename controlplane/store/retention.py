"""How much history the embedded store keeps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """History is forgotten beyond ``max_revisions`` or ``max_age_s``, but never the last ``min_revisions``.

    A quiet swarm so keeps days of history, which costs little and spares its nodes a full list.
    """

    min_revisions: int = 1_000
    max_revisions: int = 10_000
    max_age_s: float = 600.0


class HistoryAge:
    """Learns how old revisions are by being asked about them; what it was never asked about is young."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._marks: deque[tuple[float, int]] = deque()

    def oldest_to_keep(self, revision: int, now_s: float) -> int:
        """The revision to compact at when the store stands at ``revision``; may be 0 or less: not at all.

        Holds a mark per call within ``max_age_s``.
        """
        horizon_s = now_s - self._retention.max_age_s
        self._marks.append((now_s, revision))
        while len(self._marks) > 1 and self._marks[1][0] <= horizon_s:
            self._marks.popleft()
        marked_s, marked = self._marks[0]
        aged = marked if marked_s <= horizon_s else 0
        wanted = max(aged, revision - self._retention.max_revisions)
        return min(wanted, revision - self._retention.min_revisions)
