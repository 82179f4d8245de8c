"""How a host is asked to stop: a signal, or a request file where signals can't be sent (Windows)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from enum import Enum
from types import FrameType
from typing import Final

from swarmplane.datadir import DataDir, write_atomically

_POLL_S: Final = 0.5


class Wish(Enum):
    """What is wanted after the stop."""

    STOP = "stop"
    RESTART = "restart"


class Stopping:
    """Set once a stop is asked for; a second Ctrl-C makes it urgent."""

    def __init__(self, data_dir: DataDir) -> None:
        self._request = data_dir.run / "request"
        self.asked = asyncio.Event()
        self.urgent = asyncio.Event()
        self.hung_up = asyncio.Event()
        """Set for a reload; whoever serves it clears it."""
        self.interrupted = False
        """By a person at the terminal, who does not want to wait for long."""

    @property
    def wish(self) -> Wish:
        """What the request file says, if there is one."""
        with contextlib.suppress(OSError, ValueError):
            return Wish(self._request.read_text(encoding="ascii").strip())
        return Wish.STOP

    def forget_request(self) -> None:
        """Remove a request that was served or that is left from another run."""
        self._request.unlink(missing_ok=True)

    def ask(self, number: int) -> None:
        """Take a signal."""
        if self.asked.is_set() and number == signal.SIGINT:
            self.urgent.set()
        self.interrupted = self.interrupted or number == signal.SIGINT
        self.asked.set()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and SIGHUP until the end of the block.

        SIGHUP asks for a reload, except where it came because the terminal was closed: that is a stop, if it
        would have been one for any other program (``nohup`` says that it would not).
        """
        loop = asyncio.get_running_loop()
        hangup = getattr(signal, "SIGHUP", None)
        bound = hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN and _has_terminal()

        def take(number: int, _frame: FrameType | None = None) -> None:
            if number == hangup and not (bound and not _has_terminal()):
                loop.call_soon_threadsafe(self.hung_up.set)
            else:
                loop.call_soon_threadsafe(self.ask, number)

        numbers = [signal.SIGINT, signal.SIGTERM, *([hangup] if hangup is not None else [])]
        before = {number: signal.signal(number, take) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def watch(self) -> None:
        """Until a stop is asked for, look for a request file where nobody can signal us."""
        while os.name == "nt" and not self.asked.is_set():
            if self._request.exists():
                self.asked.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self.asked.wait()


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def request(data_dir: DataDir, pid: int, wish: Wish) -> None:
    """Ask the host that runs as ``pid`` to stop, or to start anew.

    Raises:
        ProcessLookupError: There is no such process.
        PermissionError: It is another user's.
    """
    write_atomically(data_dir.run / "request", wish.value.encode())
    if os.name != "nt":
        os.kill(pid, signal.SIGTERM)
