"""The connection to the control plane that a command means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cli.client.control import ControlClient
from cli.invocation import Invocation
from cli.output import say
from swarmplane.client import AsyncClient
from swarmplane.client.targets import Target, chosen_target


@asynccontextmanager
async def connected(called: Invocation) -> AsyncIterator[ControlClient]:
    """A connection to the control plane that ``called`` means.

    Raises:
        SwarmError: There is no credential, or no control plane answers.
    """
    async with connected_to(chosen_target(called.data_dir, called.context)) as client:
        yield client


@asynccontextmanager
async def connected_to(target: Target) -> AsyncIterator[ControlClient]:
    """A connection to the first address of ``target`` that answers."""
    async with await asyncio.to_thread(AsyncClient.from_target, target) as client:
        try:
            yield ControlClient(client)
        finally:
            if client.stale_s:
                say(f"note: the store is out of reach; this is {client.stale_s:.0f} s old")
