"""The one thread that changes the embedded store, and how the event loop talks to it."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from controlplane.store.port import StoreUnavailableError, UncertainError, WatchBatch
from controlplane.store.sqlite.changes import Changes, Standing
from controlplane.store.sqlite.failures import at_commit, is_lasting, unavailable
from swarmplane.errors import SwarmError

MAX_WAITING: Final = 1_024
"""Writes under way at once; further callers wait for their turn."""
_GROUP: Final = 64
"""Writes that may share one commit, and so one sync of the disk."""
_TURN_S: Final = 10.0
_COMMIT_S: Final = 30.0
_STOP_S: Final = 30.0

_T = TypeVar("_T")
Publish = Callable[[Standing, Sequence[WatchBatch]], None]


@dataclass(slots=True)
class _Job:
    """A change to make. The thread sets one of ``value`` and ``error``, the loop passes it on."""

    work: Callable[[Changes], Any]
    waiter: asyncio.Future[Any]
    value: Any = None
    error: SwarmError | None = None

    def deliver(self) -> None:
        if self.waiter.done():  # Whoever waited was cancelled or gave up.
            return
        if self.error is None:
            self.waiter.set_result(self.value)
        else:
            self.waiter.set_exception(self.error)


class Writer:
    """Makes changes one after another, durably, in groups that share a commit.

    ``publish`` is called on the loop after each commit, before those who asked for its changes hear of it.
    Made and used on one event loop.
    """

    def __init__(
        self, connection: sqlite3.Connection, standing: Standing, publish: Publish, *, name: str
    ) -> None:
        self._sql = connection
        self._changes = Changes(connection, standing)
        self._publish = publish
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._broken: SwarmError | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def submit(self, work: Callable[[Changes], _T]) -> _T:
        """Run ``work`` in the thread and return its value once it is on the disk.

        Raises:
            StoreUnavailableError: Nothing was changed.
            UncertainError: It may or may not be changed. So too if the caller is cancelled.
            SwarmError: Whatever ``work`` refused with.
        """
        try:
            async with asyncio.timeout(_TURN_S):
                await self._room.acquire()
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"The store {self._name} has too many writes waiting: its disk is too slow. Try again."
            ) from error
        if self._closed:
            self._room.release()
            raise StoreUnavailableError(f"The store {self._name} is closed.")
        waiter: asyncio.Future[_T] = self._loop.create_future()
        self._jobs.put(_Job(work, waiter))
        try:
            async with asyncio.timeout(_COMMIT_S):
                return await waiter
        except TimeoutError as error:
            raise UncertainError(
                f"The store {self._name} did not confirm a write within {_COMMIT_S:.0f} s; it may come yet."
            ) from error

    async def close(self) -> None:
        """Refuse new changes, finish those under way, end the thread."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, _STOP_S)
        # The last commits' outcomes stand in the loop's queue already: let them reach who waits.
        await asyncio.sleep(0)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            job = self._jobs.get()
            group: list[_Job] = []
            while job is not None:
                group.append(job)
                if len(group) == _GROUP or self._jobs.empty():
                    break
                job = self._jobs.get_nowait()
            stopping = job is None
            if group:
                self._make(group)

    def _make(self, group: Sequence[_Job]) -> None:
        error = self._broken or self._commit(group)
        if error is not None:
            for job in group:
                job.error = error
        standing, batches = self._changes.committed()
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(self._finish, group, standing, batches)

    def _commit(self, group: Sequence[_Job]) -> SwarmError | None:
        """Make all of ``group`` in one transaction; why none of it was made, if so."""
        committing = False
        try:
            self._sql.execute("BEGIN IMMEDIATE")
            for job in group:
                try:
                    job.value = job.work(self._changes)
                except SwarmError as refusal:
                    job.error = refusal
            committing = True
            self._sql.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            failure = (at_commit if committing else unavailable)(error, self._name)
            if is_lasting(error):
                self._broken = unavailable(error, self._name)
            return failure
        except Exception as error:  # noqa: BLE001 - a bug in one change must not end the only writer
            self._roll_back()
            return StoreUnavailableError(f"The store could not make a change ({error!r}). Please report it.")
        return None

    def _roll_back(self) -> None:
        self._changes.rolled_back()
        if self._sql.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._sql.execute("ROLLBACK")

    def _finish(self, group: Sequence[_Job], standing: Standing, batches: Sequence[WatchBatch]) -> None:
        self._publish(standing, batches)
        for job in group:
            self._room.release()
            job.deliver()
