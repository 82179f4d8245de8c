"""A host that changes networks: its peer listener and what others are told follow its address."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from sidecar.process.reach import Reach
from swarmplane.errors import SwarmError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LOOK_S: Final = 30.0


class Roaming:
    """Looks now and then whether this host is still reached where it listens, and moves if it is not.

    Args:
        reach: Where it listens now.
        find: Where it should; None while no way to the control plane is known, which is no reason to move.
        move: Listen there and tell others. What fails is said and tried again.
        look_s: Between two looks.
    """

    def __init__(
        self,
        reach: Reach,
        find: Callable[[], Awaitable[Reach | None]],
        move: Callable[[Reach], Awaitable[None]],
        *,
        look_s: float = LOOK_S,
    ) -> None:
        self._reach = reach
        self._find = find
        self._move = move
        self._look_s = look_s
        self._asked = asyncio.Event()

    def look_soon(self) -> None:
        """The way to the control plane may have changed: look now."""
        self._asked.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._look_s):
                    await self._asked.wait()
            except TimeoutError:
                log.debug("reach.looked", after_s=self._look_s)
            self._asked.clear()
            await self.look()

    async def look(self) -> None:
        """Move now, if this host's address has changed."""
        found = await self._find()
        if found is None or found == self._reach:
            return
        try:
            await self._move(found)
        except (SwarmError, OSError) as error:
            log.warning("reach.not_moved", to=str(found.bind), reason=str(error))
            return
        log.info("reach.moved", before=list(self._reach.hosts), now=list(found.hosts))
        self._reach = found
