"""A task that goes on after a group of its children failed."""

from __future__ import annotations

import asyncio
import sys

_REPAIRED = (3, 11, 3)
"""From here on a time-out compares with the requests for cancellation that there were when it began."""


def survive(version: tuple[int, ...] = sys.version_info[:3]) -> None:
    """Say that the running task goes on; call it where the error of an ``asyncio.TaskGroup`` is caught.

    A group whose child fails while the others are waited for cancels its own task and never takes that back.
    Before Python 3.11.3 (Debian 12 has 3.11.2) every ``asyncio.timeout`` of that task then ends in
    ``CancelledError`` instead of ``TimeoutError``, which ends the task without a word.

    Args:
        version: Of Python.
    """
    task = asyncio.current_task()
    if task is None or version >= _REPAIRED:
        return
    if task.cancelling():
        # Once, as the group did: who else wants it cancelled still does.
        task.uncancel()
