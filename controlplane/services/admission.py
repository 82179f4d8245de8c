"""The door for connecting sidecars: the shell around :mod:`controlplane.core.admission`."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from controlplane.core.admission import (
    AdmissionPolicy,
    Answer,
    Line,
    admits,
    arrive,
    crowded,
    enter,
    give_up,
    leave,
)
from swarmplane.clock import Clock
from swarmplane.errors import Code, SwarmError

Tell = Callable[[int], Awaitable[None]]
"""Tells one that waits how many are before it."""
TOLD_S: Final = 2.0
"""Between two words to one that waits, and before the first."""


class CrowdedError(SwarmError):
    """Too many connect at the same time: come again after ``retry_after_s``. Nothing was done."""

    default_code = Code.SATURATED

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"many sidecars connect to this instance; come again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class Place:
    """The right to be taken in. To be given back, in whatever way it ends; doing so twice is harmless."""

    def __init__(self, given_back: Callable[[float], None], clock: Clock) -> None:
        self._given_back = given_back
        self._clock = clock
        self._since_s = clock.now_s()
        self._held = True

    def give_back(self) -> None:
        """The next may come in."""
        if self._held:
            self._held = False
            self._given_back(self._clock.now_s() - self._since_s)


class Admission:
    """First come, first served. One per instance, on one event loop."""

    def __init__(
        self,
        clock: Clock,
        policy: AdmissionPolicy | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._policy = policy or AdmissionPolicy()
        self._draw = draw
        self._line = Line()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def line(self) -> Line:
        """Who is being taken in, and who waits."""
        return self._line

    @property
    def crowded(self) -> bool:
        """Whether so many come in that what can wait should."""
        return crowded(self._line, self._policy)

    async def place(self, tell: Tell | None = None) -> Place:
        """A place, at once or after a wait that is bounded by the policy's patience as far as one can tell.

        Args:
            tell: What tells whoever waits of the line, every ``TOLD_S``; None: nothing can, and its patience
                is short. What it raises ends the wait.

        Raises:
            CrowdedError: The line is full.
        """
        now_s, told = self._clock.now_s(), tell is not None
        self._line, answer, again_s = arrive(self._line, now_s, self._policy, self._draw(), told=told)
        if answer is Answer.LATER:
            raise CrowdedError(again_s)
        if answer is Answer.WAIT:
            await self._turn(tell)
        return Place(self._through, self._clock)

    async def _turn(self, tell: Tell | None) -> None:
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(called)
        came_in = False
        try:
            while not called.done():
                await asyncio.wait({called}, timeout=TOLD_S if tell is not None else None)
                if tell is not None and not called.done():
                    await tell(self._waiting.index(called))
            came_in = True
        finally:
            if not came_in:
                self._gave_up(called)

    def _gave_up(self, called: asyncio.Future[None]) -> None:
        if called.done():
            # It was its turn in the same moment.
            self._through(self._line.each_s)
            return
        called.cancel()
        with suppress(ValueError):
            self._waiting.remove(called)
        self._line = give_up(self._line)
        self._call()

    def _through(self, took_s: float) -> None:
        self._line = leave(self._line, took_s)
        self._call()

    def _call(self) -> None:
        # Of those who gave up some may still be counted, until they run.
        while self._waiting and admits(self._line, self._policy):
            called = self._waiting.popleft()
            if not called.done():
                self._line = enter(self._line)
                called.set_result(None)
