"""Where others reach this instance: looked up now and then, as the addresses of a machine change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from swarmplane.clock import Clock

EVERY_S: Final = 10.0
log = structlog.get_logger(__name__)

Addresses = tuple[str, ...]


class Whereabouts:
    """Addresses of both listeners, most preferred first; empty: this machine alone reaches them.

    ``look`` finds those of the control and of the join listener; it blocks, and is called at once.
    """

    def __init__(self, look: Callable[[], tuple[Addresses, Addresses]], clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self.control, self.join = look()

    async def run(self) -> None:
        """Until cancelled. A machine without a network keeps the addresses it had: it may get them again."""
        while True:
            await self._clock.sleep(EVERY_S)
            control, join = await asyncio.to_thread(self._look)
            if (control, join) == (self.control, self.join) or (self.control and not control):
                continue
            self.control, self.join = control, join
            log.info("instance.moved", control=control, join=join)
