"""``python -m sidecar.main``, also known as ``swarm-sidecar``: forward requests for models."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence

import structlog

from sidecar.process.arguments import parse_arguments
from swarmplane import logs
from swarmplane.errors import InvalidRequestError, SwarmError
from swarmplane.settings.load import load

FAILED = 1
USAGE = 2

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the sidecar until it is told to stop. Returns the exit status: 0, 1 failed, 2 usage."""
    given = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        settings = load(given.data_dir, given.overrides)
    except InvalidRequestError as error:
        return _say(error.message, USAGE)
    logs.configure(settings.log.level, settings.log.format)
    from sidecar.process.life import live

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(live(settings, given))
    except SwarmError as error:
        return _say(error.message, FAILED)
    except KeyboardInterrupt:
        return FAILED
    except BaseExceptionGroup as failures:
        return _say(_first(failures), FAILED)
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _first(failures: BaseExceptionGroup[BaseException]) -> str:
    """One line about the first of ``failures``; what is not ours to expect is logged whole."""
    inner: BaseException = failures
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    if isinstance(inner, SwarmError):
        return inner.message
    log.error("sidecar.failed", exc_info=failures)
    return f"{type(inner).__name__}: {inner}"


def _say(message: str, status: int) -> int:
    sys.stderr.write(f"swarm-sidecar: {message}\n")
    return status


if __name__ == "__main__":
    sys.exit(run())
