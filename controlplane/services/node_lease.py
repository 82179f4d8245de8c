"""The lease under which an instance's nodes stand in the store: one for all whose streams it holds."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from controlplane.store.port import Store
from swarmplane.clock import Clock
from swarmplane.errors import SwarmError

log = structlog.get_logger(__name__)

_RENEWALS: Final = 7
"""Within one time to live: whoever loses its instance has six sevenths of it left at least."""
_RETRY_S: Final = 0.5


class NodeLease:
    """Grants the lease when it is first wanted, and keeps it alive while :meth:`run` runs.

    That it lives says that this instance does. Whether a node does is for the instance to say, which writes
    down who is silent (:mod:`controlplane.services.expiry`). So the store is asked to renew once a second,
    however many nodes there are, and no node waits for the renewals of others. It is shorter than what is
    called a node's lease (``MembershipPolicy.instance_lease_s``).
    """

    def __init__(self, store: Store, clock: Clock, ttl_s: float) -> None:
        self._store = store
        self._clock = clock
        self._ttl_s = ttl_s
        self._lease = 0
        self._granting = asyncio.Lock()
        self._granted = asyncio.Event()

    def lives(self, lease: int) -> bool:
        """Whether ``lease`` is the present one, as far as is known here."""
        return lease != 0 and lease == self._lease

    async def held(self) -> int:
        """The lease; a new one where there is none, or the last one has ended.

        Raises:
            SwarmError: The store does not grant one.
        """
        async with self._granting:
            if not self._lease:
                self._lease = await self._store.grant(self._ttl_s)
                self._granted.set()
            return self._lease

    def ended(self, lease: int) -> None:
        """The store does not know ``lease`` any longer: the sessions under it are over."""
        if lease == self._lease:
            log.warning("node_lease.ended")
            self._lease = 0
            self._granted.clear()

    async def run(self) -> None:
        """Keep it alive until cancelled."""
        while True:
            await self._granted.wait()
            lease, pause_s = self._lease, self._ttl_s / _RENEWALS
            try:
                if not await self._store.keep_alive(lease):
                    self.ended(lease)
                    continue
            except SwarmError as error:
                log.warning("node_lease.not_renewed", reason=error.message)
                pause_s = _RETRY_S
            await self._clock.sleep(pause_s)
