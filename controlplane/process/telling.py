"""The admin credential of this host names every instance, so that people are not lost with this one."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from controlplane.services import keyspace
from controlplane.services.authority import SwarmAuthority
from controlplane.services.control import ControlService
from controlplane.services.mirror import Turn
from controlplane.services.own_credentials import tell_addresses
from swarmplane.datadir import DataDir
from swarmplane.errors import SwarmError

log = structlog.get_logger(__name__)
_LEAST_S: Final = 1.0


class Telling:
    """Writes the addresses where they changed; this instance's own first."""

    def __init__(
        self, control: ControlService, authority: SwarmAuthority, data_dir: DataDir, local: str
    ) -> None:
        self._instances = control.instances
        self._authority = authority
        self._data_dir = data_dir
        self._local = local
        self._changed = asyncio.Event()
        control.mirror.subscribe(self._turn)

    async def run(self) -> None:
        """Until cancelled; what can't be written is said, and tried at the next change."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.once()
            except (OSError, SwarmError) as error:
                log.warning("addresses.not_written", reason=str(error))
            await asyncio.sleep(_LEAST_S)

    async def once(self) -> None:
        """Write them as they are now.

        Raises:
            OSError: They can't be written.
        """
        addresses = (self._local, *self._instances.others())
        await asyncio.to_thread(tell_addresses, self._authority, self._data_dir, addresses)

    def _turn(self, turn: Turn) -> None:
        if any(change.prefix == keyspace.INSTANCES for change in turn.changes):
            self._changed.set()
