"""The embedded store's file: its tables, how it is opened, and who may open it.

``history`` holds every version of every key that is not compacted; ``seq`` rises with the revision and gives
the order within one. ``live`` points at the newest version of each key that exists. ``garbage`` names the
versions that nobody needs once the history before ``revision`` is forgotten, so that compaction touches only
what it removes.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controlplane.store.port import StoreUnavailableError
from controlplane.store.sqlite.failures import unavailable
from controlplane.store.sqlite.lockfile import LockFile

_APPLICATION_ID: Final = 0x53574D50  # "SWMP"
_FORMAT: Final = 1
_BUSY_S: Final = 5.0
_SCHEMA: Final = f"""
    BEGIN;
    CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE history(
        seq INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        revision INTEGER NOT NULL,
        create_revision INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        value BLOB NOT NULL
    );
    CREATE UNIQUE INDEX history_by_key ON history(key, revision);
    CREATE INDEX history_by_revision ON history(revision);
    CREATE TABLE live(key BLOB PRIMARY KEY, seq INTEGER NOT NULL, lease INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX live_by_lease ON live(lease) WHERE lease != 0;
    CREATE TABLE garbage(revision INTEGER, seq INTEGER, PRIMARY KEY(revision, seq)) WITHOUT ROWID;
    CREATE TABLE lease(id INTEGER PRIMARY KEY, ttl_s REAL NOT NULL);
    INSERT INTO meta VALUES('revision', 1), ('compacted', 0);
    PRAGMA application_id = {_APPLICATION_ID};
    PRAGMA user_version = {_FORMAT};
    COMMIT;
"""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was found in the file."""

    revision: int
    compacted: int
    leases: Mapping[int, float]
    """Time to live in seconds by lease."""


class Database:
    """The file at ``path``, locked for this object alone, made if it was not there. Opening it blocks.

    Raises:
        StoreUnavailableError: It is in use, damaged, not ours, newer than this version or not accessible.
    """

    def __init__(self, path: Path, *, readers: int) -> None:
        with ExitStack() as stack:
            try:
                lock = _claim(path)
                stack.callback(lock.release)
                self.writer = _connect(path)
                stack.callback(self.writer.close)
                self.opened = _prepare(self.writer, path)
                self.readers = tuple(_connect(path) for _ in range(readers))
                for reader in self.readers:
                    stack.callback(reader.close)
                    reader.execute("PRAGMA query_only = ON")
            except sqlite3.Error as error:
                raise unavailable(error, str(path)) from error
            except OSError as error:
                raise StoreUnavailableError(
                    f"The store {path} can't be used ({error.strerror}): check that its directory belongs to "
                    "the user who runs this and that the disk is not full."
                ) from error
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Close all connections, the writer's last: that folds the log into the file. It blocks."""
        self._stack.close()


def _claim(path: Path) -> LockFile:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = LockFile(path.with_name(f"{path.name}.lock"))
    try:
        # SQLite would make it with the umask's rights, and gives its log the rights of this file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError:
        lock.release()
        raise
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        # FULL: a commit is on the disk before anyone hears of it. fullfsync: on macOS too, where fsync alone
        # only reaches the drive's cache.
        for setting in ("synchronous = FULL", "fullfsync = ON", "journal_size_limit = 67108864"):
            connection.execute(f"PRAGMA {setting}")
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> Opened:
    """Check that the file is ours and whole, make the tables in an empty one, and read where it stands."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and _pragma(connection, "application_id") != _APPLICATION_ID:
        raise StoreUnavailableError(f"The file {path} is not a store of ours: move it away.")
    if tables and _pragma(connection, "user_version") != _FORMAT:
        raise StoreUnavailableError(f"The store {path} was written by a newer version: install that one.")
    if _pragma(connection, "journal_mode = WAL") != "wal":
        raise StoreUnavailableError(f"The store {path} is on a disk without shared memory: use a local one.")
    if not tables:
        connection.executescript(_SCHEMA)
    if (found := _pragma(connection, "quick_check(1)")) != "ok":
        raise StoreUnavailableError(f"The store {path} is damaged ({found}): keep it and restore a backup.")
    meta = dict(connection.execute("SELECT name, value FROM meta"))
    leases = dict(connection.execute("SELECT id, ttl_s FROM lease"))
    return Opened(meta["revision"], meta["compacted"], leases)


def _pragma(connection: sqlite3.Connection, text: str) -> int | str:
    with closing(connection.execute(f"PRAGMA {text}")) as rows:
        found: int | str = rows.fetchone()[0]
    return found
