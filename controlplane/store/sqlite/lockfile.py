"""One owner for a file, among all processes of a machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from controlplane.store.port import StoreUnavailableError

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        # Of the open file, not of the process: a second opening in this process is refused too.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class LockFile:
    """Holds ``path`` locked from creation to :meth:`release`, or to the end of the process however it ends.

    The file stays: removing it would let two owners hold two files of one name.

    Raises:
        StoreUnavailableError: Somebody else holds it.
        OSError: It can't be made.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _lock(self._descriptor)
        except OSError as error:
            os.close(self._descriptor)
            raise StoreUnavailableError(
                f"Another process has the store beside {path} open. A store has one owner: stop the other "
                "control plane, or give this one a data directory of its own."
            ) from error

    def release(self) -> None:
        """Let others have it. May be called once."""
        os.close(self._descriptor)
