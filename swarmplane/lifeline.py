"""Signals and the lifeline: what tells a process of ours to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType


def on_signals(loop: asyncio.AbstractEventLoop, ask: Callable[[], None]) -> None:
    """Call ``ask`` on ``loop`` at every SIGTERM and SIGINT."""

    def wake(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(ask)

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, ask)
        except NotImplementedError:  # Windows' loops take no handlers
            signal.signal(number, wake)


def on_hangup(loop: asyncio.AbstractEventLoop, act: Callable[[], object]) -> None:
    """Call ``act`` on ``loop`` at every SIGHUP, where the platform has it."""
    number = getattr(signal, "SIGHUP", None)
    if number is not None:
        loop.add_signal_handler(number, act)


def watch_lifeline(loop: asyncio.AbstractEventLoop, descriptor: int, ask: Callable[[], None]) -> None:
    """Call ``ask`` on ``loop`` when the pipe ``descriptor`` ends: the parent died, however it died.

    A thread waits for it, because Windows' loops can't read such pipes. It dies with the process.
    """

    def wait() -> None:
        try:
            while os.read(descriptor, 4096):
                pass
        except OSError:
            pass
        if not loop.is_closed():
            loop.call_soon_threadsafe(ask)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
