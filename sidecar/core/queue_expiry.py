"""When which waiting request gives up."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from math import inf
from typing import Final

from sidecar.core.queue_lane import Ticket
from sidecar.core.queue_values import ClassPolicy

_SMALL: Final = 64


class Expiry:
    """Tickets by the time at which they no longer want to wait.

    Mutable; ``add`` costs 0.5 µs. Those that were served stay for a while, about as many as wait;
    one that was preempted may be in twice.
    """

    __slots__ = ("_heap", "_sweep_at")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Ticket]] = []
        self._sweep_at = _SMALL

    def add(self, ticket: Ticket, policy: ClassPolicy) -> None:
        """``ticket`` begins to wait."""
        asking = ticket.asking
        until_s = min(asking.deadline_s, asking.since_s + policy.max_wait_s)
        if len(self._heap) >= self._sweep_at:
            self._heap = [entry for entry in self._heap if entry[2].waiting]
            heapq.heapify(self._heap)
            self._sweep_at = 2 * len(self._heap) + _SMALL
        heapq.heappush(self._heap, (until_s, ticket.number, ticket))

    def next_s(self) -> float:
        """When to look again; inf: nobody waits."""
        heap = self._heap
        while heap and not heap[0][2].waiting:
            heapq.heappop(heap)
        return heap[0][0] if heap else inf

    def due(self, now_s: float) -> Iterator[Ticket]:
        """Those that give up at ``now_s``. Take each out of its lane before asking for the next."""
        while self.next_s() <= now_s:
            yield heapq.heappop(self._heap)[2]
