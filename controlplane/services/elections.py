"""Elections as people see them: who holds what, since when, and who else could."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from controlplane.services import keyspace
from controlplane.services.mirror import Mirror
from controlplane.store.port import KeyValue, Store
from swarmplane.codec import records


@dataclass(frozen=True, slots=True)
class ElectionFacts:
    """One election. Without a holder nobody decides at this moment."""

    name: str
    holder: str
    epoch: int
    holder_addresses: tuple[str, ...]
    elected_at_s: int
    revision: int
    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ElectionPage:
    """Some elections, ordered by name."""

    elections: tuple[ElectionFacts, ...]
    revision: int
    last: str
    """Key after which the next page begins; empty: nothing follows."""


@dataclass(frozen=True, slots=True)
class ElectionChange:
    """An election as it stands since ``revision``; None: a bookmark."""

    revision: int
    changed: ElectionFacts | None = None


class Elections:
    """See the module."""

    def __init__(self, store: Store, mirror: Mirror) -> None:
        self._store = store
        self._mirror = mirror

    async def page(self, *, after: str, limit: int, revision: int) -> ElectionPage:
        """Elections after the key ``after``, as of ``revision`` (0: now).

        Every election that was ever held has an epoch, so vacant ones are listed too.

        Raises:
            CompactedError: ``revision`` is forgotten.
        """
        found = await self._store.range(keyspace.EPOCHS, start_after=after, limit=limit, revision=revision)
        held = await self._store.range(keyspace.ELECTIONS, revision=found.revision)
        holders = {keyspace.name_below(keyspace.ELECTIONS, kv.key): kv for kv in held.items}
        elections = tuple(self._facts(epoch, holders) for epoch in found.items)
        last = found.items[-1].key if found.more and found.items else ""
        return ElectionPage(elections, found.revision, last)

    async def watch(self, revision: int, tell: Callable[[ElectionChange], Awaitable[None]]) -> None:
        """Tell of changes from ``revision`` on, until cancelled; 0: of every election first.

        Raises:
            CompactedError: ``revision`` is forgotten.
        """
        if revision == 0:
            page = await self.page(after="", limit=0, revision=0)
            for election in page.elections:
                await tell(ElectionChange(election.revision, election))
            await tell(ElectionChange(page.revision))
            revision = page.revision + 1
        async with self._store.watch(keyspace.ELECTIONS, start_revision=revision) as batches:
            async for batch in batches:
                for event in batch.events:
                    name = keyspace.name_below(keyspace.ELECTIONS, event.kv.key)
                    held, before = event.kv if event.kv.value else None, event.previous
                    epoch = _election(held or before).epoch
                    await tell(ElectionChange(batch.revision, self._told(name, held, epoch, batch.revision)))
                if not batch.events:
                    await tell(ElectionChange(batch.revision))

    def _facts(self, epoch: KeyValue, holders: dict[str, KeyValue]) -> ElectionFacts:
        name = keyspace.name_below(keyspace.EPOCHS, epoch.key)
        count = records.parse(records.Counter, epoch.value).value
        return self._told(name, holders.get(name), count, epoch.mod_revision)

    def _told(self, name: str, held: KeyValue | None, epoch: int, revision: int) -> ElectionFacts:
        election = _election(held)
        instances = self._mirror.below(keyspace.INSTANCES)
        holder = instances.get(election.instance_id)
        addresses = (
            records.parse(records.Instance, holder.value).control_addresses if holder is not None else ()
        )
        return ElectionFacts(
            name,
            election.instance_id,
            epoch,
            tuple(addresses),
            election.elected_at_s,
            revision,
            tuple(sorted(instances)),
        )


def _election(kv: KeyValue | None) -> records.Election:
    return records.parse(records.Election, kv.value if kv is not None else b"")
