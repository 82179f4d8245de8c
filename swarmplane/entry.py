"""How a process of ours runs to its end: its loop, its exit status, and one line about a failure."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Final

import structlog

from swarmplane.errors import SwarmError

FAILED: Final = 1
USAGE: Final = 2

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def run_to_end(program: str, life: Coroutine[None, None, None]) -> int:
    """Run ``life`` on a loop of its own, uvloop's where there is one. The exit status: 0, or 1."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(life)
    except SwarmError as error:
        return say(program, error.message, FAILED)
    except KeyboardInterrupt:
        return FAILED
    except BaseExceptionGroup as failures:
        return say(program, _first(program, failures), FAILED)
    return 0


def say(program: str, message: str, status: int) -> int:
    """Write ``message`` to standard error in the name of ``program``; ``status`` again."""
    sys.stderr.write(f"{program}: {message}\n")
    return status


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _first(program: str, failures: BaseExceptionGroup[BaseException]) -> str:
    """One line about the first of ``failures``; what is not ours to expect is logged whole."""
    inner: BaseException = failures
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    if isinstance(inner, SwarmError):
        return inner.message
    event = program.removeprefix("swarm-") + ".failed"
    log.error(event, exc_info=failures)
    return f"{type(inner).__name__}: {inner}"
