"""One ``swarmctl up`` for each data directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from swarmplane.datadir import DataDir, make_private
from swarmplane.errors import AlreadyExistsError, FailedPreconditionError, reason_of
from swarmplane.runtime import remove_runtime

# Windows locks bytes, and locked ones can't be read: lock one far behind the pid.
_FAR: Final = 4096


@contextlib.contextmanager
def held(data_dir: DataDir) -> Iterator[None]:
    """Hold ``data_dir`` until the end of the block; the system lets go when the process dies.

    Raises:
        AlreadyExistsError: Another process holds it; names its pid.
        FailedPreconditionError: Nothing can be written there.
    """
    descriptor = _opened(data_dir)
    try:
        if not _take(descriptor):
            raise AlreadyExistsError(
                f"this host runs already (pid {_pid_in(descriptor)}, data directory {data_dir.root}); "
                "`swarmctl status` shows it, `swarmctl down` stops it"
            )
        try:
            os.truncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, str(os.getpid()).encode())
        except OSError as error:
            raise _unusable(data_dir, error) from None
        yield
    finally:
        os.close(descriptor)


def holder(data_dir: DataDir) -> int | None:
    """Process id of the ``swarmctl up`` that holds ``data_dir``; None if nobody does."""
    try:
        descriptor = os.open(data_dir.lock, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _take(descriptor) else _pid_in(descriptor)
    finally:
        os.close(descriptor)


def forget_stale(data_dir: DataDir) -> None:
    """Remove the ``runtime.json`` of a host that was killed; one that runs keeps its own."""
    with contextlib.suppress(OSError):
        descriptor = os.open(data_dir.lock, os.O_RDWR)
        try:
            if _take(descriptor):
                remove_runtime(data_dir)
        finally:
            os.close(descriptor)


def _opened(data_dir: DataDir) -> int:
    try:
        make_private(data_dir.lock.parent)
        return os.open(data_dir.lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(data_dir, error) from None


def _unusable(data_dir: DataDir, error: OSError) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"the data directory {data_dir.root} can't be written: {reason_of(error)}; "
        "make room there, or say another with --data-dir DIR"
    )


def _take(descriptor: int) -> bool:
    if os.name == "nt":
        import msvcrt

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _pid_in(descriptor: int) -> int:
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = os.read(descriptor, 32).decode(errors="replace").strip()
    return int(text) if text.isdigit() else 0
