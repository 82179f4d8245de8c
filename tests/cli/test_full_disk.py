"""A disk that is full ends neither a host that serves nor a command with a traceback."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.failures import report
from cli.supervise import host as host_module
from cli.supervise.child import Child, Program
from cli.supervise.host import Host, Plan
from swarmplane.clock import SystemClock
from swarmplane.datadir import DataDir
from swarmplane.runtime import Runtime, read_runtime, write_runtime
from swarmplane.settings.schema import Settings


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/d/runtime.json")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(Plan(DataDir(tmp_path), Settings(), (), founder=False), (), SystemClock())


async def test_runtime_json_is_written_once_there_is_room(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tries = []

    def twice_full(data_dir: DataDir, runtime: Runtime) -> None:
        tries.append(runtime)
        if len(tries) < 3:
            full()
        write_runtime(data_dir, runtime)

    monkeypatch.setattr(host_module, "write_runtime", twice_full)
    monkeypatch.setattr(host_module, "_WRITE_AGAIN_S", 0.01)
    changed = asyncio.Event()
    changed.set()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        writing = group.create_task(host._rewrite(changed))
        while read_runtime(DataDir(tmp_path)) is None:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.01)
        writing.cancel()
    said = capsys.readouterr().err
    assert said.count("can't be written: no space left on device") == 1


async def test_a_child_that_can_not_be_spawned_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class QuickClock(SystemClock):
        async def sleep(self, seconds: float) -> None:
            del seconds
            await asyncio.sleep(0)

    child, said, stop = Child(Program("sidecar", ()), DataDir(tmp_path), QuickClock()), [], asyncio.Event()

    async def refuse() -> None:
        full()

    monkeypatch.setattr(child, "_spawn", refuse)

    def hear(line: str) -> None:
        said.append(line)
        if len(said) > 4:
            stop.set()

    await asyncio.wait_for(child.keep(stop, asyncio.Event(), hear), 30)
    assert sum("can't be started: no space left on device" in line for line in said) >= 2


def test_what_the_system_refuses_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/d/x")
    assert report(ExceptionGroup("both", [error])) == 1
    assert capsys.readouterr().err == "error: /d/x: no space left on device\n"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no directories")
def test_a_data_directory_that_can_not_be(swarmctl: Callable[..., Any]) -> None:
    done = swarmctl("up", data_dir=Path("/proc/x"))
    assert done.status == 1
    assert "can't be written" in done.err


def test_the_version_as_a_flag(swarmctl: Callable[..., Any]) -> None:
    done = swarmctl("--version", data_dir=None)
    assert (done.status, done.out.startswith("swarmplane ")) == (0, True)


def test_silence_that_is_unknown_is_null() -> None:
    from cli.client.documents import node
    from swarmplane.client import decoding
    from swarmplane.v1 import node_pb2

    assert node(decoding.node(node_pb2.Node(silent_s=-1.0)))["silent_s"] is None
    assert node(decoding.node(node_pb2.Node(silent_s=0.5)))["silent_s"] == 0.5


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_logs_and_new_directories_are_the_users_alone(tmp_path: Path) -> None:
    from sidecar.engines.guard import Log
    from swarmplane.datadir import open_private_log, write_atomically

    before = os.umask(0o022)
    try:
        os.close(open_private_log(tmp_path / "host.log"))
        log = Log(tmp_path / "engine.log", 10)
        log.write(b"123456789")
        log.write(b"123456789")  # the second generation too
        assert log._file is not None
        log._file.close()
        write_atomically(tmp_path / "d" / "contexts" / "a" / "key.pem", b"")
    finally:
        os.umask(before)
    for name in ("host.log", "engine.log", "engine.log.1"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    for name in ("d", "d/contexts", "d/contexts/a"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700
