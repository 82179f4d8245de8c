"""SQLite's errors in words that say what to do."""

from __future__ import annotations

import sqlite3
from typing import Final

from controlplane.store.port import StoreUnavailableError, UncertainError

_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REFUSED: Final = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_AUTH,
}


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension; -1 for an error of the Python module itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else int(code) & 0xFF


def unavailable(error: sqlite3.Error, name: str) -> StoreUnavailableError:
    """``error`` for callers; ``name`` is how they know the store's file."""
    code = primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        advice = "The disk that holds it is full: free some space; it goes on by itself then."
    elif code in _DAMAGED:
        advice = (
            "The file is damaged or is not a store of ours. Stop the control plane, keep the file, and put a "
            "backup in its place."
        )
    elif code in _REFUSED:
        advice = "It can't be read or written: check that its directory belongs to the user who runs this."
    elif code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        advice = "Another program keeps the file locked: close it."
    elif code == sqlite3.SQLITE_IOERR:
        advice = "Its disk reports errors: check it and the system's log, then restart the control plane."
    else:
        advice = "Restart the control plane; if it happens again, please report it."
    return StoreUnavailableError(f"The store {name} can't be used ({error}). {advice}", store=name)


def is_lasting(error: sqlite3.Error) -> bool:
    """Whether what is in memory and what is on disk may differ from now on, until the file is opened anew."""
    return primary_code(error) in _DAMAGED | {sqlite3.SQLITE_IOERR}


def at_commit(error: sqlite3.Error, name: str) -> StoreUnavailableError | UncertainError:
    """``error`` of a COMMIT. A failed sync may have reached the disk or not; a full disk has not."""
    if primary_code(error) == sqlite3.SQLITE_IOERR:
        return UncertainError(
            f"The store {name} could not confirm a write ({error}), which may or may not be there after a "
            "restart. Check the disk and the system's log, then restart the control plane.",
            store=name,
        )
    return unavailable(error, name)
