"""Looking at this host every few seconds: what choosers here and elsewhere price it by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

import structlog

from sidecar.backends import host
from sidecar.backends.registry import BackendRegistry
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.own_condition import HostReading, OwnCondition, Sources
from swarmplane.clock import Clock
from swarmplane.inventory import UNKNOWN_HOST, HostFacts

EVERY_S: Final = 5.0
log: structlog.stdlib.BoundLogger = structlog.get_logger()


def read_host() -> HostReading:
    """What the operating system tells. It blocks for a few milliseconds."""
    free_bytes, memory_bytes, pressure = host.memory()
    return HostReading(free_bytes, memory_bytes, pressure, host.owner_active(), host.overheated())


class HostWatch:
    """Keeps ``routes`` told of this host; a part that cannot be read is unknown, never an error.

    Args:
        routes: Told how it is.
        registry: Told what it is.
        clock: Of the loop.
        facts: What it is, as known now; does not block.
    """

    def __init__(
        self,
        routes: CurrentRoutes,
        registry: BackendRegistry,
        clock: Clock,
        facts: Callable[[], HostFacts] = lambda: UNKNOWN_HOST,
    ) -> None:
        self._facts = facts
        self._routes = routes
        self._registry = registry
        self._clock = clock
        self._own = OwnCondition(
            Sources(
                rate=lambda key: routes.balancer.history.rates.get(key, 0.0),
                kv_used=registry.kv_used,
                idle=lambda key: not routes.in_flight(key),
                resident=registry.resident,
            )
        )
        self._failed = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(EVERY_S)

    def tell(self) -> None:
        """Tell what this host is now."""
        self._registry.set_host(self._facts())

    async def look(self) -> None:
        """Look once."""
        try:
            reading = await asyncio.to_thread(read_host)
        except Exception as error:  # noqa: BLE001 - whatever a platform's figures raise: they are extras
            if not self._failed:
                self._failed = True
                log.warning("host.unreadable", reason=repr(error))
            reading = HostReading()
        self.tell()
        routes = self._routes
        condition = self._own.compose(
            reading, routes.view.own, self._registry.inventory(), self._clock.now_s()
        )
        routes.set_condition(routes.node_id, condition, inf)
