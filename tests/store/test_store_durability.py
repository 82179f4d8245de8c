"""What was acknowledged survives a process that is killed while it writes; and a store has one owner."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controlplane.store.embedded import EmbeddedStore
from controlplane.store.port import StoreUnavailableError
from swarmplane.clock import SystemClock
from tests.store import durable_writer
from tests.store.harness import PATIENCE_S

KILLS = 6
ROOT = Path(__file__).parents[2]

Acknowledged = dict[int, tuple[int, int]]
"""The last number and its revision, by writer."""


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", durable_writer.__name__, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_while_it_writes(path: Path, lines: int) -> Acknowledged:
    """Let a process acknowledge ``lines`` writes, kill it, and return all that it said."""
    with writing(path) as process:
        assert process.stdout is not None
        said = b"".join(process.stdout.readline() for _ in range(lines))
        process.kill()
        said += process.stdout.read()
    heard: Acknowledged = {}
    for line in said.splitlines(keepends=True):
        if line.endswith(b"\n"):
            writer, number, revision = map(int, line.split())
            heard[writer] = (number, revision)
    return heard


async def check(path: Path, heard: Acknowledged) -> Acknowledged:
    """Compare what is there with what was said; return what is there."""
    found: Acknowledged = {}
    async with EmbeddedStore.open(path, clock=SystemClock()) as store:
        everything = await store.range("")
        values = {kv.key: kv for kv in everything.items}
        assert heard
        for writer, (number, revision) in heard.items():
            kv = values.pop(f"n/{writer}")
            # One more may have been made and not said.
            assert int(kv.value) in {number, number + 1}
            assert kv.mod_revision == revision or int(kv.value) == number + 1
            mark = values.pop(f"mark/{writer}/{int(kv.value)}")
            assert mark.mod_revision == kv.mod_revision
            found[writer] = (int(kv.value), kv.mod_revision)
        assert not [key for key in values if int(key.split("/")[1]) in heard], "half a transaction"
        await check_history(store, everything.revision)
    return found


async def check_history(store: EmbeddedStore, newest: int) -> None:
    """Every revision is there, each a whole transaction."""
    start = max(2, newest - 500)
    async with asyncio.timeout(PATIENCE_S), store.watch("", start_revision=start) as batches:
        for revision in range(start, newest + 1):
            batch = await anext(batches)
            assert batch.revision == revision
            assert len(batch.events) in {2, 3}


@pytest.mark.process
async def test_every_acknowledged_write_survives_kill_9_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    heard: Acknowledged = {}
    for kill in range(KILLS):
        # Drawn, so that kills fall at different places of a commit; the last ones early in a life.
        lines = random.randint(1, 400) if kill < KILLS - 2 else 1
        heard.update(await asyncio.to_thread(kill_while_it_writes, path, lines))
        heard = await check(path, heard)


@pytest.mark.process
async def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with writing(path) as process:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        with pytest.raises(StoreUnavailableError, match="Another process has the store"):
            async with EmbeddedStore.open(path, clock=SystemClock()):
                pass
    async with EmbeddedStore.open(path, clock=SystemClock()) as store:
        assert await store.get("n/0") is not None
