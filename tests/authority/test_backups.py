"""Backups: sealed, refused when anything about them is wrong, made daily, kept N."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.process.daily import DAY_S, DailyBackups
from controlplane.process.founder_files import (
    backups_in,
    inspect_store,
    make_backup,
    own_recovery_key,
    write_files,
)
from controlplane.process.moving import check_not_given_up, fence
from controlplane.process.restoring import restore
from controlplane.services import keyspace
from controlplane.services.backups import (
    BackupHead,
    key_id,
    new_recovery_key,
    open_backup,
    read_head,
    recovery_key,
    seal_backup,
)
from controlplane.store.embedded import EmbeddedStore
from swarmplane.clock import SystemClock
from swarmplane.codec import records
from swarmplane.datadir import DataDir
from swarmplane.errors import FailedPreconditionError, InvalidRequestError, NotFoundError, SwarmError
from tests.fakes.authority import running_instance
from tests.fakes.clock import FakeClock

KEY = recovery_key(new_recovery_key())
HEAD = BackupHead("s", "swarm", 1, 1, 7, key_id(KEY))
SEALED = seal_backup(HEAD, {"a": b"x" * 100, "b/c": b""}, KEY)


@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=300), max_size=5))
def test_what_was_sealed_is_opened(files: dict[str, bytes]) -> None:
    sealed = seal_backup(HEAD, files, KEY)
    assert open_backup(sealed, KEY, "f") == (HEAD, files)
    assert read_head(sealed, "f") == HEAD


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_a_change_anywhere_is_refused(at: int, flip: int) -> None:
    changed = bytearray(SEALED)
    changed[at] ^= flip
    with pytest.raises(FailedPreconditionError, match="f "):
        open_backup(bytes(changed), KEY, "f")


@given(st.integers(0, len(SEALED) - 1))
def test_a_part_is_refused(length: int) -> None:
    with pytest.raises(FailedPreconditionError, match=r"no backup|damaged"):
        open_backup(SEALED[:length], KEY, "f")


def test_another_key_is_named() -> None:
    other = recovery_key(new_recovery_key())
    with pytest.raises(FailedPreconditionError, match=f"another recovery key .*{key_id(other)}"):
        open_backup(SEALED, other, "f")
    for wrong in ("", "swr1-", "swr1-zz", "swr1-00", KEY.hex()):
        with pytest.raises(InvalidRequestError, match="no recovery key"):
            recovery_key(wrong)


async def test_a_whole_founder_and_its_generation(tmp_path: Path) -> None:
    async with running_instance(tmp_path / "a") as instance:
        data_dir = instance.data_dir
        made = await make_backup(data_dir, tmp_path / "f.swarmbackup")
        key = own_recovery_key(data_dir)
        with pytest.raises(FailedPreconditionError, match="keeps a swarm already"):
            await restore(data_dir, made.path, key)
    assert key not in repr(made)
    assert b"BEGIN" not in made.path.read_bytes()
    there = DataDir(tmp_path / "b")
    with pytest.raises(NotFoundError, match="can't be read"):
        await restore(there, tmp_path / "none", key)
    head = await restore(there, made.path, key)
    authority, generation, _ = await inspect_store(there)
    assert (authority.swarm, authority.ca_pem) == (instance.authority.swarm, instance.authority.ca_pem)
    assert generation > head.generation == 1
    assert own_recovery_key(there) == key
    assert not (there.root / ".restoring").exists()
    async with EmbeddedStore.open(there.store, clock=SystemClock()) as store:
        audits = (await store.range(keyspace.AUDITS)).items
        assert [records.Audit.FromString(one.value).action for one in audits][-1] == "store.restore"


async def test_one_without_a_swarm_or_with_another_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no swarm in a store of its own"):
        await make_backup(DataDir(tmp_path / "nobody"), tmp_path / "f")
    async with running_instance(tmp_path / "a") as instance:
        made = await make_backup(instance.data_dir, tmp_path / "f")
        key = own_recovery_key(instance.data_dir)
    head, files = open_backup(made.path.read_bytes(), recovery_key(key), "f")
    other = seal_backup(head, {**files, "swarm-secret": bytes(32)}, recovery_key(key))
    (tmp_path / "g").write_bytes(other)
    with pytest.raises(SwarmError, match="secret"):
        await restore(DataDir(tmp_path / "b"), tmp_path / "g", key)
    assert not (tmp_path / "b" / "controlplane").exists()
    (tmp_path / "h").write_bytes(seal_backup(head, {"node/x": b""}, recovery_key(key)))
    with pytest.raises(FailedPreconditionError, match="no whole swarm"):
        await restore(DataDir(tmp_path / "b"), tmp_path / "h", key)


@pytest.mark.parametrize("name", ["../x", "node/../../x", "/etc/x", "config.toml", "node/c:x"])
def test_a_backup_writes_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(FailedPreconditionError, match="impossible name"):
        write_files(DataDir(tmp_path), {name: b""})


async def test_a_backup_a_day_and_only_the_newest(tmp_path: Path) -> None:
    now_s = [1_800_000_000.0]
    async with running_instance(tmp_path / "a") as instance:
        daily = DailyBackups(
            instance.data_dir, instance.authority, tmp_path / "kept", 2,
            clock=FakeClock(0.0), unix_s=lambda: now_s[0],
        )  # fmt: skip
        assert (await daily.facts())["backup_age_s"] is None
        await daily.once()
        (first,) = backups_in(tmp_path / "kept")
        await daily.once()
        assert len(backups_in(tmp_path / "kept")) == 1
        # As if time had passed: the file says when it was made.
        for days in (1, 2, 3):
            _age(tmp_path / "kept", instance.data_dir, now_s[0] - days * DAY_S)
        await daily.once()
        found = backups_in(tmp_path / "kept")
        assert len(found) <= 2
        assert first.head.swarm == instance.authority.swarm
        facts = await daily.facts()
        assert facts["backups"] == len(found)
        (tmp_path / "kept" / "junk.swarmbackup").write_bytes(b"junk")
        assert backups_in(tmp_path / "kept") == found
        off = DailyBackups(
            instance.data_dir, instance.authority, tmp_path / "none", 0,
            clock=FakeClock(0.0), unix_s=lambda: now_s[0],
        )  # fmt: skip
        await off.once()
        assert "no daily backups" in str((await off.facts())["warnings"])
        (tmp_path / "file").write_text("")
        broken = DailyBackups(
            instance.data_dir, instance.authority, tmp_path / "file" / "x", 1,
            clock=FakeClock(0.0), unix_s=lambda: now_s[0],
        )  # fmt: skip
        await broken.once()
        assert "last backup failed" in str((await broken.facts())["warnings"])


def _age(directory: Path, data_dir: DataDir, made_at_s: float) -> None:
    from dataclasses import replace

    key = recovery_key(own_recovery_key(data_dir))
    newest = backups_in(directory)[0]
    head, files = open_backup(newest.path.read_bytes(), key, "x")
    aged = seal_backup(replace(head, created_at_s=int(made_at_s)), files, key)
    (directory / f"old-{int(made_at_s)}.swarmbackup").write_bytes(aged)


def test_a_store_that_was_given_up_is_not_served(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path)
    check_not_given_up(data_dir)
    fence(data_dir, "it moved")
    with pytest.raises(FailedPreconditionError, match="given up: it moved"):
        check_not_given_up(data_dir)


async def test_a_damaged_store_is_not_backed_up(tmp_path: Path) -> None:
    async with running_instance(tmp_path / "a") as instance:
        data_dir = instance.data_dir
    path = data_dir.store
    content = bytearray(path.read_bytes())
    content[4096:12288] = bytes(8192)
    path.write_bytes(content)
    with pytest.raises((SwarmError, sqlite3.DatabaseError)):
        await make_backup(data_dir, tmp_path / "f")
    assert not (tmp_path / "f").exists()


async def test_two_backups_at_a_time_do_not_meet_and_leave_nothing(tmp_path: Path) -> None:
    """The daily one and a person's; and what a killed one left (a copy of the secret) is cleared away."""
    async with running_instance(tmp_path / "founder") as instance:
        data_dir = instance.data_dir
        old = data_dir.control_plane / ".checking.killed"
        write_files(DataDir(old), {"swarm-secret": b"s"})
        os.utime(old, (1, 1))
        async with asyncio.TaskGroup() as group:
            made = [group.create_task(make_backup(data_dir, tmp_path / f"{n}.swarmbackup")) for n in range(6)]
        assert len({one.result().head.swarm for one in made}) == 1
        left = {path.name for path in data_dir.control_plane.iterdir() if path.is_dir()}
        assert not left
