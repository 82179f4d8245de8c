"""Reads that are answered while the store is out of reach: from memory, saying how old they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from controlplane.services.mirror import Mirror, place_of
from controlplane.store.port import (
    Compare,
    KeyValue,
    Operation,
    Range,
    Store,
    StoreUnavailableError,
    TxnResult,
    WatchBatch,
)
from swarmplane.clock import Clock

ASK_S: Final = 1.5
"""So long the store is asked before the picture answers."""
AGAIN_S: Final = 3.0
"""So long it is not asked again then."""


@dataclass(slots=True)
class Freshness:
    """How old what a call was told is; the oldest counts."""

    age_s: float = 0.0


FRESHNESS: Final[ContextVar[Freshness | None]] = ContextVar("freshness", default=None)
"""Set for the length of a call whose caller is told."""


class KnownStore:
    """Implements :class:`Store`; ``get`` and ``range`` of what the mirror keeps do not fail.

    Only for answers to people and for identities: whoever writes must read the store itself.
    """

    def __init__(self, store: Store, mirror: Mirror, clock: Clock) -> None:
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._ask_again_s = float("-inf")

    async def get(self, key: str) -> KeyValue | None:
        """See :class:`Store`."""
        place = place_of(key)
        if place is None:
            return await self._store.get(key)
        if self._clock.now_s() >= self._ask_again_s:
            try:
                async with asyncio.timeout(ASK_S):
                    return await self._store.get(key)
            except (StoreUnavailableError, TimeoutError) as error:
                self._fall_back(error)
        self._note()
        prefix, name = place
        return self._mirror.below(prefix).get(name)

    async def get_with_revision(self, key: str) -> tuple[KeyValue | None, int]:
        """See :class:`Store`."""
        return await self._store.get_with_revision(key)

    async def range(self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0) -> Range:
        """See :class:`Store`; from the picture, ``revision`` is the picture's own."""
        if place_of(prefix) != (prefix, ""):
            return await self._store.range(prefix, start_after=start_after, limit=limit, revision=revision)
        if self._clock.now_s() >= self._ask_again_s:
            try:
                async with asyncio.timeout(ASK_S):
                    return await self._store.range(
                        prefix, start_after=start_after, limit=limit, revision=revision
                    )
            except (StoreUnavailableError, TimeoutError) as error:
                self._fall_back(error)
        self._note()
        kept = sorted(self._mirror.below(prefix).values(), key=lambda kv: kv.key.encode())
        left = [kv for kv in kept if kv.key.encode() > start_after.encode()]
        items = tuple(left[:limit] if limit else left)
        return Range(items, self._mirror.revision, len(items) < len(left))

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Operation], *, otherwise: Sequence[str] = ()
    ) -> TxnResult:
        """See :class:`Store`."""
        return await self._store.transact(compares, then, otherwise=otherwise)

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """See :class:`Store`."""
        return await self._store.put(key, value, lease=lease)

    async def delete(self, key: str) -> bool:
        """See :class:`Store`."""
        return await self._store.delete(key)

    def watch(
        self, prefix: str, *, start_revision: int = 0
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        """See :class:`Store`."""
        return self._store.watch(prefix, start_revision=start_revision)

    async def grant(self, ttl_s: float) -> int:
        """See :class:`Store`."""
        return await self._store.grant(ttl_s)

    async def keep_alive(self, lease: int) -> bool:
        """See :class:`Store`."""
        return await self._store.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        """See :class:`Store`."""
        await self._store.revoke(lease)

    async def lease_remaining(self, lease: int) -> float | None:
        """See :class:`Store`."""
        return await self._store.lease_remaining(lease)

    async def compact(self, revision: int) -> None:
        """See :class:`Store`."""
        await self._store.compact(revision)

    async def revision(self) -> int:
        """See :class:`Store`."""
        return await self._store.revision()

    def _fall_back(self, error: Exception) -> None:
        if not self._mirror.loaded.is_set():
            if isinstance(error, StoreUnavailableError):
                raise error
            raise StoreUnavailableError(f"The store did not answer within {ASK_S:g} s.") from error
        self._ask_again_s = self._clock.now_s() + AGAIN_S

    def _note(self) -> None:
        freshness = FRESHNESS.get()
        if freshness is not None:
            freshness.age_s = max(freshness.age_s, self._mirror.age_s)
