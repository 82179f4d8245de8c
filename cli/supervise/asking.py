"""Asking a host that runs to stop or to start anew, and waiting until it did."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from cli.supervise.lock import forget_stale, holder
from cli.supervise.stopping import Wish, request
from swarmplane.datadir import DataDir
from swarmplane.errors import FailedPreconditionError, UnavailableError
from swarmplane.runtime import Runtime, read_runtime

_POLL_S: Final = 0.1
_GRACE_S: Final = 30.0
"""For all that is not the drain of running requests."""


async def stop_host(data_dir: DataDir, drain_s: float) -> int | None:
    """Stop the host of ``data_dir``; its process id, or None if it did not run.

    Raises:
        UnavailableError: It does not end.
        FailedPreconditionError: It is another user's.
    """
    pid = holder(data_dir)
    if pid is None:
        forget_stale(data_dir)
        return None
    _ask(data_dir, pid, Wish.STOP)
    try:
        async with asyncio.timeout(drain_s + _GRACE_S):
            while holder(data_dir) is not None:  # noqa: ASYNC110 - another process's lock
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise UnavailableError(f"the host (pid {pid}) still finishes requests") from None
    return pid


async def restart_host(data_dir: DataDir, pid: int, drain_s: float) -> Runtime:
    """Make the host of ``data_dir``, which runs as ``pid``, start anew; what it is then.

    Raises:
        FailedPreconditionError: It ended instead, or it is another user's.
        UnavailableError: It is not ready in time.
    """
    before = read_runtime(data_dir)
    _ask(data_dir, pid, Wish.RESTART)
    try:
        async with asyncio.timeout(drain_s + 2 * _GRACE_S):
            while True:
                after = read_runtime(data_dir)
                if after is not None and (before is None or after.pids != before.pids) and not after.draining:
                    return after
                if holder(data_dir) is None:
                    raise FailedPreconditionError("the host ended; `swarmctl up` says why")
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise UnavailableError(f"the host (pid {pid}) is not ready yet") from None


def _ask(data_dir: DataDir, pid: int, wish: Wish) -> None:
    try:
        with contextlib.suppress(ProcessLookupError):
            request(data_dir, pid, wish)
    except PermissionError:
        raise FailedPreconditionError(f"the host (pid {pid}) is another user's; act as that user") from None
