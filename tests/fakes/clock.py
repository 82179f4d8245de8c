"""A clock for tests."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Final

_TURNS: Final = 10
"""How often the loop goes round after a sleeper woke: enough for what it woke to wake others in turn."""


class FakeClock:
    """Implements :class:`swarmplane.clock.Clock`; moves only when told.

    Work in threads and real sockets is not waited for: poll for its effect after moving the clock.
    """

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s
        self._sequence = 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_s(self) -> float:
        """See :class:`swarmplane.clock.Clock`."""
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        """See :class:`swarmplane.clock.Clock`; as there, no time at all still lets others run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._sequence += 1
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_s + seconds, self._sequence, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move time on, waking sleepers in deadline order and letting each run."""
        target_s = self._now_s + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= target_s:
            deadline_s, _, woken = heapq.heappop(self._sleepers)
            self._now_s = max(self._now_s, deadline_s)
            if not woken.done():
                woken.set_result(None)
            await self._settle()
        self._now_s = target_s
        await self._settle()

    async def pass_until(self, check: Callable[[], bool], *, within_s: float, step_s: float = 0.5) -> None:
        """Move on in steps, threads and sockets having a moment after each, until ``check`` holds.

        Raises:
            TimeoutError: It does not within ``within_s`` of this clock.
        """
        ends_s = self._now_s + within_s
        while not check():
            if self._now_s >= ends_s:
                raise TimeoutError(f"not within {within_s:g} s")
            await self.advance(step_s)
            await asyncio.sleep(0.02)

    async def jump(self, seconds: float) -> None:
        """Move time on as suspend does: nobody runs meanwhile, then all who are due wake at once."""
        self._now_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now_s:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
        await self._settle()

    @property
    def sleepers(self) -> int:
        """How many wait on this clock."""
        return sum(1 for _, _, woken in self._sleepers if not woken.done())

    async def _settle(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
