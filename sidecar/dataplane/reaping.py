"""The last line against leaks: requests whose connection is gone, and slots whose request is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sidecar.core.reaper import Entry, Reaper

if TYPE_CHECKING:
    from sidecar.dataplane.server import DataPlane

log = logging.getLogger(__name__)


class Reaping:
    """Looks at everything in flight every second or so. What it finds is a defect elsewhere, and counted."""

    __slots__ = ("_plane", "_reaper")

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._reaper = Reaper()

    def look(self, now_s: float) -> None:
        """Cancel requests whose client's connection has been gone for seconds; free slots of nobody."""
        plane = self._plane
        active = {id(exchange): exchange for exchange in plane.active}
        open_connections = {id(connection) for connection in plane.connections}
        entries = [Entry(number, id(exchange.connection)) for number, exchange in active.items()]
        for dead in self._reaper.look(entries, open_connections.__contains__, now_s):
            plane.counters.reaped += 1
            log.error("request.reaped: cause=%s", dead.cause.value)
            active[dead.lease].cancel()
        plane.counters.reaped += plane.owner.reap()
