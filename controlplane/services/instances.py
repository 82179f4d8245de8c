"""Who keeps this swarm: this instance's entry in the store, on a lease, and where all that live are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from controlplane.services import keyspace
from controlplane.services.messages import InstanceNews
from controlplane.services.mirror import Mirror
from controlplane.store.port import Store
from swarmplane.addresses import parse_address
from swarmplane.clock import Clock
from swarmplane.codec import records
from swarmplane.errors import SwarmError
from swarmplane.ids import InstanceId, SwarmId

log = structlog.get_logger(__name__)

_RETRY_S: Final = 0.5
_WITHDRAW_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What an instance says of itself."""

    id: InstanceId
    swarm: SwarmId
    swarm_name: str
    software_version: str
    control_addresses: Callable[[], Sequence[str]]
    """Asked at every use: addresses of a machine change."""
    join_addresses: Callable[[], Sequence[str]]
    local_join: str = ""
    """Where the enrolment listener is; told where it has no address for others."""
    alone: bool = True
    """Whether the store admits one process only: other instances that it lists are dead."""
    called: Callable[[], str] = str
    """By its certificate; empty: it has no name of its own. See ``Subject.name``."""
    prefix_key: bytes = field(default=b"", repr=False)
    """Of the hashes of prompts, the same at every instance of the swarm; empty: nodes hash for themselves."""


class Instances:
    """See the module. :meth:`run` keeps the entry; the rest reads memory."""

    def __init__(self, store: Store, mirror: Mirror, clock: Clock, own: InstanceFacts, ttl_s: float) -> None:
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._own = own
        self._ttl_s = ttl_s

    def addresses(self) -> InstanceNews:
        """Where those that live are, this one first."""
        others = [
            records.parse(records.Instance, kv.value)
            for name, kv in sorted(self._mirror.below(keyspace.INSTANCES).items())
            if name != self._own.id
        ]
        control = [*self._own.control_addresses(), *(a for one in others for a in one.control_addresses)]
        join = [*self._join_addresses(), *(a for one in others for a in one.join_addresses)]
        return InstanceNews(tuple(dict.fromkeys(control)), tuple(dict.fromkeys(join)))

    def others(self) -> tuple[str, ...]:
        """Control addresses of the others."""
        own = frozenset(self._own.control_addresses())
        return tuple(one for one in self.addresses().control_addresses if one not in own)

    async def run(self) -> None:
        """Keep ``instances/<id>``, as it is now, until cancelled."""
        lease, listed = 0, b""
        while True:
            try:
                if not lease or not await self._store.keep_alive(lease):
                    lease, listed = await self._store.grant(self._ttl_s), b""
                record = self._record().SerializeToString()
                if record != listed:
                    await self._store.put(keyspace.instance(self._own.id), record, lease=lease)
                    listed = record
            except SwarmError as error:
                log.warning("instance.not_listed", reason=error.message)
                lease = 0
                await self._clock.sleep(_RETRY_S)
                continue
            await self._clock.sleep(self._ttl_s / 3)

    async def withdraw(self) -> None:
        """This instance stops: others need not wait for the end of its lease."""
        with contextlib.suppress(SwarmError, TimeoutError):
            async with asyncio.timeout(_WITHDRAW_S):
                await self._store.delete(keyspace.instance(self._own.id))

    def join_addresses(self) -> tuple[str, ...]:
        """Where machines elsewhere enrol, here first; empty where this machine alone can."""
        found = self.addresses().join_addresses
        return tuple(one for one in found if not parse_address(one).loopback)

    def _join_addresses(self) -> tuple[str, ...]:
        return tuple(self._own.join_addresses()) or ((self._own.local_join,) if self._own.local_join else ())

    def _record(self) -> records.Instance:
        return records.Instance(
            id=self._own.id,
            control_addresses=self._own.control_addresses(),
            join_addresses=self._join_addresses(),
            software_version=self._own.software_version,
        )
