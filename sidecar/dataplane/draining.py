"""What a draining process still owes to clients that it let in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.dataplane.connection import ClientConnection

ACCEPTED_S: Final = 0.05
"""How long connections that the kernel has handed to us take to become ours."""
_FIRST_REQUEST_S: Final = 1.0
_EVERY_S: Final = 0.02


async def served(
    connections: Collection[ClientConnection], active: Collection[object], refuse: Callable[[], None]
) -> None:
    """Wait for the first requests of ``connections``, a second at most, then until nothing is ``active``.

    Those clients were let in before the listener closed: another process that listens there has them not, and
    where no other node has their model nobody else serves them. ``refuse`` is called when all have asked.
    """
    try:
        async with asyncio.timeout(_FIRST_REQUEST_S):
            while any(connection.fresh for connection in connections):  # noqa: ASYNC110 - in dozens of places
                await asyncio.sleep(_EVERY_S)
    except TimeoutError:
        pass
    finally:
        refuse()
    while active:  # noqa: ASYNC110 - likewise
        await asyncio.sleep(_EVERY_S)
