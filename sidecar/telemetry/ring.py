"""Rows for records, made once: the data plane fills the next free one, the worker empties them in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sidecar.telemetry.record import Record

LARGEST: Final = 1 << 20


class Ring:
    """A bounded queue of :class:`Record` that never allocates. One event loop uses both ends.

    Args:
        capacity: Rows; rounded up to a power of two. A row takes about 400 bytes.
        nudge: Called when half of the rows are in use, each time that happens: the worker should hurry.
    """

    __slots__ = ("_half", "_mask", "_next", "_nudge", "_oldest", "_rows", "dropped")

    def __init__(self, capacity: int, nudge: Callable[[], None] | None = None) -> None:
        rows = 1
        while rows < min(max(capacity, 2), LARGEST):
            rows *= 2
        self._rows = tuple(Record() for _ in range(rows))
        self._mask = rows - 1
        self._half = rows // 2
        self._next = 0
        self._oldest = 0
        self._nudge = nudge
        self.dropped = 0
        """Requests that found no free row since the start."""

    def claim(self) -> Record | None:
        """The next free row; None, and counted, when all wait for the worker.

        The caller fills it before it returns to the event loop: it counts as a record from now on.
        """
        at = self._next
        waiting = at - self._oldest
        if waiting > self._mask:
            self.dropped += 1
            return None
        self._next = at + 1
        if waiting == self._half and self._nudge is not None:
            self._nudge()
        return self._rows[at & self._mask]

    def oldest(self, most: int) -> Sequence[Record]:
        """At most ``most`` of the records that wait longest, in their order; empty: there are none.

        They may be fewer though more wait. :meth:`free` ends their use.
        """
        at = self._oldest & self._mask
        return self._rows[at : at + min(most, self._next - self._oldest)]

    def newest(self) -> Record | None:
        """The record that was claimed last; None when there is none. It may still be added to."""
        at = self._next
        return None if at == self._oldest else self._rows[(at - 1) & self._mask]

    def free(self, records: Sequence[Record]) -> None:
        """The ``records`` that :meth:`oldest` gave last are dealt with."""
        for record in records:
            record.let_go()
        self._oldest += len(records)

    def __len__(self) -> int:
        return self._next - self._oldest

    @property
    def capacity(self) -> int:
        """Rows there are."""
        return self._mask + 1
