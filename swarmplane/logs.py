"""What a process writes about itself: one line an event on stderr, as text or as JSON.

``event`` is a constant ``noun.past_verb``, values are fields. Prompts, answers and secrets are never logged.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Final, Protocol

import structlog

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_QUIET: Final = ("asyncio", "grpc", "aiohttp")
"""Libraries heard from ``warning`` on, whatever our own level."""


class Stream(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object:
        """Take ``text``."""
        ...

    def flush(self) -> None:
        """Pass on what was taken."""
        ...

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        ...


class _Unbreakable:
    """A stream whose reader may die: writing a line must never be what stops a process that still serves."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure(level: str, style: str, stream: Stream | None = None) -> None:
    """Log from ``level`` on, to ``stream`` (stderr), as ``text`` or ``json``. Libraries' records come along.

    May be called again, as for ``POST /logging``: it replaces what it set before.
    """
    target = sys.stderr if stream is None else stream
    safe = _Unbreakable(target)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Text is for people who read along: no traceback art, it prints local variables.
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(
            colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    formatted: list[structlog.typing.Processor] = [structlog.processors.format_exc_info] * (style == "json")
    structlog.configure(
        processors=[*shared, *formatted, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(safe),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(safe)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *formatted,
                renderer,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=LEVELS[level], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))
