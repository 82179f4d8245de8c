"""Every change of the embedded store, as SQL. Only the writer's thread comes here, in its transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from controlplane.store.limits import encode_key, encode_prefix
from controlplane.store.port import (
    CompactedError,
    Compare,
    Delete,
    DeletePrefix,
    Event,
    EventKind,
    FutureRevisionError,
    KeyValue,
    LeaseNotFoundError,
    Operation,
    Put,
    TxnResult,
    WatchBatch,
)
from controlplane.store.sqlite.rows import KEY_VALUE, bounds, key_value

_SWEEP_ROWS: Final = 500
"""How many versions one compaction step removes; others' writes wait for a step."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the store stands after a commit."""

    revision: int
    compacted: int


class Changes:
    """Applies changes within the SQLite transaction that the writer has opened.

    A method that refuses (raises a SwarmError) has changed nothing yet, so that the writer can go on with
    the others of its group. ``standing`` and ``batches`` are of the open transaction: the writer takes them
    with :meth:`committed` or drops them with :meth:`rolled_back`.
    """

    def __init__(self, connection: sqlite3.Connection, standing: Standing) -> None:
        self._sql = connection
        self._durable = standing
        self._standing = standing
        self._batches: list[WatchBatch] = []

    def committed(self) -> tuple[Standing, Sequence[WatchBatch]]:
        """Where the store stands now, and what changed since the last commit, oldest first."""
        self._durable = self._standing
        batches, self._batches = self._batches, []
        return self._durable, batches

    def rolled_back(self) -> None:
        """Forget what was applied since the last commit."""
        self._standing = self._durable
        self._batches = []

    def transact(
        self, compares: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[str]
    ) -> TxnResult:
        """See :meth:`controlplane.store.port.Store.transact`; sizes are checked before."""
        if not all(compare.holds(self._current(compare.key)) for compare in compares):
            reads = tuple(self._current(key) for key in otherwise)
            return TxnResult(succeeded=False, revision=self._standing.revision, reads=reads)
        for lease in {operation.lease for operation in then if isinstance(operation, Put)} - {0}:
            if not self._has_lease(lease):
                raise LeaseNotFoundError(lease)
        revision = self._standing.revision + 1
        events: list[Event] = []
        for operation in then:
            match operation:
                case Put():
                    events.append(self._put(operation, revision))
                case Delete(key=key):
                    events.extend(self._delete([encode_key(key)], revision))
                case DeletePrefix(prefix=prefix):
                    events.extend(self._delete(self._keys_under(prefix), revision))
        self._record(events)
        return TxnResult(succeeded=True, revision=self._standing.revision)

    def grant(self, lease: int, ttl_s: float) -> None:
        """Remember ``lease``."""
        self._sql.execute("INSERT INTO lease VALUES(?, ?)", (lease, ttl_s))

    def revoke(self, leases: Iterable[int]) -> None:
        """End each of ``leases`` that exists and delete its keys, in a revision for each."""
        for lease in leases:
            self._sql.execute("DELETE FROM lease WHERE id = ?", (lease,))
            keys = self._sql.execute("SELECT key FROM live WHERE lease = ? ORDER BY key", (lease,)).fetchall()
            self._record(self._delete([key for (key,) in keys], self._standing.revision + 1))

    def compact(self, revision: int) -> None:
        """Make the history before ``revision`` unreadable; :meth:`sweep` gives its space back."""
        if revision > self._standing.revision:
            raise FutureRevisionError(f"The store is at revision {self._standing.revision} only.")
        if revision <= self._standing.compacted:
            raise CompactedError(self._standing.compacted)
        self._sql.execute("UPDATE meta SET value = ? WHERE name = 'compacted'", (revision,))
        self._standing = Standing(self._standing.revision, revision)

    def sweep(self) -> bool:
        """Remove some of what compaction made unreadable; whether there may be more."""
        found = self._sql.execute(
            "SELECT revision, seq FROM garbage WHERE revision <= ? ORDER BY revision, seq LIMIT ?",
            (self._standing.compacted, _SWEEP_ROWS),
        ).fetchall()
        self._sql.executemany("DELETE FROM history WHERE seq = ?", [(seq,) for _, seq in found])
        self._sql.executemany("DELETE FROM garbage WHERE revision = ? AND seq = ?", found)
        return len(found) == _SWEEP_ROWS

    def _record(self, events: Sequence[Event]) -> None:
        if not events:
            return
        self._standing = Standing(self._standing.revision + 1, self._standing.compacted)
        self._sql.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (self._standing.revision,))
        self._batches.append(WatchBatch(tuple(events), self._standing.revision))

    def _put(self, put: Put, revision: int) -> Event:
        key = encode_key(put.key)
        previous = self._retire(key, revision)
        kv = KeyValue(
            put.key,
            put.value,
            previous.create_revision if previous else revision,
            revision,
            put.lease,
        )
        seq = self._append(key, kv, deleted=False)
        self._sql.execute("INSERT OR REPLACE INTO live VALUES(?, ?, ?)", (key, seq, put.lease))
        return Event(EventKind.PUT, kv, previous)

    def _delete(self, keys: Iterable[bytes], revision: int) -> list[Event]:
        events = []
        for key in keys:
            previous = self._retire(key, revision)
            if previous is None:
                continue
            kv = KeyValue(previous.key, b"", 0, revision)
            seq = self._append(key, kv, deleted=True)
            # What it superseded is swept first, so that nothing deleted shows up again.
            self._sql.execute("INSERT INTO garbage VALUES(?, ?)", (revision + 1, seq))
            self._sql.execute("DELETE FROM live WHERE key = ?", (key,))
            events.append(Event(EventKind.DELETE, kv, previous))
        return events

    def _retire(self, key: bytes, revision: int) -> KeyValue | None:
        """What stands at ``key``, marked as superseded by ``revision``."""
        row = self._sql.execute(
            f"SELECT {KEY_VALUE}, h.seq FROM live JOIN history h USING (seq) WHERE live.key = ?",  # noqa: S608
            (key,),
        ).fetchone()
        if row is None:
            return None
        self._sql.execute("INSERT INTO garbage VALUES(?, ?)", (revision, row[-1]))
        return key_value(row)

    def _append(self, key: bytes, kv: KeyValue, *, deleted: bool) -> int:
        cursor = self._sql.execute(
            "INSERT INTO history(key, revision, create_revision, lease, deleted, value) "
            "VALUES(?, ?, ?, ?, ?, ?)",
            (key, kv.mod_revision, kv.create_revision, kv.lease, deleted, kv.value),
        )
        return cursor.lastrowid or 0

    def _current(self, key: str) -> KeyValue | None:
        row = self._sql.execute(
            f"SELECT {KEY_VALUE} FROM live JOIN history h USING (seq) WHERE live.key = ?",  # noqa: S608
            (encode_key(key),),
        ).fetchone()
        return None if row is None else key_value(row)

    def _keys_under(self, prefix: str) -> list[bytes]:
        rows = self._sql.execute(
            "SELECT key FROM live WHERE key >= ? AND key < ? ORDER BY key", bounds(encode_prefix(prefix))
        )
        return [key for (key,) in rows.fetchall()]

    def _has_lease(self, lease: int) -> bool:
        return self._sql.execute("SELECT 1 FROM lease WHERE id = ?", (lease,)).fetchone() is not None
