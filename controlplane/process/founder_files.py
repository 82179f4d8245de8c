"""The files of a founder that a backup holds, and where its backups are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from controlplane.services import keyspace
from controlplane.services.authority import SwarmAuthority
from controlplane.services.backups import (
    SUFFIX,
    BackupHead,
    key_id,
    new_recovery_key,
    read_head,
    recovery_key,
    seal_backup,
)
from controlplane.services.founding import open_or_found
from controlplane.store.embedded import EmbeddedStore
from controlplane.store.sqlite.snapshot import snapshot
from swarmplane.clock import SystemClock
from swarmplane.codec import records
from swarmplane.datadir import DataDir, make_private, write_atomically
from swarmplane.errors import FailedPreconditionError, NotFoundError, SwarmError
from swarmplane.ids import random_id

STORE: Final = "store.db"
SECRET: Final = "swarm-secret"  # noqa: S105 - a file's name
KEY_FILE: Final = "recovery-key"
_HEAD_BYTES: Final = 128 * 1024
_CHECKING: Final = ".checking."
_LEFT_S: Final = 3600.0
"""No backup takes so long."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup as it lies on a disk."""

    path: Path
    head: BackupHead
    bytes: int


def own_store(data_dir: DataDir) -> Path:
    """The embedded store of this host, which keeps a swarm. It blocks.

    Raises:
        NotFoundError: It keeps none.
    """
    if not data_dir.store.is_file():
        raise NotFoundError(f"this host keeps no swarm in a store of its own ({data_dir.root})")
    return data_dir.store


def backups_directory(data_dir: DataDir, configured: Path | None) -> Path:
    """Where backups of this host go."""
    return configured if configured is not None else data_dir.root / "backups"


def key_path(data_dir: DataDir) -> Path:
    """The recovery key of this host's backups."""
    return data_dir.control_plane / KEY_FILE


def own_recovery_key(data_dir: DataDir) -> str:
    """The recovery key of this host's backups, made at its first use. It blocks."""
    path = key_path(data_dir)
    if not path.exists():
        write_atomically(path, new_recovery_key().encode() + b"\n")
    return path.read_text(encoding="ascii").strip()


def backups_in(directory: Path) -> Sequence[Backup]:
    """Whole backups in ``directory``, newest first; what can't be read is left out. It blocks."""
    found = []
    for path in directory.glob(f"*{SUFFIX}") if directory.is_dir() else ():
        try:
            with path.open("rb") as file:
                head = read_head(file.read(_HEAD_BYTES), path.name)
            found.append(Backup(path, head, path.stat().st_size))
        except (SwarmError, OSError):
            continue
    return sorted(found, key=lambda one: (one.head.created_at_s, one.path.name), reverse=True)


async def make_backup(data_dir: DataDir, target: Path, *, key_text: str = "", moved: bool = False) -> Backup:
    """A backup of this founder in the file ``target``, which is replaced whole or not at all.

    Raises:
        NotFoundError: This host has no embedded store.
        SwarmError: It can't be read.
    """
    store = await asyncio.to_thread(lambda: snapshot(own_store(data_dir)))
    files = {**await asyncio.to_thread(_own_files, data_dir), STORE: store}
    key = recovery_key(key_text or await asyncio.to_thread(own_recovery_key, data_dir))
    head = await _head_of(data_dir, files, key_id(key), moved=moved)
    content = await asyncio.to_thread(seal_backup, head, files, key)
    await asyncio.to_thread(write_atomically, target, content)
    return Backup(target, head, len(content))


def backup_name(swarm_name: str, now_s: float) -> str:
    """A name that sorts by time."""
    return f"{swarm_name}-{datetime.fromtimestamp(now_s, UTC):%Y%m%dT%H%M%SZ}{SUFFIX}"


def trim_backups(directory: Path, swarm: str, keep: int) -> int:
    """Delete all but the newest ``keep`` backups of ``swarm``; how many it deleted. It blocks."""
    old = [one for one in backups_in(directory) if one.head.swarm == swarm][keep:]
    for one in old:
        one.path.unlink(missing_ok=True)
    return len(old)


async def _head_of(data_dir: DataDir, files: Mapping[str, bytes], named: str, *, moved: bool) -> BackupHead:
    """What stands in the copy itself: it proves to be a store that opens with the secret beside it."""
    await asyncio.to_thread(_clear_away, data_dir.control_plane)
    # A directory of its own: another backup may be made at the same time.
    scratch = DataDir(data_dir.control_plane / f"{_CHECKING}{random_id()}")
    try:
        await asyncio.to_thread(write_files, scratch, files)
        authority, generation, revision = await inspect_store(scratch)
    finally:
        await asyncio.to_thread(remove_tree, scratch.root)
    return BackupHead(authority.swarm, authority.name, int(time.time()), generation, revision, named, moved)


def _clear_away(directory: Path) -> None:
    """What a killed backup left: whole copies of the store and the secret. It blocks."""
    for path in (*directory.glob(f"{_CHECKING}*"), *directory.glob(".snapshot.*")):
        try:
            if time.time() - path.stat().st_mtime > _LEFT_S:
                remove_tree(path)
        except FileNotFoundError:
            continue


async def inspect_store(data_dir: DataDir) -> tuple[SwarmAuthority, int, int]:
    """Whose the store in ``data_dir`` is, its generation and revision; nothing is founded.

    Raises:
        SwarmError: It is damaged, empty, or its secret is another one's.
    """
    async with EmbeddedStore.open(data_dir.store, clock=SystemClock()) as store:
        if await store.get(keyspace.SWARM) is None:
            raise FailedPreconditionError("the store holds no swarm")
        authority = await open_or_found(store, data_dir, swarm_name="", unix_s=time.time)
        kv = await store.get(keyspace.GENERATION)
        generation = records.parse(records.Counter, kv.value).value if kv is not None else 0
        return authority, generation, await store.revision()


def write_files(data_dir: DataDir, files: Mapping[str, bytes]) -> None:
    """Put the files of a backup where they belong. It blocks."""
    for name, content in files.items():
        make_private(_place(data_dir, name).parent)
        write_atomically(_place(data_dir, name), content)


def remove_tree(path: Path) -> None:
    """Remove a directory of ours, if it is there."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def _own_files(data_dir: DataDir) -> dict[str, bytes]:
    files = {SECRET: data_dir.swarm_secret.read_bytes()}
    for directory in (data_dir.node, data_dir.context("default")):
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            if path.is_file() and not path.name.startswith("."):
                files[path.relative_to(data_dir.root).as_posix()] = path.read_bytes()
    return files


def _place(data_dir: DataDir, name: str) -> Path:
    if name in {STORE, SECRET}:
        return data_dir.control_plane / name
    parts = name.split("/")
    # Sealed by one of us, and still: a backup writes nowhere else.
    if parts[0] not in {"node", "contexts"} or ".." in parts or "\\" in name or ":" in name:
        raise FailedPreconditionError(f"the backup holds a file with an impossible name: {name!r}")
    return data_dir.root.joinpath(*parts)
