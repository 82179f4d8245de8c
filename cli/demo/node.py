"""A node of the demo: ``swarmctl up`` or ``join`` in a process of its own, as a user runs it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from swarmplane.datadir import DataDir
from swarmplane.errors import FailedPreconditionError, UnavailableError
from swarmplane.runtime import Runtime, read_runtime
from swarmplane.settings.layers import PREFIX

READY_S: Final = 90.0
_STOP_S: Final = 20.0
_POLL_S: Final = 0.05
_TAIL_LINES: Final = 30


class DemoNode:
    """One host in ``directory``. It dies with this process: its standard input is its lifeline."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.data_dir = DataDir(directory / name)
        self.log = directory / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, command: Sequence[str], *flags: str) -> Runtime:
        """Run it until it is ready.

        Raises:
            FailedPreconditionError: It ended; the message has the end of its log.
            UnavailableError: It is not ready in time.
        """
        arguments = [*command, "--data-dir", str(self.data_dir.root), "--name", self.name, "--lifeline-stdin"]
        arguments += ["--listen", "127.0.0.1:0", "--no-discover", "--no-mdns"]
        for kind in ("admin", "peer", "control", "join", "console"):
            arguments += [f"--{kind}-listen", "127.0.0.1:0"]
        with self.log.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cli.main", *arguments, *flags,
                stdin=subprocess.PIPE, stdout=output, stderr=output, env=_environment(), **_own_group(),
            )  # fmt: skip
        try:
            async with asyncio.timeout(READY_S):
                return await self._ready(self._process)
        except TimeoutError:
            raise UnavailableError(
                f"node {self.name} is not ready after {READY_S:g} s:\n{self.tail()}"
            ) from None

    async def _ready(self, process: asyncio.subprocess.Process) -> Runtime:
        while process.returncode is None:
            runtime = await asyncio.to_thread(read_runtime, self.data_dir)
            if runtime is not None:
                return runtime
            await asyncio.sleep(_POLL_S)
        raise FailedPreconditionError(
            f"node {self.name} ended with status {process.returncode}:\n{self.tail()}"
        )

    def tail(self) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])

    async def stop(self) -> None:
        """End it; what does not end in time is killed."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()  # the end of its lifeline: stop, everywhere
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _environment() -> dict[str, str]:
    # What the user set for a host of their own is not for these.
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def _own_group() -> dict[str, Any]:
    # Ctrl-C is ours to take: we stop the nodes in order.
    if os.name == "nt":
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"process_group": 0}
