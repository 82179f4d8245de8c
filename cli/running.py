"""Run one coroutine to its end."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, on an event loop of its own; Ctrl-C ends it."""
    import asyncio  # with ssl and all it takes longer to import than --help may take

    return asyncio.run(work)
