"""The controller's epoch: what it writes names it, so that a superseded controller changes nothing."""

from __future__ import annotations

from typing import Final

from controlplane.services import keyspace
from controlplane.store.port import Compare, Put, Store, modified
from swarmplane.codec import records
from swarmplane.errors import ConflictError, StaleEpochError

GROUP: Final = "controller"
_TRIES: Final = 8


class Fence:
    """Taken once with :meth:`take`; every write of the controller carries :attr:`compare`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = keyspace.epoch(GROUP)
        self._revision = 0
        self.epoch = 0

    async def take(self) -> None:
        """Raise the epoch: from now on this controller's writes count, and no other's.

        Raises:
            ConflictError: Others kept taking it.
        """
        for _ in range(_TRIES):
            kv = await self._store.get(self._key)
            counter = records.parse(records.Counter, kv.value if kv is not None else b"")
            counter.value += 1
            done = await self._store.transact(
                [modified(self._key, kv.mod_revision if kv is not None else 0)],
                [Put(self._key, counter.SerializeToString())],
            )
            if done.succeeded:
                self._revision, self.epoch = done.revision, counter.value
                return
        raise ConflictError("other controllers keep taking the epoch")

    @property
    def compare(self) -> Compare:
        """The condition of every write."""
        return modified(self._key, self._revision)

    async def check(self) -> None:
        """After a write whose conditions failed: whether it was the epoch.

        Raises:
            StaleEpochError: Another controller took over.
        """
        kv = await self._store.get(self._key)
        if kv is None or kv.mod_revision != self._revision:
            raise StaleEpochError("another controller took over; this one must stop")
