"""Run one coroutine to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, on an event loop of its own; Ctrl-C ends it."""
    return asyncio.run(work)
