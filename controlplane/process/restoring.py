"""A founder out of a backup, on this host: all of it or nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from controlplane.process.founder_files import (
    SECRET,
    STORE,
    inspect_store,
    key_path,
    remove_tree,
    write_files,
)
from controlplane.services import keyspace
from controlplane.services.audit import audit_record
from controlplane.services.backups import BackupHead, open_backup, recovery_key
from controlplane.services.founding import next_generation
from controlplane.store.embedded import EmbeddedStore
from controlplane.store.port import Put, modified
from swarmplane.clock import SystemClock
from swarmplane.codec import records
from swarmplane.credentials.names import control_subject
from swarmplane.datadir import DataDir, make_private, write_atomically
from swarmplane.errors import FailedPreconditionError, NotFoundError, reason_of
from swarmplane.identity import read_record
from swarmplane.ids import SwarmId


async def restore(data_dir: DataDir, source: Path, key_text: str) -> BackupHead:
    """Make this host the founder that ``source`` is a backup of; its generation is raised.

    Everything is built and checked beside its place, and moved there last: until then it can be done again.

    Raises:
        FailedPreconditionError: The backup is none, damaged or another key's; or this host keeps a swarm or
            is another node already.
        NotFoundError: There is no such file.
    """
    if data_dir.control_plane.exists() and any(data_dir.control_plane.iterdir()):
        raise FailedPreconditionError(
            f"this host keeps a swarm already ({data_dir.control_plane}); restore into a new --data-dir"
        )
    try:
        content = await asyncio.to_thread(source.read_bytes)
    except OSError as error:
        raise NotFoundError(f"{source} can't be read: {reason_of(error)}") from None
    head, files = await asyncio.to_thread(open_backup, content, recovery_key(key_text), source.name)
    if not {STORE, SECRET} <= files.keys():
        raise FailedPreconditionError(f"{source.name} holds no whole swarm")
    staging = DataDir(data_dir.root / ".restoring")
    await asyncio.to_thread(remove_tree, staging.root)
    try:
        await asyncio.to_thread(write_files, staging, files)
        _check_node(data_dir, staging)
        authority, _, _ = await inspect_store(staging)
        if authority.swarm != head.swarm:
            raise FailedPreconditionError(f"{source.name} holds another swarm than it says")
        await _raise_generation(staging, head)
        await asyncio.to_thread(write_atomically, key_path(staging), key_text.strip().encode() + b"\n")
        await asyncio.to_thread(_put_in_place, data_dir, staging)
    finally:
        await asyncio.to_thread(remove_tree, staging.root)
    return head


def _check_node(data_dir: DataDir, staging: DataDir) -> None:
    here, there = read_record(data_dir), read_record(staging)
    if here is not None and there is not None and here.node_id != there.node_id:
        raise FailedPreconditionError(
            f"this host is node {here.node_name} of swarm {here.swarm_name} already; restore into a new "
            "--data-dir, or let it leave first (`swarmctl leave`)"
        )


async def _raise_generation(staging: DataDir, head: BackupHead) -> None:
    """Sidecars have seen revisions that this store has lost: another generation, so that they start anew."""
    async with EmbeddedStore.open(staging.store, clock=SystemClock()) as store:
        kv = await store.get(keyspace.GENERATION)
        if kv is None:
            raise FailedPreconditionError("the store has no whole swarm; use another backup")
        before, now_s = records.parse(records.Counter, kv.value).value, time.time()
        value = records.Counter(value=next_generation(before, now_s))
        said = f"restored the backup of {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(head.created_at_s))}"
        actor = control_subject(SwarmId(head.swarm)).id
        await store.transact(
            [modified(keyspace.GENERATION, kv.mod_revision)],
            [
                Put(keyspace.GENERATION, value.SerializeToString()),
                audit_record(now_s, actor, "store.restore", head.swarm, said),
            ],
        )


def _put_in_place(data_dir: DataDir, staging: DataDir) -> None:
    """The control plane's directory comes last: its presence is the restored founder."""
    make_private(data_dir.root)
    for path in sorted(staging.root.rglob("*")):
        inside = path.relative_to(staging.root)
        if path.is_file() and inside.parts[0] != staging.control_plane.name:
            write_atomically(data_dir.root / inside, path.read_bytes())
    for leftover in staging.control_plane.glob(f"{STORE}*"):
        if leftover.name != STORE:
            leftover.unlink()
    if data_dir.control_plane.exists():
        data_dir.control_plane.rmdir()
    staging.control_plane.rename(data_dir.control_plane)
