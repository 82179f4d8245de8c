"""Requests at this host's backends that did not come through the swarm, as the backends tell."""

from __future__ import annotations

from sidecar.backends.figures import Figures
from sidecar.routing.current import CurrentRoutes
from swarmplane.ids import BackendName


class Outside:
    """Counts what a backend serves beyond what was sent to it from here.

    A request of ours may end between the backend's word and our count: what was there at two looks counts.
    """

    def __init__(self, routes: CurrentRoutes) -> None:
        self._routes = routes
        self._last: dict[BackendName, int] = {}

    def told(self, backend: BackendName, figures: Figures) -> None:
        """A look at ``backend`` found ``figures``. O(own endpoints)."""
        endpoints = [key for key, own in self._routes.view.own.items() if own.endpoint.backend == backend]
        more = 0
        if figures.running is not None:
            ours = sum(self._routes.in_flight(key) for key in endpoints)
            more = max(figures.running + (figures.waiting or 0) - ours, 0)
        before = self._last.pop(backend, 0)
        if more:
            self._last[backend] = more
        for key in endpoints:
            self._routes.set_outside(key, min(more, before))
