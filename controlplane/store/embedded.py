"""The store of a swarm with one control-plane instance: a SQLite file in its data directory.

One process owns the file. Writes go through one thread and are on the disk before anyone hears of them;
reads run in threads of their own. Of the history the last 1,000 revisions are always kept, and up to 10,000
while they are younger than ten minutes. Leases are durable; opening the store gives each its full time
again. Between owners nothing ends and nothing is deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from controlplane.store import limits
from controlplane.store.feed import Feed
from controlplane.store.leases import LeaseTimes
from controlplane.store.port import (
    BOOKMARK_INTERVAL_S,
    CompactedError,
    Compare,
    Delete,
    Field,
    KeyValue,
    LeaseNotFoundError,
    Operation,
    Put,
    Range,
    Relation,
    StoreUnavailableError,
    TxnResult,
    UncertainError,
    WatchBatch,
)
from controlplane.store.retention import HistoryAge, Retention
from controlplane.store.sqlite import queries
from controlplane.store.sqlite.changes import Changes, Standing
from controlplane.store.sqlite.database import Database
from controlplane.store.sqlite.readers import Readers
from controlplane.store.sqlite.writer import Writer
from swarmplane.clock import Clock
from swarmplane.errors import InvalidRequestError

_READERS: Final = 2
_BOOKMARK_EVERY_S: Final = BOOKMARK_INTERVAL_S / 2
_COMPACT_EVERY_S: Final = 10.0

log = structlog.get_logger(__name__)


class EmbeddedStore:
    """Implements :class:`controlplane.store.port.Store`. Made by :meth:`open`, for one event loop."""

    def __init__(self, database: Database, name: str, clock: Clock, retention: Retention) -> None:
        opened = database.opened
        standing = Standing(opened.revision, opened.compacted)
        self._clock = clock
        self._age = HistoryAge(retention)
        self._leases = LeaseTimes(opened.leases, clock.now_s())
        self._some_ended = asyncio.Event()
        self._readers = Readers(database.readers, name=name)
        self._feed = Feed(standing, self._history)
        self._writer = Writer(database.writer, standing, self._feed.publish, name=name)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: Path, *, clock: Clock, retention: Retention | None = None
    ) -> AsyncIterator[EmbeddedStore]:
        """The store in the file ``path``, made if there is none; closed on leaving.

        Raises:
            StoreUnavailableError: Another process has it open, or it is damaged or not accessible.
        """
        database = await _opened(path)
        try:
            store = cls(database, path.name, clock, retention or Retention())
            try:
                async with store._at_work():
                    yield store
            finally:
                await store._close()
        finally:
            await asyncio.to_thread(database.close)

    async def get(self, key: str) -> KeyValue | None:
        """See :class:`controlplane.store.port.Store`."""
        found, _ = await self.get_with_revision(key)
        return found

    async def get_with_revision(self, key: str) -> tuple[KeyValue | None, int]:
        """See :class:`controlplane.store.port.Store`."""
        return await self._readers.run(partial(queries.get, key=limits.encode_key(key)))

    async def range(self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0) -> Range:
        """See :class:`controlplane.store.port.Store`."""
        if limit < 0 or revision < 0:
            raise InvalidRequestError("A limit and a revision are 0 or more.")
        return await self._readers.run(
            partial(
                queries.list_range,
                prefix=limits.encode_prefix(prefix),
                start_after=limits.encode_prefix(start_after),
                limit=limit,
                revision=revision,
            )
        )

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Operation], *, otherwise: Sequence[str] = ()
    ) -> TxnResult:
        """See :class:`controlplane.store.port.Store`."""
        limits.check_transaction(compares, then, otherwise)
        # Copies: the thread must not see what the caller does to its lists meanwhile.
        step = (tuple(compares), tuple(then), tuple(otherwise))
        return await self._writer.submit(lambda changes: changes.transact(*step))

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """See :class:`controlplane.store.port.Store`."""
        return (await self.transact((), (Put(key, value, lease),))).revision

    async def delete(self, key: str) -> bool:
        """See :class:`controlplane.store.port.Store`."""
        there = Compare(key, Field.CREATED, 0, Relation.GREATER)
        return (await self.transact((there,), (Delete(key),))).succeeded

    @asynccontextmanager
    async def watch(
        self, prefix: str, *, start_revision: int = 0
    ) -> AsyncIterator[AsyncIterator[WatchBatch]]:
        """See :class:`controlplane.store.port.Store`."""
        if start_revision < 0:
            raise InvalidRequestError("A revision is 0 or more.")
        watch = self._feed.open(prefix, limits.encode_prefix(prefix), start_revision)
        try:
            yield watch
        finally:
            self._feed.release(watch)

    async def grant(self, ttl_s: float) -> int:
        """See :class:`controlplane.store.port.Store`."""
        limits.check_ttl(ttl_s)
        lease = secrets.randbits(62) + 1
        # Known before it is durable, so that it ends even if the caller is cancelled on the way.
        self._leases.grant(lease, ttl_s, self._clock.now_s())
        await self._writer.submit(lambda changes: changes.grant(lease, ttl_s))
        self._leases.renew(lease, self._clock.now_s())
        return lease

    async def keep_alive(self, lease: int) -> bool:
        """See :class:`controlplane.store.port.Store`."""
        self._check_open()
        return self._leases.renew(lease, self._clock.now_s())

    async def revoke(self, lease: int) -> None:
        """See :class:`controlplane.store.port.Store`."""
        self._check_open()
        # Ended at once and for good: if this fails now, the keys go as those of a lease that ran out.
        if self._leases.remaining_s(lease, self._clock.now_s()) is None or not self._leases.end(lease):
            raise LeaseNotFoundError(lease)
        await self._delete_ended((lease,))

    async def lease_remaining(self, lease: int) -> float | None:
        """See :class:`controlplane.store.port.Store`."""
        self._check_open()
        return self._leases.remaining_s(lease, self._clock.now_s())

    async def compact(self, revision: int) -> None:
        """See :class:`controlplane.store.port.Store`."""
        await self._writer.submit(lambda changes: changes.compact(revision))
        while await self._writer.submit(Changes.sweep):
            pass

    async def revision(self) -> int:
        """See :class:`controlplane.store.port.Store`."""
        self._check_open()
        return self._feed.standing.revision

    def _check_open(self) -> None:
        if self._feed.closed:
            raise StoreUnavailableError("The store is closed.")

    async def _history(self, prefix: bytes, start: int) -> queries.HistoryPage:
        return await self._readers.run(partial(queries.history, prefix=prefix, start=start))

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[None]:
        """Housekeeping runs while the body does. What the body raises is not wrapped in a group."""
        raised: BaseException | None = None
        async with asyncio.TaskGroup() as group:
            chores = (self._time_leases, self._bury_ended, self._send_bookmarks, self._forget_history)
            tasks = [group.create_task(chore(), name=f"store{chore.__name__}") for chore in chores]
            try:
                yield
            except BaseException as error:  # noqa: BLE001 - raised again below
                raised = error
            for task in tasks:
                task.cancel()
        if raised is not None:
            raise raised

    async def _close(self) -> None:
        self._feed.close()
        await self._writer.close()
        await self._readers.close()

    async def _time_leases(self) -> None:
        # Deletes nothing itself: waiting for the disk would look like a gap in which nobody could renew.
        while True:
            await self._clock.sleep(self._leases.rest_s(self._clock.now_s()))
            if self._leases.ended(self._clock.now_s()):
                self._some_ended.set()

    async def _bury_ended(self) -> None:
        while True:
            await self._some_ended.wait()
            self._some_ended.clear()
            # What fails is tried again with the next look at the clock: it stays among the ended.
            with _logged("leases"):
                await self._delete_ended(self._leases.ended(self._clock.now_s()))

    async def _delete_ended(self, leases: Sequence[int]) -> None:
        await self._writer.submit(lambda changes: changes.revoke(leases))
        for lease in leases:
            self._leases.forget(lease)

    async def _send_bookmarks(self) -> None:
        while True:
            await self._clock.sleep(_BOOKMARK_EVERY_S)
            self._feed.mark()

    async def _forget_history(self) -> None:
        while True:
            await self._clock.sleep(_COMPACT_EVERY_S)
            standing = self._feed.standing
            keep = self._age.oldest_to_keep(standing.revision, self._clock.now_s())
            if keep > standing.compacted:
                with _logged("history"), contextlib.suppress(CompactedError):
                    await self.compact(keep)


async def _opened(path: Path) -> Database:
    opening = asyncio.get_running_loop().run_in_executor(None, partial(Database, path, readers=_READERS))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_discard)
        raise


def _discard(opening: asyncio.Future[Database]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


@contextmanager
def _logged(chore: str) -> Iterator[None]:
    """Housekeeping goes on after a failure: the next round may find the disk well again."""
    try:
        yield
    except (StoreUnavailableError, UncertainError) as error:
        log.warning("store.chore_failed", chore=chore, reason=error.message)
