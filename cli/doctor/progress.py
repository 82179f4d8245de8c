"""How far an examination is, in one line that goes away again; on terminals only."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Final

from cli.doctor.examine import Progress

_CLEAR: Final = "\r\x1b[K"
_NAMED: Final = 3


def line(progress: Progress) -> str:
    """As people see it."""
    waiting = ", ".join(progress.waiting[:_NAMED])
    more = f" and {len(progress.waiting) - _NAMED} more" if len(progress.waiting) > _NAMED else ""
    return f"examining {progress.done}/{progress.of}" + (f": {waiting}{more}" if waiting else "")


@contextlib.contextmanager
def shown_progress() -> Iterator[Callable[[Progress], None]]:
    """Takes progress while it lasts, and shows it where standard error is a terminal."""
    shown = sys.stderr.isatty()

    def tell(progress: Progress) -> None:
        if shown:
            sys.stderr.write(_CLEAR + line(progress))
            sys.stderr.flush()

    try:
        yield tell
    finally:
        if shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
