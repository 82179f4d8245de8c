"""The store's small facts in memory, kept by one watch: what controllers and pushes decide from.

Nothing here decides. Subscribers are told of every change in the order of revisions, and may read the whole
picture of the revision they are told of at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import structlog

from controlplane.services import keyspace
from controlplane.store.port import (
    CompactedError,
    EventKind,
    KeyValue,
    Store,
    StoreUnavailableError,
    WatchBatch,
)
from swarmplane.clock import Clock
from swarmplane.codec import records

log = structlog.get_logger(__name__)

_KEPT: Final = (
    keyspace.SWARM,
    keyspace.NODES,
    keyspace.MEMBERS,
    keyspace.INVENTORIES,
    keyspace.ROUTES,
    keyspace.DENIALS,
    keyspace.POLICIES,
    keyspace.MODELS,
    keyspace.ALIASES,
    keyspace.PULLS,
    keyspace.KEYS,
    keyspace.INSTANCES,
    keyspace.DOUBTS,
    keyspace.ELECTIONS,
    keyspace.EPOCHS,
    keyspace.OPERATIONS,
    keyspace.PEOPLE,
)
_PAGE: Final = 500
_HISTORY: Final = 1_000
_HISTORY_S: Final = 2.0
_RETRY_S: Final = 0.5
_CATCH_UP_S: Final = 2.0
_RELIST_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Change:
    """One key changed. With neither before nor after it was deleted before this instance looked."""

    prefix: str
    name: str
    """The key without its prefix."""
    revision: int
    before: KeyValue | None
    after: KeyValue | None


@dataclass(frozen=True, slots=True)
class Turn:
    """The picture moved to ``revision``. ``loading``: over several revisions at once."""

    revision: int
    changes: tuple[Change, ...]
    loading: bool = False


class Mirror:
    """See the module. :meth:`run` keeps it; everything else only reads memory."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._kept: dict[str, dict[str, KeyValue]] = {prefix: {} for prefix in _KEPT}
        self._subscribers: list[Callable[[Turn], None]] = []
        self._moved = asyncio.Event()
        self.loaded = asyncio.Event()
        self.revision = 0
        self.horizon = 0
        """From this revision on every deletion was told."""
        self.generation = 0
        self._heard_s = clock.now_s()
        self.outages = 0
        """How often the store was out of reach."""

    def below(self, prefix: str) -> Mapping[str, KeyValue]:
        """What stands below one of the kept prefixes, by name; a view that changes."""
        return MappingProxyType(self._kept[prefix])

    def subscribe(self, act: Callable[[Turn], None]) -> None:
        """Call ``act`` after every move of the picture. Subscribe before :meth:`run` starts."""
        self._subscribers.append(act)

    async def reached(self, revision: int) -> None:
        """Wait until the picture is of ``revision`` or later."""
        while self.revision < revision:
            await self._moved.wait()

    async def caught_up(self, revision: int) -> None:
        """Wait until the picture is of ``revision``, two seconds at most: it may hold nothing of ours."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CATCH_UP_S):
                await self.reached(revision)

    @property
    def age_s(self) -> float:
        """Seconds since the store last said that this picture is whole."""
        return max(0.0, self._clock.now_s() - self._heard_s)

    async def run(self) -> None:
        """Follow the store until cancelled; while it is out of reach the last picture stands.

        Once a minute everything is listed anew: whatever an event missed is healed by then.
        """
        fresh = False
        while True:
            try:
                if not fresh:
                    await self._load()
                    fresh = True
                async with asyncio.timeout(_RELIST_S):
                    await self._follow()
            except TimeoutError:
                fresh = False
            except CompactedError as error:
                # Listing takes longer than somebody keeps the past; at full speed it would be no better.
                fresh = False
                log.warning("mirror.overtaken", reason=error.message)
                await self._clock.sleep(_RETRY_S)
            except StoreUnavailableError as error:
                self.outages += 1
                log.warning("mirror.lost_store", reason=error.message)
                await self._clock.sleep(_RETRY_S)

    async def _load(self) -> None:
        generation, revision = await self._store.get_with_revision(keyspace.GENERATION)
        found = {prefix: await self._listed(prefix, revision) for prefix in _KEPT}
        removed: list[Change] = []
        if not self.loaded.is_set():
            removed = await self._history(revision, found)
        self._set_generation(generation)
        changes = [*removed, *self._differences(found, revision)]
        changes.sort(key=lambda change: change.revision)
        self._kept = found
        self._move(Turn(revision, tuple(changes), loading=True))
        self.loaded.set()

    async def _listed(self, prefix: str, revision: int) -> dict[str, KeyValue]:
        items: dict[str, KeyValue] = {}
        after, more = "", True
        while more:
            page = await self._store.range(prefix, start_after=after, limit=_PAGE, revision=revision)
            items.update((kv.key[len(prefix) :], kv) for kv in page.items)
            after, more = (page.items[-1].key if page.items else ""), page.more
        return items

    def _differences(self, found: dict[str, dict[str, KeyValue]], revision: int) -> Iterator[Change]:
        for prefix, items in found.items():
            old = self._kept[prefix]
            for name, kv in items.items():
                before = old.get(name)
                if before is None or before.mod_revision != kv.mod_revision:
                    yield Change(prefix, name, kv.mod_revision, before, kv)
            for name, kv in old.items():
                if name not in items:
                    # When exactly is not known; late is safe: whoever asks from before is told.
                    yield Change(prefix, name, revision, kv, None)

    async def _history(self, revision: int, found: Mapping[str, Mapping[str, KeyValue]]) -> list[Change]:
        """Deletions shortly before we came: a sidecar that resumes is told of them without a snapshot."""
        start = max(1, revision - _HISTORY)
        try:
            deleted = await self._deleted(start, revision)
        except TimeoutError:
            # Not knowing of deletions costs a snapshot where a difference would have done.
            start, deleted = revision + 1, {}
        except CompactedError as error:
            start = error.revision
            try:
                deleted = await self._deleted(start, revision)
            except (CompactedError, TimeoutError):
                start, deleted = revision + 1, {}
        self.horizon = start - 1
        return [
            Change(prefix, name, at, None, None)
            for (prefix, name), at in deleted.items()
            if name not in found[prefix]
        ]

    async def _deleted(self, start: int, end: int) -> dict[tuple[str, str], int]:
        deleted: dict[tuple[str, str], int] = {}
        if start >= end:
            return deleted
        async with asyncio.timeout(_HISTORY_S), self._store.watch("", start_revision=start) as batches:
            async for batch in batches:
                if batch.revision > end:
                    break
                for event in batch.events:
                    place = place_of(event.kv.key)
                    if place is not None and event.kind is EventKind.DELETE:
                        deleted[place] = batch.revision
                if batch.revision == end:
                    break
        return deleted

    async def _follow(self) -> None:
        async with self._store.watch("", start_revision=self.revision + 1) as batches:
            async for batch in batches:
                self._apply(batch)

    def _apply(self, batch: WatchBatch) -> None:
        changes: list[Change] = []
        for event in batch.events:
            kv = event.kv if event.kind is EventKind.PUT else None
            if event.kv.key == keyspace.GENERATION:
                self._set_generation(kv)
            place = place_of(event.kv.key)
            if place is None:
                continue
            prefix, name = place
            items = self._kept[prefix]
            changes.append(Change(prefix, name, batch.revision, items.pop(name, None), kv))
            if kv is not None:
                items[name] = kv
        self._move(Turn(max(batch.revision, self.revision), tuple(changes)))

    def _set_generation(self, kv: KeyValue | None) -> None:
        # A store that was founded has one; 1 is what founding writes.
        self.generation = records.parse(records.Counter, kv.value).value if kv is not None else 1

    def _move(self, turn: Turn) -> None:
        self.revision = turn.revision
        self._heard_s = self._clock.now_s()
        for act in self._subscribers:
            act(turn)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


def place_of(key: str) -> tuple[str, str] | None:
    """The kept prefix that ``key`` is below, and the rest of it; None: it is not kept."""
    prefix = next((prefix for prefix in _KEPT if key.startswith(prefix)), None)
    return None if prefix is None else (prefix, key[len(prefix) :])
