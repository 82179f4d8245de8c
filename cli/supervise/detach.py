"""``up -d``: the same host in a process of its own, that outlives the terminal."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cli.output import say
from cli.supervise import banner
from cli.supervise.lock import holder
from cli.supervise.run import founds, keep, runs_control_plane
from swarmplane.datadir import DataDir, make_private, open_private_log
from swarmplane.errors import AlreadyExistsError, FailedPreconditionError, UnavailableError
from swarmplane.runtime import Runtime, read_runtime
from swarmplane.settings.load import load

_READY_S: Final = 180.0
_POLL_S: Final = 0.05
_LOG_LIMIT_BYTES: Final = 10 * 1024 * 1024


def host_log(data_dir: DataDir) -> Path:
    """Where a host without a terminal writes what it has to say."""
    return data_dir.logs / "host.log"


def run_detached(
    data_dir: DataDir,
    overrides: Sequence[str],
    *,
    flags: tuple[str, ...] = (),
    kept: Sequence[str] = (),
    new: bool = False,
) -> None:
    """Start the host and wait until it is ready. It blocks.

    Args:
        data_dir: Of the host.
        overrides: Settings of the command line.
        flags: That lead other commands to this host, for lines that people copy.
        kept: Those of ``overrides`` that go into ``config.toml`` once the host is ready.
        new: Whether it founds a swarm whatever there is on the network.

    Raises:
        AlreadyExistsError: It runs already.
        FailedPreconditionError: It ended; what it said has been shown.
    """
    pid = holder(data_dir)
    if pid is not None:
        raise AlreadyExistsError(f"this host runs already (pid {pid}, data directory {data_dir.root})")
    asyncio.run(_start_and_announce(data_dir, overrides, flags, kept, new=new))


async def _start_and_announce(
    data_dir: DataDir, overrides: Sequence[str], flags: tuple[str, ...], kept: Sequence[str], *, new: bool
) -> None:
    founded = founds(data_dir)
    runtime = await _started(data_dir, overrides, new=new)
    await asyncio.to_thread(keep, data_dir, kept)
    settings = await asyncio.to_thread(load, data_dir.root, overrides)
    founder = runs_control_plane(data_dir)
    await banner.announce(
        data_dir, settings, runtime, founder=founder, founded=founded and founder, flags=flags
    )


async def _started(data_dir: DataDir, overrides: Sequence[str], *, new: bool) -> Runtime:
    log = host_log(data_dir)
    _prepare(log)
    said_before = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "cli.main", "up", "--data-dir", str(data_dir.root)]
    for override in overrides:
        command += ["--set", override]
    if new:
        command.append("--new")
    with os.fdopen(open_private_log(log), "ab") as output:
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - it returns at once, and outlives this loop
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **_apart()
        )
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + _READY_S
    while process.poll() is None:
        runtime = read_runtime(data_dir)
        if runtime is not None and runtime.pid == holder(data_dir):
            return runtime
        if loop.time() > ends_s:
            raise UnavailableError(f"the host is not ready after {_READY_S:g} s; its log is {log}")
        await asyncio.sleep(_POLL_S)
    say(log.read_bytes()[said_before:].decode(errors="replace").rstrip())
    raise FailedPreconditionError(f"the host ended with status {process.returncode}; its log is {log}")


def log_into(log: Path) -> None:
    """Write what this process and those that it starts have to say into ``log``, from now on. It blocks.

    For service managers that keep no output themselves.
    """
    _prepare(log)
    descriptor = open_private_log(log)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


def _prepare(log: Path) -> None:
    make_private(log.parent)
    _rotate(log)


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))


def _apart() -> dict[str, Any]:
    if os.name == "nt":
        flags = ("DETACHED_PROCESS", "CREATE_NEW_PROCESS_GROUP")
        return {"creationflags": sum(getattr(subprocess, name, 0) for name in flags)}
    return {"start_new_session": True}
