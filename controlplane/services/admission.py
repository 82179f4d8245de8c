"""The door for connecting sidecars: the shell around :mod:`controlplane.core.admission`."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from controlplane.core.admission import (
    AdmissionPolicy,
    Answer,
    Line,
    admits,
    arrive,
    enter,
    give_up,
    leave,
)
from swarmplane.clock import Clock
from swarmplane.errors import Code, SwarmError


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

    async def place(self) -> Place:
        """A place, at once or after a wait that is bounded by the policy's patience as far as one can tell.

        Raises:
            CrowdedError: The line is full.
        """
        self._line, answer, again_s = arrive(self._line, self._clock.now_s(), self._policy, self._draw())
        if answer is Answer.LATER:
            raise CrowdedError(again_s)
        if answer is Answer.WAIT:
            await self._turn()
        return Place(self._through, self._clock)

    async def _turn(self) -> None:
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(called)
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled():
                # It was its turn in the same moment.
                self._through(self._line.each_s)
            else:
                with suppress(ValueError):
                    self._waiting.remove(called)
                self._line = give_up(self._line)
                self._call()
            raise

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
