"""``python -m controlplane.process.storekeeping``: what ``swarmctl store`` has done to a host's own store.

The command line must not open the store itself: components never import each other. It prints one JSON
document; failures are a line on standard error and status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from controlplane.process.founder_files import (
    Backup,
    backup_name,
    backups_directory,
    make_backup,
    own_recovery_key,
    own_store,
    trim_backups,
)
from controlplane.process.migrating import migrate
from controlplane.process.moving import fence, is_fenced
from controlplane.process.restoring import restore
from controlplane.process.storing import holder_of
from controlplane.settings import etcd_access
from controlplane.store.embedded import EmbeddedStore
from controlplane.store.etcd.store import EtcdStore
from controlplane.store.sqlite.lockfile import LockFile
from swarmplane.clock import SystemClock
from swarmplane.datadir import DataDir
from swarmplane.entry import run_to_end
from swarmplane.errors import InvalidRequestError
from swarmplane.settings.load import load

PROGRAM = "swarm-store"


def run(arguments: Sequence[str] | None = None) -> int:
    """Do one thing. The exit status: 0, or 1."""
    parser = argparse.ArgumentParser(prog=PROGRAM)
    parser.add_argument("act", choices=["backup", "restore", "move", "migrate", "key"])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--key-stdin", action="store_true")
    given = parser.parse_args(arguments)
    key = sys.stdin.readline().strip() if given.key_stdin else ""
    data_dir = DataDir(given.data_dir)
    if given.act == "migrate":
        return run_to_end(PROGRAM, _migrate(data_dir, given.set))
    return run_to_end(PROGRAM, _act(given.act, data_dir, given.file, key))


async def _act(act: str, data_dir: DataDir, file: Path | None, key: str) -> None:
    if act == "key":
        _print({"key": await asyncio.to_thread(own_recovery_key, data_dir)})
    elif act == "backup":
        _print(_document(await _backup(data_dir, file)))
    elif act == "move":
        if file is None:
            raise InvalidRequestError("say where the backup that moves the swarm goes")
        _print(_document(await _move(data_dir, file)))
    else:
        if file is None:
            raise InvalidRequestError("say which backup")
        head = await restore(data_dir, file, key)
        _print({**asdict(head), "path": str(file)})


async def _migrate(data_dir: DataDir, overrides: Sequence[str]) -> None:
    access = await asyncio.to_thread(lambda: etcd_access(load(data_dir.root, overrides)))
    if access is None:
        raise InvalidRequestError("say where etcd is (--etcd URL,...)")
    path = await asyncio.to_thread(own_store, data_dir)
    holder = await asyncio.to_thread(holder_of, data_dir)
    where = ", ".join(map(str, access.endpoints))
    async with (
        EmbeddedStore.open(path, clock=SystemClock()) as source,
        EtcdStore.open(access, holder=holder) as target,
    ):
        done = await migrate(
            source,
            target,
            lambda: fence(data_dir, f"it was migrated to etcd ({where})"),
            given_up=is_fenced(data_dir),
            now_s=time.time(),
        )
    _print(asdict(done))


async def _move(data_dir: DataDir, file: Path) -> Backup:
    """The last backup of this host's store, which nobody changes or serves any longer."""
    path = await asyncio.to_thread(own_store, data_dir)
    lock = await asyncio.to_thread(LockFile, path.with_name(f"{path.name}.lock"))
    try:
        made = await make_backup(data_dir, file, moved=True)
        if not is_fenced(data_dir):
            await asyncio.to_thread(fence, data_dir, f"it moved with the backup {file.name}")
        return made
    finally:
        lock.release()


async def _backup(data_dir: DataDir, file: Path | None) -> Backup:
    if file is not None:
        return await make_backup(data_dir, file)
    settings = load(data_dir.root)
    directory = backups_directory(data_dir, settings.control.backup_dir)
    made = await make_backup(data_dir, directory / backup_name(settings.swarm.name, time.time()))
    await asyncio.to_thread(trim_backups, directory, made.head.swarm, max(1, settings.control.backups_kept))
    return made


def _document(made: Backup) -> dict[str, object]:
    return {**asdict(made.head), "path": str(made.path), "bytes": made.bytes}


def _print(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    sys.exit(run())
