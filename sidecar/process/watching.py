"""Looking at this host every few seconds: what choosers here and elsewhere price it by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

import structlog

from sidecar.backends import host
from sidecar.backends.hardware import Hardware, Spare
from sidecar.backends.registry import BackendRegistry
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.own_condition import HostReading, OwnCondition, Sources
from swarmplane.clock import Clock
from swarmplane.inventory import Inventory

EVERY_S: Final = 5.0
log: structlog.stdlib.BoundLogger = structlog.get_logger()


def read_host(spare: Spare) -> HostReading:
    """What the operating system tells, beside what is ``spare``. It blocks for a few milliseconds."""
    free_bytes, memory_bytes, pressure = host.memory(spare)
    return HostReading(
        free_bytes,
        memory_bytes,
        pressure,
        host.owner_active(),
        host.overheated(),
        spare.disk_free_bytes,
        spare.battery.percent if spare.battery is not None else None,
        spare.battery.on_mains is False if spare.battery is not None else None,
    )


class HostWatch:
    """Keeps ``routes`` told of this host; a part that cannot be read is unknown, never an error.

    Args:
        routes: Told how it is.
        registry: Told what it is.
        clock: Of the loop.
        hardware: What it is made of.
        gateway: Its URL as a gateway, as known now; empty: it is none.
    """

    def __init__(
        self,
        routes: CurrentRoutes,
        registry: BackendRegistry,
        clock: Clock,
        hardware: Hardware,
        gateway: Callable[[], str] = str,
    ) -> None:
        self._hardware = hardware
        self._gateway = gateway
        self._routes = routes
        self._registry = registry
        self._clock = clock
        self._own = OwnCondition(
            Sources(
                rate=lambda key: routes.balancer.history.rates.get(key, 0.0),
                kv_used=registry.kv_used,
                told_rate=lambda name: registry.figures(name).tokens_per_s,
                idle=lambda key: not routes.in_flight(key),
                resident=registry.resident,
            )
        )
        self._failed = False
        self._reading: HostReading | None = None
        registry.subscribe(self._changed)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(EVERY_S)

    def tell(self) -> None:
        """Tell what this host is now."""
        self._registry.set_host(self._hardware.facts(self._gateway()))

    def _read(self) -> HostReading:
        return read_host(self._hardware.look(self._clock.now_s()))

    async def look(self) -> None:
        """Look once."""
        try:
            reading = await asyncio.to_thread(self._read)
        except Exception as error:  # noqa: BLE001 - whatever a platform's figures raise: they are extras
            if not self._failed:
                self._failed = True
                log.warning("host.unreadable", reason=repr(error))
            reading = HostReading()
        self._reading = reading
        self.tell()
        self._compose(self._registry.inventory())

    def _changed(self, inventory: Inventory) -> None:
        """A model was loaded or unloaded: that is told at once, with the host as it was seen last."""
        if self._reading is not None:
            self._compose(inventory)

    def _compose(self, inventory: Inventory) -> None:
        routes = self._routes
        condition = self._own.compose(
            self._reading or HostReading(), routes.view.own, inventory, self._clock.now_s()
        )
        routes.set_condition(routes.node_id, condition, inf)
