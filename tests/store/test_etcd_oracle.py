"""etcd3, a client that is not ours, agrees with what we do, and we with what it does."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.store.etcd.access import EtcdAccess
from controlplane.store.etcd.store import EtcdStore
from controlplane.store.port import EventKind, Put, absent, created
from tests.store.etcd_harness import UNHURRIED, SharedEtcd
from tests.store.harness import PATIENCE_S, eventually, take

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("etcd3") is None, reason="etcd3 is not installed: pip install etcd3==0.12.0"
)
ORACLE = Path(__file__).with_name("etcd3_oracle.py")


class Oracle:
    """The other process. One question at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def __call__(self, call: str, *arguments: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": call, "with": arguments}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            line = await self._process.stdout.readline()
        assert line, "etcd3 failed"
        return json.loads(line)


@asynccontextmanager
async def asked(shared: SharedEtcd) -> AsyncIterator[tuple[EtcdStore, Oracle, str]]:
    """Our store without a prefix, etcd3, and a prefix for this test's keys."""
    port = shared.etcd.members[0].port
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ORACLE),
        "127.0.0.1",
        str(port),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "PYTHONWARNINGS": "ignore"},
    )
    try:
        async with EtcdStore.open(EtcdAccess.of(shared.etcd.endpoints), timing=UNHURRIED) as store:
            yield store, Oracle(process), shared.prefix()
    finally:
        process.kill()
        await process.communicate()


async def test_what_we_write_it_reads_with_the_same_revisions(single_etcd: SharedEtcd) -> None:
    async with asked(single_etcd) as (store, oracle, prefix):
        first = await store.put(f"{prefix}a", bytes(range(256)))
        second = await store.put(f"{prefix}a", b"2")
        lease = await store.grant(30)
        third = await store.put(f"{prefix}é", b"3", lease=lease)
        assert await oracle("get", f"{prefix}a") == ["2", first, second, 0]
        assert await oracle("get", f"{prefix}é") == ["3", third, third, lease]
        assert await oracle("prefix", prefix) == [f"{prefix}a", f"{prefix}é"]
        assert await store.delete(f"{prefix}a")
        assert await oracle("get", f"{prefix}a") is None
        assert await oracle("renew", lease) == 30
        await oracle("revoke", lease)
        assert await store.get(f"{prefix}é") is None
        assert not await store.keep_alive(lease)


async def test_what_it_writes_we_read_and_watch(single_etcd: SharedEtcd) -> None:
    async with asked(single_etcd) as (store, oracle, prefix), store.watch(prefix) as batches:
        lease = await oracle("lease", 30)
        await oracle("put", f"{prefix}b", "".join(map(chr, range(256))), lease)
        await oracle("put", f"{prefix}a", "1")
        assert await oracle("delete", f"{prefix}a")
        found = await store.get(f"{prefix}b")
        assert found is not None
        assert (found.value, found.lease) == (bytes(range(256)), lease)
        assert await store.keep_alive(lease)
        seen = await take(batches, 3)
        assert [(batch.events[0].kind, batch.events[0].kv.key[len(prefix) :]) for batch in seen] == [
            (EventKind.PUT, "b"),
            (EventKind.PUT, "a"),
            (EventKind.DELETE, "a"),
        ]
        assert await oracle("get", f"{prefix}b") == [
            "".join(map(chr, range(256))),
            found.create_revision,
            found.mod_revision,
            lease,
        ]
        assert seen[0].revision == found.mod_revision
        await store.revoke(lease)
        assert await oracle("get", f"{prefix}b") is None


async def test_what_we_write_it_watches_from_any_revision(single_etcd: SharedEtcd) -> None:
    async with asked(single_etcd) as (store, oracle, prefix):
        revisions = [await store.put(f"{prefix}k", b"%d" % number) for number in range(10)]
        watch = await oracle("watch", prefix, revisions[4])
        # Changes of one transaction have one revision; its marker is nobody's business.
        both = await store.transact((), [Put(f"{prefix}x", b"x"), Put(f"{prefix}y", b"y")])
        await store.delete(f"{prefix}k")
        deleted = await store.revision()
        key = f"{prefix}k"
        assert await oracle("events", watch, 9) == [
            *(["put", key, str(number), revisions[number]] for number in range(4, 10)),
            ["put", f"{prefix}x", "x", both.revision],
            ["put", f"{prefix}y", "y", both.revision],
            ["delete", key, "", deleted],
        ]


async def test_swaps_of_both_exclude_each_other(single_etcd: SharedEtcd) -> None:
    async with asked(single_etcd) as (store, oracle, prefix):
        key = f"{prefix}n"
        ours = await store.transact([absent(key)], [Put(key, b"ours")])
        assert ours.succeeded
        assert not await oracle("swap", key, 0, "theirs")
        assert await oracle("swap", key, ours.revision, "theirs")
        late = await store.transact(
            [created(key, ours.revision), absent(f"{key}/none")], [Put(key, b"ours again")], otherwise=[key]
        )
        assert late.succeeded
        lost = await store.transact([absent(key)], [Put(key, b"never")], otherwise=[key])
        (there,) = lost.reads
        assert there is not None
        assert (lost.succeeded, there.value) == (False, b"ours again")


async def test_its_lock_is_respected_by_us_and_ours_by_it(single_etcd: SharedEtcd) -> None:
    async with asked(single_etcd) as (store, oracle, prefix):
        name = prefix.replace("/", "-")
        key = f"/locks/{name}"
        assert await oracle("acquire", name, 5)
        lease = await store.grant(30)
        refused = await store.transact([absent(key)], [Put(key, b"ours", lease)], otherwise=[key])
        assert not refused.succeeded
        assert refused.reads[0] is not None
        async with store.watch(key) as batches:
            assert await oracle("release", name)
            (batch,) = await take(batches, 1)
        assert batch.events[0].kind is EventKind.DELETE
        assert (await store.transact([absent(key)], [Put(key, b"ours", lease)])).succeeded
        assert not await oracle("acquire", name, 1)
        await store.revoke(lease)

        async def free() -> bool:
            return bool(await oracle("acquire", name, 5))

        await eventually(free)
        assert await oracle("release", name)
