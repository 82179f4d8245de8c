"""Bugs that someone could put into the embedded store, each one small change of its source.

``make test-mutants`` applies them one at a time to a copy and runs the suite on it: a bug that no test
notices makes it fail. The suite is the contract of every store, so what it catches here it would catch in the
façade of etcd. :mod:`tests.store.test_store_mutants` sees to it that each still fits the source.

Outcome on 2026-11-21: all 48 are caught, 41 by the conformance suite and 7, which are about a disk that
fails, pauses of a process, and what is swept or bookmarked when, by tests of the embedded store. Two were
not at first: the suite lacked a watch from just before a compaction, and a bookmark while changes wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Mutant:
    """One bug."""

    name: str
    file: str
    """Below ``controlplane/store``."""
    old: str
    """Stands there once."""
    new: str


CHANGES: Final = "sqlite/changes.py"
QUERIES: Final = "sqlite/queries.py"
WRITER: Final = "sqlite/writer.py"
ROWS: Final = "sqlite/rows.py"
FEED: Final = "feed.py"
LEASES: Final = "leases.py"
LIMITS: Final = "limits.py"
STORE: Final = "embedded.py"

MUTANTS: Final = (
    # Transactions.
    Mutant(
        "one compare of several is enough", CHANGES, "if not all(compare", "if compares and not any(compare"
    ),
    Mutant(
        "what otherwise asks for is not read",
        CHANGES,
        "reads = tuple(self._current(key) for key in otherwise)",
        "reads = tuple(None for key in otherwise)",
    ),
    Mutant("a revision for what changes nothing", CHANGES, "if not events:", "if events is None:"),
    Mutant(
        "every put makes the key anew",
        CHANGES,
        "previous.create_revision if previous else revision,",
        "revision,",
    ),
    Mutant(
        "a deleted key stays",
        CHANGES,
        'self._sql.execute("DELETE FROM live WHERE key = ?", (key,))',
        "pass",
    ),
    Mutant("a lease that is none is taken", CHANGES, "if not self._has_lease(lease):", "if lease < 0:"),
    Mutant(
        "the old lease outlives a put without one",
        CHANGES,
        "            put.lease,\n        )",
        "            put.lease or (previous.lease if previous else 0),\n        )",
    ),
    Mutant(
        "a deletion does not say what was there",
        CHANGES,
        "Event(EventKind.DELETE, kv, previous)",
        "Event(EventKind.DELETE, kv)",
    ),
    Mutant(
        "a put does not say what was there",
        CHANGES,
        "Event(EventKind.PUT, kv, previous)",
        "Event(EventKind.PUT, kv)",
    ),
    Mutant(
        "one operation too many is taken",
        LIMITS,
        "if longest > MAX_OPERATIONS:",
        "if longest > MAX_OPERATIONS + 1:",
    ),
    Mutant(
        "one operation too few is taken",
        LIMITS,
        "if longest > MAX_OPERATIONS:",
        "if longest >= MAX_OPERATIONS:",
    ),
    Mutant("put and deleted by its prefix at once", LIMITS, " or key.startswith(prefixes):", ":"),
    Mutant("put twice at once", LIMITS, "key in seen or key in deleted", "key in deleted"),
    # Reads.
    Mutant("the end of a prefix is the end of all", ROWS, "prefix_end(prefix) or _AFTER_ALL", "_AFTER_ALL"),
    Mutant(
        "a page begins with the end of the last", QUERIES, 'low = start_after + b"\\0"', "low = start_after"
    ),
    Mutant(
        "more is promised when the limit is met exactly",
        QUERIES,
        "bool(limit) and len(rows) > limit",
        "bool(limit) and len(rows) >= limit",
    ),
    Mutant(
        "the past shows the revision after it",
        QUERIES,
        "h.revision <= ? AND NOT h.deleted",
        "h.revision <= ? + 1 AND NOT h.deleted",
    ),
    Mutant(
        "the past shows what was deleted",
        QUERIES,
        "h.revision <= ? AND NOT h.deleted AND",
        "h.revision <= ? AND",
    ),
    Mutant(
        "a page of the past bears the newest revision",
        QUERIES,
        "Range(items, revision or newest, more)",
        "Range(items, newest, more)",
    ),
    Mutant(
        "the compacted revision cannot be read", QUERIES, "revision < (compacted", "revision <= (compacted"
    ),
    Mutant(
        "what is before the compacted revision can be read",
        QUERIES,
        "if revision and revision < (",
        "if revision and revision + 1 < (",
    ),
    # Compaction.
    Mutant(
        "the same revision is compacted twice",
        CHANGES,
        "if revision <= self._standing.compacted:",
        "if revision < self._standing.compacted:",
    ),
    Mutant(
        "the future is compacted",
        CHANGES,
        "if revision > self._standing.revision:",
        "if revision > self._standing.revision + 1:",
    ),
    Mutant(
        "one version too many is swept",
        CHANGES,
        "FROM garbage WHERE revision <= ?",
        "FROM garbage WHERE revision <= 1 + ?",
    ),
    Mutant("a deletion is swept with what it deleted", CHANGES, "(revision + 1, seq)", "(revision, seq)"),
    Mutant("one step of sweeping only", CHANGES, "return len(found) == _SWEEP_ROWS", "return False"),
    # Watches.
    Mutant(
        "a watch begins one revision late",
        FEED,
        "start_revision or self.standing.revision + 1)",
        "start_revision + 1 if start_revision else self.standing.revision + 1)",
    ),
    Mutant(
        "from now on is from the last change on",
        FEED,
        "start_revision or self.standing.revision + 1)",
        "start_revision or self.standing.revision)",
    ),
    Mutant(
        "a batch has the events of others",
        FEED,
        "events = tuple(event for event in batch.events if event.kv.key.startswith(self._prefix))",
        "events = batch.events if any(e.kv.key.startswith(self._prefix) for e in batch.events) else ()",
    ),
    Mutant("nobody wakes a watch", FEED, "self._woken.set()\n        elif", "pass\n        elif"),
    Mutant(
        "a batch is repeated where memory meets history",
        FEED,
        "self._next = page.through + 1",
        "self._next = page.through",
    ),
    Mutant(
        "a batch is left out where history meets memory",
        FEED,
        "self._next = page.through + 1",
        "self._next = page.through + 2",
    ),
    Mutant(
        "a batch is left out in memory",
        FEED,
        "islice(self._recent, start - oldest, None)",
        "islice(self._recent, start - oldest + 1, None)",
    ),
    Mutant(
        "a bookmark overtakes events",
        FEED,
        "if self._next <= self._feed.standing.revision:",
        "if self._next <= self._feed.standing.revision and not self._marked:",
    ),
    Mutant(
        "a watch of what is forgotten begins",
        FEED,
        "if start_revision and start_revision < self.standing.compacted:",
        "if start_revision and start_revision + 1 < self.standing.compacted:",
    ),
    Mutant("what was before is what is", QUERIES, "q.revision < h.revision", "q.revision <= h.revision"),
    # Leases.
    Mutant(
        "one key of an ended lease goes",
        CHANGES,
        "self._delete([key for (key,) in keys],",
        "self._delete([key for (key,) in keys[:1]],",
    ),
    Mutant(
        "an ended lease is back after a restart",
        CHANGES,
        'self._sql.execute("DELETE FROM lease WHERE id = ?", (lease,))',
        "pass",
    ),
    Mutant(
        "a lease that ended is renewed",
        LEASES,
        "if self._deadlines.get(lease, now_s) <= now_s:",
        "if lease not in self._ttls:",
    ),
    Mutant(
        "renewing does nothing",
        LEASES,
        "self._deadlines[lease] = now_s + self._ttls[lease]\n        return True",
        "return True",
    ),
    Mutant(
        "no lease is durable",
        CHANGES,
        'self._sql.execute("INSERT INTO lease VALUES(?, ?)", (lease, ttl_s))',
        "pass",
    ),
    Mutant(
        "leases do not outlive a pause of the process",
        LEASES,
        "if gap_s > _TOLERATED_GAP_S:",
        "if gap_s > 1e9:",
    ),
    Mutant("a pause counts twice", LEASES, "at_s + gap_s for", "at_s + 2 * gap_s for"),
    Mutant(
        "a lease is revoked twice",
        STORE,
        "            raise LeaseNotFoundError(lease)\n        await self._delete_ended",
        "            pass\n        await self._delete_ended",
    ),
    # Commits.
    Mutant(
        "acknowledged before watches are told",
        WRITER,
        "        self._publish(standing, batches)\n        for job in group:\n"
        "            self._room.release()\n"
        "            job.deliver()",
        "        for job in group:\n            self._room.release()\n            job.deliver()\n"
        "        self._loop.call_later(0.2, self._publish, standing, batches)",
    ),
    Mutant(
        "the revision is kept when a commit fails",
        CHANGES,
        "        self._standing = self._durable\n        self._batches = []",
        "        self._batches = []",
    ),
    Mutant(
        "events are kept when a commit fails",
        CHANGES,
        "        self._standing = self._durable\n        self._batches = []",
        "        self._standing = self._durable",
    ),
    Mutant("refused and made all the same", WRITER, "job.error = refusal", "job.value = None"),
)
