"""The requests that ended lately, for whoever looks at one host: kept as they were, told when asked for."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sidecar.telemetry.access_log import Lines, text_of
from sidecar.telemetry.limits import LONGEST_TEXT
from sidecar.telemetry.record import COMPLETED, Record
from sidecar.telemetry.trace import Attempt
from sidecar.telemetry.usage import Usage

KEPT: Final = 256
A_TURN: Final = 16
"""Usual requests that are kept in a tenth of a second, and as many that are not usual: keeping one costs some
microseconds, and of a flood nobody reads more."""
_TURN_S: Final = 0.1
_COPIED: Final = tuple(sorted(set(Record.__slots__) - {"tail", "opening", "path", "asked"}))
"""No prompt and no answer outlives its record, and what may be long is cut."""
_copy: Final = attrgetter(*_COPIED)


class _Ended(NamedTuple):
    values: tuple[Any, ...]
    path: bytes
    asked: str
    usage: Usage
    wall_offset_s: float

    def record(self) -> Record:
        record = Record()
        for name, value in zip(_COPIED, self.values, strict=True):
            setattr(record, name, value)
        record.path, record.asked = self.path, self.asked
        return record


class Recent:
    """A bounded look back, newest first. One event loop fills and reads it.

    Args:
        kept: Requests that are remembered.
    """

    __slots__ = ("_ended", "_lines", "_turn_ends_s", "_unusual", "_usual")

    def __init__(self, kept: int = KEPT) -> None:
        self._ended: deque[_Ended] = deque(maxlen=kept)
        self._turn_ends_s = 0.0
        self._usual = self._unusual = 0
        self._lines = Lines()

    def take(self, record: Record, usage: Usage, wall_offset_s: float) -> None:
        """``record`` ended, and is used again after this; ``wall_offset_s`` makes its times Unix time."""
        if record.ended_s >= self._turn_ends_s:
            self._turn_ends_s = record.ended_s + _TURN_S
            self._usual = self._unusual = A_TURN
        if record.outcome is COMPLETED and record.trace is None and record.attempts <= 1:
            if self._usual:
                self._usual -= 1
                self._keep(record, usage, wall_offset_s)
        elif self._unusual:
            self._unusual -= 1
            self._keep(record, usage, wall_offset_s)

    def _keep(self, record: Record, usage: Usage, wall_offset_s: float) -> None:
        path, asked = record.path[:LONGEST_TEXT], record.asked[:LONGEST_TEXT]
        self._ended.append(_Ended(_copy(record), path, asked, usage, wall_offset_s))

    def documents(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """At most ``limit`` requests, the one that ended last first: 20 µs each.

        Members are those of an access-log line, then ``endpoint``, ``failure`` and ``steps``: what each
        endpoint that was asked did, of a sampled request; null of others.
        """
        return [self._document(one) for one in islice(reversed(self._ended), max(limit, 0))]

    def _document(self, ended: _Ended) -> Mapping[str, Any]:
        row = ended.record()
        line: dict[str, Any] = json.loads(text_of([self._lines.of(row, ended.usage, ended.wall_offset_s)]))
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
