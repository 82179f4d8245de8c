"""Reading the embedded store without holding up the event loop."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from controlplane.store.port import StoreUnavailableError
from controlplane.store.sqlite.failures import unavailable

_READ_S: Final = 30.0

_T = TypeVar("_T")


class Readers:
    """A thread for each connection; reads beyond that wait for one that is free."""

    def __init__(self, connections: Sequence[sqlite3.Connection], *, name: str) -> None:
        self._name = name
        self._free: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        for connection in connections:
            self._free.put(connection)
        self._threads = ThreadPoolExecutor(len(connections), thread_name_prefix="store-reader")
        self._closed = False

    async def run(self, read: Callable[[sqlite3.Connection], _T]) -> _T:
        """The value of ``read``.

        Raises:
            StoreUnavailableError: The file can't be read, or not within half a minute.
        """
        if self._closed:
            raise StoreUnavailableError(f"The store {self._name} is closed.")
        try:
            async with asyncio.timeout(_READ_S):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, read)
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"The store {self._name} did not answer within {_READ_S:.0f} s: its disk is too slow."
            ) from error
        except sqlite3.Error as error:
            raise unavailable(error, self._name) from error

    async def close(self) -> None:
        """Refuse new reads and wait for those under way."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown, wait=True)

    def _read(self, read: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = self._free.get_nowait()  # There are as many as threads.
        try:
            return read(connection)
        finally:
            self._free.put(connection)
