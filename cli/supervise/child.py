"""A process of this host: started, known to be ready, started again when it dies, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from swarmplane.clock import Clock
from swarmplane.datadir import DataDir
from swarmplane.errors import FailedPreconditionError, UnavailableError, reason_of
from swarmplane.runtime import ProcessName, read_ready, remove_ready

READY_S: Final = 60.0
_POLL_S: Final = 0.02
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0
_STEADY_S: Final = 60.0
"""After this long a death counts as the first again."""
_KILL_S: Final = 5.0
# gRPC's fork handlers are for programs that go on calling it after a fork; ours start other programs.
_ENVIRONMENT: Final = {"GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "ERROR"}


@dataclass(frozen=True, slots=True)
class Program:
    """What to run."""

    name: ProcessName
    arguments: tuple[str, ...]
    descriptors: tuple[int, ...] = ()
    """Of listening sockets, passed on under the same numbers."""
    environment: Mapping[str, str] = field(default_factory=dict)


class Child:
    """One program under supervision.

    Its standard input is its lifeline: when this process dies, however, the child reads the end and stops.
    """

    def __init__(self, program: Program, data_dir: DataDir, clock: Clock) -> None:
        self.program = program
        self._data_dir = data_dir
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self.facts: Mapping[str, object] = {}
        """What the ready file says, once the child serves."""

    @property
    def name(self) -> ProcessName:
        """Of the program."""
        return self.program.name

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start and wait until it serves.

        Raises:
            FailedPreconditionError: It ended first; it has said why.
            UnavailableError: It does not become ready.
        """
        await self._spawn()
        try:
            async with asyncio.timeout(READY_S):
                await self._until_ready()
        except TimeoutError:
            await self.kill()
            raise UnavailableError(f"swarm-{self.name} was not ready after {READY_S:g} s") from None

    async def keep(self, stop: asyncio.Event, changed: asyncio.Event, say: Callable[[str], None]) -> None:
        """Start it again whenever it dies, after 1 s doubling to 30 s, until ``stop``.

        Args:
            stop: Ends the watch; the process itself is left as it is.
            changed: Set when another process is ready in its place.
            say: Takes sentences for people.
        """
        wait_s = _FIRST_WAIT_S
        while not stop.is_set():
            since_s = self._clock.now_s()
            await _first_of(stop, self._wait())
            if stop.is_set():
                return
            wait_s = _FIRST_WAIT_S if self._clock.now_s() - since_s > _STEADY_S else wait_s
            say(f"swarm-{self.name} ended ({self._ending()}); it is started again in {wait_s:g} s")
            await _first_of(stop, self._clock.sleep(wait_s))
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            if stop.is_set():
                return
            try:
                await self.start()
            except (FailedPreconditionError, UnavailableError) as error:
                say(error.message)
            except OSError as error:  # no disk, memory or process left: they may come back
                say(f"swarm-{self.name} can't be started: {reason_of(error)}")
            else:
                changed.set()

    def terminate(self) -> None:
        """Ask it to drain and exit."""
        if not self.running or self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if os.name == "nt":
                self._let_go()
            else:
                self._process.terminate()

    def reload(self) -> bool:
        """Ask it to read its settings again; whether it was. One that still starts reads them anyway."""
        hangup = getattr(signal, "SIGHUP", None)
        ready = read_ready(self._data_dir, self.name)
        if hangup is None or self._process is None or not self.running or ready is None:
            return False
        if ready.get("pid") != self._process.pid:
            return False
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(hangup)
        return True

    async def kill(self) -> None:
        """End it now and collect it."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.running:
                self._process.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_S):
                await self._process.wait()
        self._let_go()
        remove_ready(self._data_dir, self.name)

    async def ended(self, within_s: float) -> bool:
        """Whether it ends within ``within_s``."""
        try:
            async with asyncio.timeout(within_s):
                await self._wait()
        except TimeoutError:
            return False
        return True

    async def _spawn(self) -> None:
        remove_ready(self._data_dir, self.name)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self.program.arguments,
            "--lifeline-stdin",
            stdin=subprocess.PIPE,
            env={**_ENVIRONMENT, **os.environ, **self.program.environment},
            **_own_group(self.program.descriptors),
        )

    async def _until_ready(self) -> None:
        while self.running:
            facts = read_ready(self._data_dir, self.name)
            if facts is not None:
                self.facts = facts
                return
            await asyncio.sleep(_POLL_S)
        raise FailedPreconditionError(f"swarm-{self.name} ended before it was ready ({self._ending()})")

    async def _wait(self) -> None:
        if self._process is not None:
            await self._process.wait()

    def _ending(self) -> str:
        status = self._process.returncode if self._process is not None else None
        if status is None:
            return "still running"
        return f"killed by signal {-status}" if status < 0 else f"status {status}"

    def _let_go(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


def _own_group(descriptors: Sequence[int]) -> dict[str, Any]:
    # Ctrl-C at a terminal goes to the whole foreground group: children are told by us, in order.
    if os.name == "nt":
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"process_group": 0, "pass_fds": tuple(descriptors)}


async def _first_of(stop: asyncio.Event, other: Coroutine[Any, Any, None]) -> None:
    """Return when ``stop`` is set or ``other`` is done; what is left is cancelled."""
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(stop.wait())
        working = group.create_task(other)
        await asyncio.wait((stopping, working), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        working.cancel()
