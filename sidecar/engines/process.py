"""A guarded process: started, followed and stopped through its guard."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmplane.errors import UnavailableError

LOG_BYTES: Final = 4 * 1024 * 1024
_GUARD: Final = Path(__file__).with_name("guard.py")
_START_S: Final = 20.0
_LATE_S: Final = 3.0
"""The guard's own kill comes after the grace; what then still stands is killed from here."""
_TAIL_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. ``code`` is negative for a signal, None where nobody was left to see it."""

    code: int | None


class GuardedProcess:
    """An engine under its guard. It ends with :meth:`stop`, with this process, or by itself."""

    def __init__(self, guard: asyncio.subprocess.Process, pid: int) -> None:
        self.pid = pid
        self.exit: Exit | None = None
        self._guard = guard
        self._ended = asyncio.Event()
        self._closed = asyncio.Event()

    @classmethod
    async def start(
        cls, command: Sequence[str], *, env: Mapping[str, str], folder: Path, log: Path
    ) -> GuardedProcess:
        """Start ``command`` in ``folder``, its output in ``log``.

        Raises:
            UnavailableError: The guard did not come up.
        """
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP
        guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_GUARD)),
            *("--log", str(log), "--log-bytes", str(LOG_BYTES), "--", *command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env=dict(env),
            start_new_session=sys.platform != "win32",  # Ctrl-C is ours to handle
            creationflags=flags,
        )
        try:
            async with asyncio.timeout(_START_S):
                word, pid = await _read_line(guard)
        except TimeoutError:
            word, pid = "", 0
        except BaseException:
            await _end(guard)
            raise
        if word != "started":
            await _end(guard)
            raise UnavailableError("its guard process does not start")
        return cls(guard, pid)

    async def follow(self, ended: Callable[[], None]) -> None:
        """Wait for the end, then set :attr:`exit` and call ``ended``."""
        word, code = await _read_line(self._guard)
        if word == "exited":
            self.exit = Exit(code)
        else:  # the guard was killed; where the kernel does not end the engine with it, we do
            self._kill_group()
            self.exit = Exit(None)
        self._ended.set()
        ended()
        await _close(self._guard)
        self._closed.set()

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, kill it after ``grace_s``, and wait until it is gone; :meth:`follow` must run."""
        stdin = self._guard.stdin
        if self.exit is None and stdin is not None:
            with contextlib.suppress(OSError):
                stdin.write(f"stop {max(round(grace_s), 0)}\n".encode())
                await stdin.drain()
        try:
            async with asyncio.timeout(grace_s + _LATE_S):
                await self._ended.wait()
        except TimeoutError:
            self._kill_group()
        finally:
            if stdin is not None:
                stdin.close()  # the lifeline: whatever happened above, it ends now
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LATE_S):
                await self._closed.wait()

    def _kill_group(self) -> None:
        if sys.platform == "win32":  # the job object ended everything when the guard went
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


async def _read_line(guard: asyncio.subprocess.Process) -> tuple[str, int]:
    """Word and number of the guard's next line; an empty word at its end."""
    output = guard.stdout
    line = b"" if output is None else await output.readline()
    word, _, number = line.decode("ascii", "replace").strip().partition(" ")
    return (word, int(number)) if number.removeprefix("-").isdigit() else ("", 0)


async def _end(guard: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        guard.kill()
    await _close(guard)


async def _close(guard: asyncio.subprocess.Process) -> None:
    """Wait for the guard's own end and give its pipes back."""
    if guard.stdout is not None:
        await guard.stdout.read()
    await guard.wait()
    if guard.stdin is not None:
        guard.stdin.close()
        with contextlib.suppress(OSError):
            await guard.stdin.wait_closed()


def last_lines(log: Path, count: int = 10) -> tuple[str, ...]:
    """The end of a log; empty where there is none. It blocks."""
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - _TAIL_BYTES, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(line.rstrip() for line in text.splitlines()[-count:])
