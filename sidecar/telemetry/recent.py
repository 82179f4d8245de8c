"""The requests that ended lately, for whoever looks at one host: kept in rows that are made once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sidecar.telemetry.access_log import LONGEST_TEXT, Lines
from sidecar.telemetry.record import COMPLETED, Record
from sidecar.telemetry.trace import Attempt
from sidecar.telemetry.usage import NOTHING, Usage

KEPT: Final = 256
A_TURN: Final = 16
"""Usual requests that are kept in a tenth of a second, and as many that are not usual: keeping one costs some
microseconds, and of a flood nobody reads more."""
_TURNS_PER_S: Final = 10
_COPIED: Final = tuple(name for name in Record.__slots__ if name not in {"tail", "opening"})
"""No prompt and no answer outlives its record."""


class Recent:
    """A bounded look back, newest first. One event loop fills and reads it.

    Args:
        kept: Requests that are remembered.
    """

    __slots__ = ("_lines", "_next", "_offsets_s", "_rows", "_turn", "_unusual", "_usages", "_usual")

    def __init__(self, kept: int = KEPT) -> None:
        self._rows = tuple(Record() for _ in range(kept))
        self._usages = [NOTHING] * kept
        self._offsets_s = [0.0] * kept
        self._next = 0
        self._turn = -1
        self._usual = self._unusual = 0
        self._lines = Lines()

    def take(self, record: Record, usage: Usage, wall_offset_s: float) -> None:
        """``record`` ended, and is used again after this; ``wall_offset_s`` makes its times Unix time."""
        turn = int(record.ended_s * _TURNS_PER_S)
        if turn != self._turn:
            self._turn = turn
            self._usual = self._unusual = A_TURN
        if record.outcome is COMPLETED and record.trace is None and record.attempts <= 1:
            if self._usual:
                self._usual -= 1
                self._keep(record, usage, wall_offset_s)
        elif self._unusual:
            self._unusual -= 1
            self._keep(record, usage, wall_offset_s)

    def _keep(self, record: Record, usage: Usage, wall_offset_s: float) -> None:
        at = self._next % len(self._rows)
        self._next += 1
        row = self._rows[at]
        for name in _COPIED:
            setattr(row, name, getattr(record, name))
        row.path, row.asked = row.path[:LONGEST_TEXT], row.asked[:LONGEST_TEXT]
        self._usages[at], self._offsets_s[at] = usage, wall_offset_s

    def documents(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """At most ``limit`` requests, the one that ended last first: 20 µs each.

        Members are those of an access-log line, then ``endpoint``, ``failure`` and ``steps``: what each
        endpoint that was asked did, of a sampled request; null of others.
        """
        newest = self._next - 1
        oldest = max(self._next - len(self._rows), 0)
        return [self._document(n % len(self._rows)) for n in range(newest, oldest - 1, -1)[: max(limit, 0)]]

    def _document(self, at: int) -> Mapping[str, Any]:
        row = self._rows[at]
        line: dict[str, Any] = json.loads(self._lines.line(row, self._usages[at], self._offsets_s[at]))
        steps = None if row.trace is None else [_step(row, one) for one in row.trace.attempts]
        return {**line, "endpoint": row.endpoint or None, "failure": row.failure or None, "steps": steps}


def _step(row: Record, attempt: Attempt) -> Mapping[str, Any]:
    return {
        "node": attempt.node,
        "endpoint": attempt.endpoint,
        "local": attempt.local,
        "began_ms": round((attempt.started_s - row.started_s) * 1e3, 3),
        "took_ms": round(((attempt.ended_s or row.ended_s) - attempt.started_s) * 1e3, 3),
        "status": attempt.status or None,
        "failure": attempt.failure or None,
    }
