"""The last known good table on disk: what a sidecar serves from before any instance answers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from swarmplane.clock import Clock
from swarmplane.datadir import write_atomically
from swarmplane.errors import reason_of
from swarmplane.ids import SwarmId
from swarmplane.routes import RouteTable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_MAGIC: Final = b"swarmplane table 1\n"
_DIGEST_BYTES: Final = 32
_MOST_BYTES: Final = 256 * 1024 * 1024


def load_table(path: Path, decode: Callable[[bytes], RouteTable], *, swarm: SwarmId) -> RouteTable | None:
    """The table at ``path``; None where there is none, it is damaged, or it is another swarm's. It blocks.

    A digest stands before the content: a file cut short or overwritten by chance is told from a good one
    whatever the codec would make of it.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("table.unreadable", path=str(path), reason=str(error))
        return None
    body = content[len(_MAGIC) + _DIGEST_BYTES :]
    digest = content[len(_MAGIC) : len(_MAGIC) + _DIGEST_BYTES]
    if not content.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
        log.warning("table.damaged", path=str(path), size_bytes=len(content))
        return None
    try:
        table = decode(body)
    except Exception as error:  # noqa: BLE001 - whatever a codec of another version raises
        log.warning("table.damaged", path=str(path), reason=type(error).__name__)
        return None
    if table.swarm != swarm:
        log.warning("table.of_another_swarm", path=str(path), swarm=table.swarm)
        return None
    return table


def save_table(path: Path, encode: Callable[[RouteTable], bytes], table: RouteTable) -> None:
    """Replace the table at ``path`` durably. It blocks for disk: call it in a thread."""
    body = encode(table)
    write_atomically(path, _MAGIC + hashlib.sha256(body).digest() + body)


class TableKeeper:
    """Writes the newest table to disk, one write at a time, off the loop.

    A table that is replaced while another is written is skipped unless it must be durable.
    """

    def __init__(self, path: Path, encode: Callable[[RouteTable], bytes], clock: Clock) -> None:
        self._path = path
        self._encode = encode
        self._clock = clock
        self._wanted: RouteTable | None = None
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._durable = 0
        """Durable writes that began: what waits from before the last one is older."""
        self.trouble = ""
        """Why the last try to write one failed; empty: it did not."""

    def keep(self, table: RouteTable) -> None:
        """Write ``table`` soon; :meth:`run` must be running."""
        self._wanted = table
        self._wake.set()

    async def keep_durably(self, table: RouteTable) -> None:
        """Write ``table`` and return when it is on disk: before a changed deny list is acknowledged.

        Raises:
            OSError: It could not be written; :meth:`run` tries again.
        """
        self._wanted = None
        self._durable += 1
        try:
            async with self._writing:
                await asyncio.to_thread(save_table, self._path, self._encode, table)
        except OSError as error:
            self.trouble = reason_of(error)
            self._again(table)
            raise
        self.trouble = ""

    async def run(self) -> None:
        """Write what :meth:`keep` was given, at most once a second. A full disk is said, and tried again."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()
            await self._clock.sleep(1.0)

    async def flush(self) -> None:
        """Write now what waits."""
        async with self._writing:
            table, self._wanted = self._wanted, None
            if table is None:
                return
            durable = self._durable
            try:
                await asyncio.to_thread(save_table, self._path, self._encode, table)
            except OSError as error:
                if not self.trouble:
                    log.warning("table.not_saved", path=str(self._path), reason=str(error))
                self.trouble = reason_of(error)
                if durable == self._durable:
                    self._again(table)
            else:
                self.trouble = ""

    def _again(self, table: RouteTable) -> None:
        """Write ``table`` later, unless a newer one waits."""
        self._wanted = self._wanted or table
        self._wake.set()
