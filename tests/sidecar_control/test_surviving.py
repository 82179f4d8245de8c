"""A task that goes on after a group of its children failed: its time-outs must stay time-outs."""

from __future__ import annotations

import asyncio

import pytest

from swarmplane.surviving import survive


async def _fails() -> None:
    await asyncio.sleep(0)
    raise OSError("broken")


async def _caught() -> None:
    """Be cancelled by a group that waits for its children, and go on."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_fails())
    except* OSError:
        survive()


async def test_a_time_out_after_a_failed_group_is_one() -> None:
    await _caught()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(10)


async def test_old_versions_forget_what_the_group_asked_for_and_new_ones_keep_what_others_did() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    survive((3, 11, 3))
    assert task.cancelling() == 1
    survive((3, 11, 2))
    assert task.cancelling() == 0
