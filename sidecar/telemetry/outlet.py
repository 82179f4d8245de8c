"""A way out of the process that may be slow or shut: a bounded queue, and a thread that empties it.

Whoever puts something in never waits. What finds the queue full, or cannot be delivered, is dropped and
counted; trouble is written down when it begins and when it ends, not in between.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger()

T = TypeVar("T")
_LONGEST_REASON: Final = 200


class UndeliveredError(Exception):
    """A batch is lost; says why, without content."""


class Outlet(Generic[T]):
    """Items on their way out. An item may stand for several pieces, such as the lines of a text.

    Args:
        name: For the log and the thread.
        deliver: Called in the thread with one or more items. Raises UndeliveredError or OSError when they are
            lost.
        most: Pieces that wait at most.
        batch: Pieces that are enough for one delivery, to which no further item is added; so many do not wait
            for ``delay_s``.
        delay_s: How long items are gathered.
        abandon: Called when time to close is over: ends what ``deliver`` waits for, if it can.
        finish: Called in the thread when it ends: closes what ``deliver`` opened.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[Sequence[T]], None],
        *,
        most: int,
        batch: int,
        delay_s: float,
        abandon: Callable[[], None] | None = None,
        finish: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._deliver = deliver
        self._most = most
        self._batch = min(batch, most)
        self._delay_s = delay_s
        self._abandon = abandon
        self._finish = finish
        self._queue: deque[tuple[T, int]] = deque()
        self._hurry = threading.Event()
        self._closing = False
        self._failing = False
        # Pieces. Each number has one thread that writes it, and is read by both.
        self._put = 0
        self._taken = 0
        self._lost = 0
        self._refused = 0
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """Pieces lost since the start."""
        return self._lost + self._refused

    @property
    def failing(self) -> bool:
        """Whether the last delivery failed."""
        return self._failing

    @property
    def room(self) -> int:
        """Pieces that :meth:`put` would take now."""
        return 0 if self._closing else max(self._most - self._put + self._taken, 0)

    def put(self, item: T, pieces: int = 1) -> None:
        """Send ``item`` out, or drop it whole. Never waits. Event loop only."""
        before = self._put - self._taken
        after = before + pieces
        if after > self._most or self._closing:
            self._refused += pieces
            return
        self._put += pieces
        self._queue.append((item, pieces))
        if before < self._batch <= after:
            self._hurry.set()

    def refuse(self, pieces: int) -> None:
        """Count ``pieces`` that were not made, because there is no :attr:`room`. Event loop only."""
        self._refused += pieces

    def start(self) -> None:
        """Begin to deliver. The thread never keeps the process alive."""
        self._thread = threading.Thread(target=self._run, name=f"telemetry-{self.name}", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Deliver what waits, for at most ``timeout_s``; blocks so long. The rest is dropped and counted."""
        self._closing = True
        self._hurry.set()
        thread = self._thread
        if thread is None:
            return
        thread.join(timeout_s)
        if thread.is_alive() and self._abandon is not None:
            self._abandon()
        while (left := self._next()) is not None:
            self._refused += left[1]

    def _run(self) -> None:
        while not self._closing:
            self._hurry.wait(self._delay_s)
            self._hurry.clear()
            self._empty()
        self._empty()
        if self._finish is not None:
            self._finish()

    def _empty(self) -> None:
        for _ in range(len(self._queue)):
            batch, pieces = self._take()
            if not batch:
                return
            self._send(batch, pieces)

    def _take(self) -> tuple[Sequence[T], int]:
        batch: list[T] = []
        pieces = 0
        while pieces < self._batch:
            found = self._next()
            if found is None:
                break
            batch.append(found[0])
            pieces += found[1]
        self._taken += pieces
        return batch, pieces

    def _next(self) -> tuple[T, int] | None:
        # Who closes takes what is left, beside the thread.
        try:
            return self._queue.popleft()
        except IndexError:
            return None

    def _send(self, batch: Sequence[T], pieces: int) -> None:
        started_s = time.monotonic()
        try:
            self._deliver(batch)
        except Exception as error:  # noqa: BLE001
            # Whatever it is, a fault of ours too: the thread must not end, the next batch may be fine.
            self._failed(pieces, error, time.monotonic() - started_s)
        else:
            if self._failing:
                self._failing = False
                log.info("telemetry.delivery_recovered", outlet=self.name, dropped=self.dropped)

    def _failed(self, count: int, error: Exception, after_s: float) -> None:
        self._lost += count
        if not self._failing:
            self._failing = True
            log.warning(
                "telemetry.delivery_failed",
                outlet=self.name,
                reason=(str(error) or repr(error))[:_LONGEST_REASON],
                after_s=round(after_s, 3),
            )
