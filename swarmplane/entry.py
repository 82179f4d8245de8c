"""How a process of ours is called and runs to its end: flags, loop, exit status, a line about a failure."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from swarmplane.errors import SwarmError
from swarmplane.settings.directories import default_data_dir

FAILED: Final = 1
USAGE: Final = 2

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every process of a host takes; :func:`data_dir_of` and the like read them."""
    parser.add_argument("--data-dir", type=Path, help="where this host keeps things")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting; repeatable"
    )
    lifeline = parser.add_mutually_exclusive_group()
    lifeline.add_argument("--lifeline-stdin", action="store_true", help="stop when standard input ends")
    lifeline.add_argument("--lifeline-fd", type=int, metavar="N", help="stop when this pipe ends")


def data_dir_of(given: Mapping[str, Any]) -> Path:
    """The data directory that was ``given``, absolute, or this platform's."""
    return (given["data_dir"] or default_data_dir()).expanduser().absolute()


def lifeline_of(given: Mapping[str, Any]) -> int | None:
    """The read end of a pipe whose end means that the parent died; None: there is none."""
    return 0 if given["lifeline_stdin"] else given["lifeline_fd"]


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
