"""What a stream's node has, for the store: beside the stream, which an outage of the store must not end."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from controlplane.services.sessions import Session, Sessions
from controlplane.store.port import StoreUnavailableError, UncertainError
from swarmplane.clock import Clock
from swarmplane.errors import InvalidRequestError

log = structlog.get_logger(__name__)

_RETRY_S: Final = 0.5


class Keeping:
    """Writes the inventory of one session, the newest, as soon as that can be.

    Whoever reads the stream is never held up: a node whose messages nobody takes in looks silent.
    """

    def __init__(self, sessions: Sessions, session: Session, clock: Clock) -> None:
        self._sessions = sessions
        self._session = session
        self._clock = clock
        self._inventory: bytes | None = None
        self._wanted = asyncio.Event()

    def take_inventory(self, inventory: bytes) -> None:
        """The node says what it has; what it said before is void."""
        self._inventory = inventory
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled; while the store is out of reach everything is tried again.

        Raises:
            StaleEpochError: A newer session exists; the node must connect again.
            SwarmError: The store will never do it.
        """
        away = False
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._once()
            except (StoreUnavailableError, UncertainError) as error:
                if not away:
                    log.warning("inventory.not_written", node=self._session.node, reason=error.message)
                away = True
                self._wanted.set()
                await self._clock.sleep(_RETRY_S)
            else:
                away = False

    async def _once(self) -> None:
        """Do what is due; what could not be done stays due."""
        inventory = self._inventory
        if inventory is None:
            return
        try:
            await self._sessions.take_inventory(self._session, inventory)
        except InvalidRequestError as error:
            # The last good one stays: one absurd inventory must not cost the node its stream.
            log.warning("inventory.refused", node=self._session.node, reason=error.message)
        if self._inventory is inventory:
            self._inventory = None
