"""Turns records into figures, lines and spans, between requests: never more than 2 ms at a time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import structlog

from sidecar.core.prefix import BLOCK_TOKENS
from sidecar.telemetry.access_log import Line, Lines, text_of
from sidecar.telemetry.figures import Figures
from sidecar.telemetry.outlet import Outlet
from sidecar.telemetry.recent import Recent
from sidecar.telemetry.record import COMPLETED, Record
from sidecar.telemetry.ring import Ring
from sidecar.telemetry.spans import Span, Spans
from sidecar.telemetry.usage import NOTHING, Usage, finish_reason, read
from swarmplane.ids import EndpointId

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SLICE_S: Final = 0.002
"""How long the event loop is held at a time."""
_TELL_S: Final = 0.85 * SLICE_S
"""Of that, to tell records; in the rest their lines are written."""
_EVERY_S: Final = 0.1
_CHECK_EVERY: Final = 8
"""Records between two looks at the clock."""

Time = Callable[[], float]

OnPace = Callable[[str, EndpointId, float], None]
"""Canonical model, endpoint, tokens per second."""
OnCached = Callable[[str, EndpointId, int, float], None]
"""Canonical model, endpoint, blocks of the prompt that were believed to be cached there, and that were."""
OnSpent = Callable[[str, int], None]
"""Id of the key, tokens."""
_LEAST_TOKENS: Final = 8
_LEAST_S: Final = 0.005


def pace(record: Record, usage: Usage) -> float:
    """Tokens per second of a streamed answer after its first byte; 0: too short to tell."""
    decode_s = record.ended_s - record.first_byte_s
    tokens = usage.output_tokens or 0
    return (tokens - 1) / decode_s if tokens >= _LEAST_TOKENS and decode_s >= _LEAST_S else 0.0


def cached_blocks(record: Record, usage: Usage) -> float:
    """How much of a prompt was cached, in blocks as its size has them; below 0: the answer does not tell."""
    if usage.cached_tokens is None or not usage.input_tokens:
        return -1.0
    return min(usage.cached_tokens / usage.input_tokens, 1.0) * record.prompt_tokens / BLOCK_TOKENS


class Worker:
    """Empties a ring.

    Args:
        ring: What the data plane fills.
        figures: Counts every record.
        lines: Takes texts of access-log lines, each a piece; None: none are wanted.
        spans: Takes spans of sampled requests; None: none are wanted.
        recent: Remembers some of the requests; None: nobody looks.
        monotonic: The clock of the records.
        wall: Unix time.
    """

    def __init__(
        self,
        ring: Ring,
        figures: Figures,
        *,
        lines: Outlet[bytes] | None = None,
        spans: Outlet[Span] | None = None,
        recent: Recent | None = None,
        monotonic: Time = time.monotonic,
        wall: Time = time.time,
    ) -> None:
        self._ring = ring
        self._figures = figures
        self._lines = lines
        self._writer = Lines()
        self._spans = spans
        self._traced = Spans()
        self._recent = recent
        self._monotonic = monotonic
        self._wall = wall
        self._hurry = asyncio.Event()
        self._faulty = False
        self.on_pace: OnPace | None = None
        """Told of every streamed answer whose length is known how fast it was written."""
        self.on_cached: OnCached | None = None
        """Told how much of a prompt was cached where some of it was believed to be."""
        self.on_spent: OnSpent | None = None
        """Told how many tokens an answer cost that a client of this host got under a key."""
        self.faults = 0
        """Records that could not be told: errors in our own code."""

    def hurry(self) -> None:
        """Begin before the time: half of the rows are in use."""
        self._hurry.set()

    async def run(self) -> None:
        """Empty the ring every 0.1 s, until cancelled; what is there then is told before this returns."""
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_EVERY_S):
                        await self._hurry.wait()
                self._hurry.clear()
                await self.catch_up()
        finally:
            while self.work():
                pass

    async def catch_up(self) -> None:
        """Tell everything that has ended by now. Requests that go on ending do not make it longer."""
        left = len(self._ring)
        while left > 0:
            done = self.work(left)
            left -= done
            if left <= 0 or not done:
                return
            await asyncio.sleep(0)

    def work(self, most: int = 1 << 30) -> int:
        """Tell at most ``most`` records, for at most :data:`SLICE_S`. Returns how many."""
        ring, monotonic, tell = self._ring, self._monotonic, self._tell
        now_s = monotonic()
        until_s = now_s + _TELL_S
        wall_offset_s = self._wall() - now_s
        lines: list[Line] = []
        done = 0
        while done < most:
            records = ring.oldest(min(_CHECK_EVERY, most - done))
            if not records:
                break
            for record in records:
                try:
                    tell(record, wall_offset_s, lines)
                except Exception as error:  # noqa: BLE001
                    self._fault(error)
            ring.free(records)
            done += len(records)
            if monotonic() >= until_s:
                break
        if lines:
            self._write(lines)
        return done

    def _tell(self, record: Record, wall_offset_s: float, lines: list[Line]) -> None:
        tail = record.tail
        usage = read(tail, record.opening) if tail else NOTHING
        self._figures.add(record, usage)
        if self._recent is not None:
            self._recent.take(record, usage, wall_offset_s)
        if record.streamed and self.on_pace is not None and record.outcome == COMPLETED:
            tokens_per_s = pace(record, usage)
            if tokens_per_s:
                self.on_pace(record.model, EndpointId(record.endpoint), tokens_per_s)
        if record.cached and self.on_cached is not None:
            blocks = cached_blocks(record, usage)
            if blocks >= 0.0:
                self.on_cached(record.model, EndpointId(record.endpoint), record.cached, blocks)
        if record.key and not record.origin and self.on_spent is not None:
            self.on_spent(record.key, (usage.input_tokens or 0) + (usage.output_tokens or 0))
        if self._lines is not None:
            lines.append(self._writer.of(record, usage, wall_offset_s))
        trace = record.trace
        if trace is not None and self._spans is not None:
            for span in self._traced.of(record, trace, usage, finish_reason(tail), wall_offset_s):
                self._spans.put(span)

    def _write(self, lines: list[Line]) -> None:
        """Send ``lines`` out as one text: here they are still in the processor's cache."""
        outlet = self._lines
        if outlet is None:
            return
        room = outlet.room
        if room < len(lines):
            outlet.refuse(len(lines) - room)
            del lines[room:]
        if lines:
            outlet.put(text_of(lines), len(lines))

    def _fault(self, error: Exception) -> None:
        """One record is lost, never the worker; the first time it is said."""
        self.faults += 1
        if not self._faulty:
            self._faulty = True
            log.error("telemetry.record_failed", exc_info=error)
