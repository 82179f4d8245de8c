"""Processes under supervision: ready, dead, started again, stopped, orphaned."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from cli.supervise import child as child_module
from cli.supervise.child import Child, Program
from swarmplane.datadir import DataDir
from swarmplane.errors import FailedPreconditionError, UnavailableError
from swarmplane.runtime import read_ready

SCRIPT = str(Path(__file__).parent.parent / "fakes" / "child_process.py")
WITHIN_S = 30.0

Make = Callable[[str], Child]


class QuickClock:
    """Real time; waits are noted instead of waited for."""

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    def now_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        self.waited_s.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> QuickClock:
    return QuickClock()


@pytest.fixture
async def make(tmp_path: Path, clock: QuickClock) -> AsyncIterator[Make]:
    made: list[Child] = []

    def one(how: str) -> Child:
        program = Program("sidecar", (SCRIPT, str(tmp_path), "sidecar", how))
        made.append(Child(program, DataDir(tmp_path), clock))
        return made[-1]

    yield one
    for child in made:
        await child.kill()


def _starts(tmp_path: Path) -> int:
    return int((tmp_path / "run" / "sidecar.count").read_text())


async def test_it_is_started_until_ready_and_told_of_its_lifeline(make: Make) -> None:
    child = make("serve")
    await child.start()
    assert child.running
    assert child.facts["arguments"] == ["--lifeline-stdin"]
    assert psutil.pid_exists(int(str(child.facts["pid"])))


async def test_one_that_ends_first_is_an_error(make: Make) -> None:
    with pytest.raises(FailedPreconditionError, match=r"ended before it was ready \(status 3\)"):
        await make("die").start()


async def test_one_that_never_is_ready_is_killed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "READY_S", 0.3)
    child = make("hang")
    with pytest.raises(UnavailableError, match="not ready"):
        await child.start()
    assert not child.running


async def test_a_stale_ready_file_deceives_nobody(make: Make, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "sidecar.json").write_text('{"pid": 1}')
    with pytest.raises(FailedPreconditionError):
        await make("die").start()


async def test_a_dead_one_is_started_again_ever_later(make: Make, tmp_path: Path, clock: QuickClock) -> None:
    child, said, stop, changed = make("die-later"), [], asyncio.Event(), asyncio.Event()
    await child.start()
    async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as group:
        keeping = group.create_task(child.keep(stop, changed, said.append))
        while len(clock.waited_s) < 7:  # noqa: ASYNC110 - the clock is a list here
            await asyncio.sleep(0.05)
        stop.set()
        await keeping
    assert clock.waited_s[:7] == [1, 2, 4, 8, 16, 30, 30]
    assert _starts(tmp_path) >= 7
    assert changed.is_set()
    assert "swarm-sidecar ended (status 4); it is started again in 1 s" in said[0]


async def test_one_that_can_not_start_again_is_tried_on(
    make: Make, tmp_path: Path, clock: QuickClock
) -> None:
    child, said, stop, changed = make("serve"), [], asyncio.Event(), asyncio.Event()
    await child.start()
    child.program = Program("sidecar", (SCRIPT, str(tmp_path), "sidecar", "die"))
    os.kill(int(str(child.facts["pid"])), signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as group:
        keeping = group.create_task(child.keep(stop, changed, said.append))
        while len(clock.waited_s) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        child.program = Program("sidecar", (SCRIPT, str(tmp_path), "sidecar", "serve"))
        await changed.wait()
        stop.set()
        await keeping
    assert child.running
    assert any("ended before it was ready" in line for line in said)


async def test_a_watch_that_is_stopped_leaves_the_process(make: Make) -> None:
    child, stop = make("serve"), asyncio.Event()
    await child.start()
    async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as group:
        group.create_task(child.keep(stop, asyncio.Event(), print))
        await asyncio.sleep(0.1)
        stop.set()
    assert child.running


async def test_stopping(make: Make, tmp_path: Path) -> None:
    child = make("serve")
    await child.start()
    child.terminate()
    assert await child.ended(WITHIN_S)
    await child.kill()
    assert read_ready(DataDir(tmp_path), "sidecar") is None
    child.terminate()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal to ignore")
async def test_a_stubborn_one_is_killed(make: Make) -> None:
    child = make("stubborn")
    await child.start()
    child.terminate()
    assert not await child.ended(0.3)
    await child.kill()
    assert not child.running


async def test_one_never_started_is_stopped_quietly(make: Make) -> None:
    child = make("serve")
    child.terminate()
    assert await child.ended(1)
    await child.kill()


@pytest.mark.skipif(os.name == "nt", reason="process groups are POSIX")
async def test_a_terminals_ctrl_c_does_not_reach_it(make: Make) -> None:
    child = make("serve")
    await child.start()
    assert os.getpgid(int(str(child.facts["pid"]))) != os.getpgid(0)


PARENT = """
import asyncio, sys
from pathlib import Path
from cli.supervise.child import Child, Program
from swarmplane.clock import SystemClock
from swarmplane.datadir import DataDir

async def main():
    program = Program("sidecar", ({script!r}, sys.argv[1], "sidecar", "stubborn"))
    child = Child(program, DataDir(Path(sys.argv[1])), SystemClock())
    await child.start()
    print(child.facts["pid"], flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(script=SCRIPT), str(tmp_path)], stdout=subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        orphan = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        _, alive = psutil.wait_procs([orphan], timeout=WITHIN_S)
        assert not alive
    finally:
        with contextlib.suppress(ProcessLookupError):
            parent.kill()
        parent.wait(10)
        if parent.stdout is not None:
            parent.stdout.close()
