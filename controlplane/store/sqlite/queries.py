"""Every read of the embedded store, as SQL; each in one snapshot of the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from controlplane.store.port import (
    CompactedError,
    Event,
    EventKind,
    FutureRevisionError,
    KeyValue,
    Range,
    WatchBatch,
)
from controlplane.store.sqlite.rows import KEY_VALUE, bounds, key_value, meta

PAGE_REVISIONS: Final = 1_000
PAGE_BYTES: Final = 1024 * 1024
"""A page of history ends with the revision in which it passes one of these."""

_ONE: Final = f"SELECT {KEY_VALUE} FROM live JOIN history h USING (seq) WHERE live.key = ?"  # noqa: S608
_PRESENT: Final = f"""
    SELECT {KEY_VALUE} FROM live JOIN history h USING (seq)
    WHERE live.key >= ? AND live.key < ? ORDER BY live.key LIMIT ?
"""  # noqa: S608
_PAST: Final = f"""
    SELECT {KEY_VALUE} FROM history h INDEXED BY history_by_key
    WHERE h.key >= ? AND h.key < ? AND h.revision <= ? AND NOT h.deleted AND NOT EXISTS (
        SELECT 1 FROM history n WHERE n.key = h.key AND n.revision > h.revision AND n.revision <= ?
    )
    ORDER BY h.key LIMIT ?
"""  # noqa: S608
_EVENTS: Final = f"""
    SELECT {KEY_VALUE}, h.deleted, p.key, p.value, p.create_revision, p.revision, p.lease
    FROM history h INDEXED BY history_by_revision
    LEFT JOIN history p ON NOT p.deleted AND p.seq = (
        SELECT q.seq FROM history q WHERE q.key = h.key AND q.revision < h.revision
        ORDER BY q.revision DESC LIMIT 1
    )
    WHERE h.revision >= ? AND h.revision <= ? AND h.key >= ? AND h.key < ? ORDER BY h.revision, h.seq
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Batches of a stretch of history; ``through`` is the last revision that was looked at."""

    batches: tuple[WatchBatch, ...]
    through: int


def get(connection: sqlite3.Connection, key: bytes) -> tuple[KeyValue | None, int]:
    """What stands at ``key``, and the store's revision."""
    with _snapshot(connection):
        row = connection.execute(_ONE, (key,)).fetchone()
        return None if row is None else key_value(row), meta(connection, "revision")


def list_range(
    connection: sqlite3.Connection, prefix: bytes, *, start_after: bytes, limit: int, revision: int
) -> Range:
    """See :meth:`controlplane.store.port.Store.range`."""
    low, high = bounds(prefix)
    if start_after >= low:
        low = start_after + b"\0"
    wanted = limit + 1 if limit else -1
    with _snapshot(connection):
        newest = meta(connection, "revision")
        if revision > newest:
            raise FutureRevisionError(f"The store is at revision {newest} only.")
        if revision and revision < (compacted := meta(connection, "compacted")):
            raise CompactedError(compacted)
        if revision:
            rows = connection.execute(_PAST, (low, high, revision, revision, wanted)).fetchall()
        else:
            rows = connection.execute(_PRESENT, (low, high, wanted)).fetchall()
    more = bool(limit) and len(rows) > limit
    items = tuple(key_value(row) for row in (rows[:limit] if more else rows))
    return Range(items, revision or newest, more)


def history(connection: sqlite3.Connection, prefix: bytes, start: int) -> HistoryPage:
    """What happened under ``prefix`` from revision ``start`` on, a bounded stretch of it.

    Raises:
        CompactedError: ``start`` is forgotten.
    """
    with _snapshot(connection):
        compacted = meta(connection, "compacted")
        if start < compacted:
            raise CompactedError(compacted)
        through = min(meta(connection, "revision"), start + PAGE_REVISIONS - 1)
        batches: list[WatchBatch] = []
        size = 0
        with closing(connection.execute(_EVENTS, (start, through, *bounds(prefix)))) as rows:
            for revision, changes in groupby(rows, key=lambda row: int(row[3])):
                events = tuple(_event(row) for row in changes)
                batches.append(WatchBatch(events, revision))
                size += sum(event_bytes(event) for event in events)
                if size > PAGE_BYTES:
                    through = revision
                    break
    return HistoryPage(tuple(batches), through)


def event_bytes(event: Event) -> int:
    """Roughly what ``event`` takes in memory."""
    return 200 + len(event.kv.value) + (len(event.previous.value) if event.previous else 0)


def _event(row: tuple[Any, ...]) -> Event:
    previous = None if row[6] is None else key_value(row[6:])
    return Event(EventKind.DELETE if row[5] else EventKind.PUT, key_value(row), previous)


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
