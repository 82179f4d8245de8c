"""The store that the settings name, opened, and whose it is on this host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from controlplane.process.moving import check_not_given_up
from controlplane.settings import etcd_access
from controlplane.store.embedded import EmbeddedStore
from controlplane.store.etcd.access import EtcdAccess
from controlplane.store.etcd.store import EtcdStore
from controlplane.store.port import Store, StoreUnavailableError
from controlplane.store.sqlite.lockfile import LockFile
from swarmplane.clock import Clock
from swarmplane.datadir import DataDir, make_private, write_atomically
from swarmplane.ids import random_id
from swarmplane.settings.schema import Settings

_HOLDER: Final = "etcd-holder"
_LOCK: Final = "etcd.lock"
_RETRY_S: Final = 1.0
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OpenStore:
    """A store, and what kind it is."""

    store: Store
    etcd: EtcdStore | None = None
    """The same, where it is etcd: then other instances may use it too."""


@asynccontextmanager
async def open_store(
    settings: Settings, data_dir: DataDir, clock: Clock, *, patience_s: float = 0.0
) -> AsyncIterator[OpenStore]:
    """The store of ``settings``: etcd where they name endpoints, else the embedded one in ``data_dir``.

    Args:
        settings: Of the host.
        data_dir: Of the host.
        clock: For leases, and for waiting.
        patience_s: So long an etcd that is out of reach, or without a majority, is waited for.

    Raises:
        SwarmError: It can't be opened; says what to do.
    """
    access = await asyncio.to_thread(etcd_access, settings)
    if access is None:
        await asyncio.to_thread(check_not_given_up, data_dir)
        async with EmbeddedStore.open(data_dir.store, clock=clock) as embedded:
            yield OpenStore(embedded)
        return
    lock = await asyncio.to_thread(_locked, data_dir)
    try:
        holder = await asyncio.to_thread(holder_of, data_dir)
        async with AsyncExitStack() as closing:
            etcd = await _waited_for(closing, access, holder, clock, patience_s)
            yield OpenStore(etcd, etcd)
    finally:
        lock.release()


async def _waited_for(
    closing: AsyncExitStack, access: EtcdAccess, holder: str, clock: Clock, patience_s: float
) -> EtcdStore:
    ends_s = clock.now_s() + patience_s
    while True:
        try:
            store = await closing.enter_async_context(EtcdStore.open(access, holder=holder))
        except StoreUnavailableError as error:
            left_s = ends_s - clock.now_s()
            if left_s <= 0:
                raise
            log.warning(
                "store.out_of_reach",
                reason=error.message,
                hint=f"waiting for a majority of etcd's members for {left_s:.0f} s more; Ctrl-C ends it",
            )
            await clock.sleep(min(_RETRY_S, left_s))
        else:
            return store


def _locked(data_dir: DataDir) -> LockFile:
    # Below run/, which says nothing of whether an instance belongs to this host.
    make_private(data_dir.run)
    return LockFile(data_dir.run / _LOCK)


def holder_of(data_dir: DataDir) -> str:
    """The name under which this host keeps the store's books, the same in each of its lives. It blocks."""
    path = data_dir.control_plane / _HOLDER
    try:
        name = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    if not name:
        name = random_id()
        write_atomically(path, name.encode() + b"\n")
    return name
