"""Subjects whose certificates are refused whatever their dates: kept in memory, and acted on at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final

import structlog

from controlplane.services import keyspace
from controlplane.store.port import CompactedError, EventKind, Put, Store, StoreUnavailableError
from swarmplane.clock import Clock
from swarmplane.codec import records
from swarmplane.ids import SubjectId

_RETRY_S: Final = 0.5
log = structlog.get_logger(__name__)


def denial(subject: SubjectId, reason: str, now_s: float) -> Put:
    """The operation that denies ``subject``; it belongs into the transaction that removes it."""
    record = records.Denied(subject_id=subject, reason=reason, denied_at_s=int(now_s))
    return Put(keyspace.denied(subject), record.SerializeToString())


class Denials:
    """The deny list as a watch keeps it. Calls ask the store itself; open streams are told by this."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._denied: frozenset[SubjectId] = frozenset()
        self._streams: dict[SubjectId, set[Callable[[], None]]] = {}
        self.loaded = asyncio.Event()

    def __contains__(self, subject: object) -> bool:
        return subject in self._denied

    @contextlib.contextmanager
    def when_denied(self, subject: SubjectId, act: Callable[[], None]) -> Iterator[None]:
        """Within it, ``act`` is called once as soon as ``subject`` is denied; at once if it is already."""
        if subject in self._denied:
            act()
        acts = self._streams.setdefault(subject, set())
        acts.add(act)
        try:
            yield
        finally:
            acts.discard(act)
            if not acts and self._streams.get(subject) is acts:
                del self._streams[subject]

    async def run(self) -> None:
        """Follow the store until cancelled; while it is out of reach the last list stands."""
        while True:
            try:
                await self._follow()
            except CompactedError as error:
                log.warning("denials.overtaken", reason=error.message)
            except StoreUnavailableError as error:
                log.warning("denials.lost_store", reason=error.message)
            await self._clock.sleep(_RETRY_S)

    async def _follow(self) -> None:
        found = await self._store.range(keyspace.DENIALS)
        self._replace(frozenset(_subject(kv.key) for kv in found.items))
        self.loaded.set()
        async with self._store.watch(keyspace.DENIALS, start_revision=found.revision + 1) as batches:
            async for batch in batches:
                denied = set(self._denied)
                for event in batch.events:
                    subject = _subject(event.kv.key)
                    (denied.add if event.kind is EventKind.PUT else denied.discard)(subject)
                self._replace(frozenset(denied))

    def _replace(self, denied: frozenset[SubjectId]) -> None:
        new, self._denied = denied - self._denied, denied
        for subject in new:
            for act in tuple(self._streams.get(subject, ())):
                act()


def _subject(key: str) -> SubjectId:
    return SubjectId(keyspace.name_below(keyspace.DENIALS, key))
