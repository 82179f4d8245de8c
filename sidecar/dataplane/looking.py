"""A look into a large form that does not hold the loop: in steps, before the request is planned."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.dataplane.multipart import STEP_BYTES, scan
from swarmplane.errors import SwarmError

if TYPE_CHECKING:
    from sidecar.dataplane.exchange import Exchange
    from sidecar.dataplane.request import Request


def takes_steps(request: Request) -> bool:
    """Whether a look at its body would take long."""
    return request.size > STEP_BYTES and request.head.multipart


async def look(request: Request, exchange: Exchange) -> None:
    """Look into the body of ``request`` and then start its ``exchange``, unless the client left meanwhile."""
    steps = scan(request.body, request.head.options[b"content-type"])
    while request.size:
        try:
            next(steps)
        except StopIteration as done:
            request.content = done.value
        except SwarmError as error:
            request.content = error
        if request.content is not None:
            exchange.start()
            return
        await asyncio.sleep(0)
