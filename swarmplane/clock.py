"""Time as shells see it. Pure code takes ``now_s`` and needs none of this."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """A source of elapsed time that counts while the machine sleeps, and of waiting."""

    def now_s(self) -> float:
        """Seconds since an arbitrary start; never goes back; counts suspend where the platform can."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` of this clock's time."""
        ...


def _suspend_aware() -> Callable[[], float]:
    # Leases must run out while a laptop sleeps (PROTOCOL section 2): Linux's CLOCK_MONOTONIC stops in
    # suspend, CLOCK_BOOTTIME does not; on macOS it is CLOCK_MONOTONIC that goes on.
    if sys.platform == "linux":
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return time.monotonic


class SystemClock:
    """The machine's clock."""

    def __init__(self) -> None:
        self.now_s = _suspend_aware()
        """See :class:`Clock`. Asked several times per request: nothing of ours stands before the system's."""

    async def sleep(self, seconds: float) -> None:
        """See :class:`Clock`."""
        await asyncio.sleep(seconds)
