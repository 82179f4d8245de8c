"""A whole copy of an embedded store's file, as of one moment, also while its owner writes to it."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from controlplane.store.port import StoreUnavailableError
from controlplane.store.sqlite.failures import unavailable


def snapshot(path: Path) -> bytes:
    """The store in ``path``, complete, in one file. It blocks, and needs the file's size again beside it.

    Raises:
        StoreUnavailableError: There is none, or it can't be read.
    """
    if not path.is_file():
        raise StoreUnavailableError(f"There is no store {path}.")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".snapshot.") as scratch:
            copy = Path(scratch) / "store.db"
            with (
                closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
                # Its log would be a second file.
                target.execute("PRAGMA journal_mode = DELETE")
            return copy.read_bytes()
    except sqlite3.Error as error:
        raise unavailable(error, str(path)) from error
