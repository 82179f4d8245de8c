"""Hundreds of streams and a thousand idle clients on one real sidecar, by the program that measures them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes.backend import running_backend
from tests.fakes.sidecars import backend_setting, sidecar

ROOT = Path(__file__).parents[2]
STREAMS, EVENTS, IDLE = 300, 10, 1000

pytestmark = pytest.mark.process


async def measured(*arguments: str) -> dict[str, Any]:
    """The document that ``bench/streams.py`` prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "bench" / "streams.py"), "--json", *arguments),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(50):
            told, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, said.decode()
    document: dict[str, Any] = json.loads(told)
    return document


async def test_streams_lose_nothing_and_cost_little_memory() -> None:
    document = await measured("--streams", str(STREAMS), "--events", str(EVENTS), "--idle", "0")
    (row,) = document["items"]
    assert (row["streams"], row["ended"], row["lost_events"]) == (STREAMS, STREAMS, 0)
    assert row["events"] == STREAMS * EVENTS
    assert 0 < row["kb_each"] <= 40


async def test_idle_clients_are_held_and_answered_again() -> None:
    document = await measured("--streams", "0", "--idle", str(IDLE))
    idle = document["idle"]
    assert (idle["answered_before"], idle["answered_after"]) == (IDLE, IDLE)


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_NOFILE"), reason="psutil reads limits on Linux only")
async def test_a_sidecar_takes_as_many_open_files_as_it_may(tmp_path: Path) -> None:
    us = psutil.Process()
    soft, hard = us.rlimit(psutil.RLIMIT_NOFILE)
    async with running_backend(models=("tiny",)) as fake:
        us.rlimit(psutil.RLIMIT_NOFILE, (512, hard))
        try:
            async with sidecar(tmp_path, *backend_setting(fake.port)) as run:
                await run.until_ready()
                now = psutil.Process(run.process.pid).rlimit(psutil.RLIMIT_NOFILE)
        finally:
            us.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
    assert now[0] > 512
    assert now[1] == hard
