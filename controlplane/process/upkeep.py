"""What an instance does for itself while it serves: renew its certificates, trim the audit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from controlplane.rpc.server import LiveCertificate
from controlplane.services.audit import trim_audit
from controlplane.services.authority import SwarmAuthority
from controlplane.services.callers import Callers
from controlplane.services.founding import ADMIN_NAME
from controlplane.services.own_credentials import own_credential, renew_admin_credential
from controlplane.store.port import Compare, Store
from swarmplane.clock import Clock
from swarmplane.credentials.names import user_subject
from swarmplane.datadir import DataDir
from swarmplane.errors import SwarmError

EVERY_S = 600.0
SOON_S = 30.0
log = structlog.get_logger(__name__)


class Upkeep:
    """See the module. A failure is logged and tried again; nothing here stops an instance.

    What is the whole swarm's is the controller's: ``guards`` are conditions of its writes, None elsewhere.
    """

    def __init__(
        self,
        store: Store,
        authority: SwarmAuthority,
        data_dir: DataDir,
        certificate: LiveCertificate,
        *,
        clock: Clock,
        unix_s: Callable[[], float],
        every_s: float | None = None,
        guards: Callable[[], Sequence[Compare] | None] = tuple,
    ) -> None:
        self._store = store
        self._authority = authority
        self._data_dir = data_dir
        self._certificate = certificate
        self._clock = clock
        self._unix_s = unix_s
        # A certificate that lives for minutes must be looked at more often than one that lives for days.
        life_s = authority.certificate_life_s
        self._every_s = min(EVERY_S, life_s / 10) if every_s is None else every_s
        self._guards = guards

    async def run(self) -> None:
        """Until cancelled."""
        # A host gets its node after its first instance has begun: soon the instance is called as that is.
        rest_s = min(SOON_S, self._every_s)
        while True:
            try:
                await self.once()
            except (SwarmError, OSError) as error:
                log.warning("upkeep.failed", reason=str(error))
            await self._clock.sleep(rest_s)
            rest_s = self._every_s

    async def once(self) -> None:
        """Do what is due now."""
        now_s = self._unix_s()
        credential = await asyncio.to_thread(own_credential, self._authority, self._data_dir, now_s)
        self._certificate.replace(credential)
        if await self._admin_is_known():
            await asyncio.to_thread(
                renew_admin_credential, self._authority, self._data_dir, ADMIN_NAME, now_s
            )
        guards = self._guards()
        trimmed = await trim_audit(self._store, now_s, guards=guards) if guards is not None else 0
        if trimmed:
            log.info("audit.trimmed", records=trimmed)

    async def _admin_is_known(self) -> bool:
        """Whether the founder's admin may still be renewed: not after somebody removed it."""
        callers = Callers(self._store, self._authority.swarm)
        try:
            await callers.identify(user_subject(ADMIN_NAME, self._authority.swarm))
        except SwarmError:
            return False
        return True
