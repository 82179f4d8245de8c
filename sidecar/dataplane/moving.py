"""Requests that entered here and wait for a slot somewhere: they move to a candidate that becomes free."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sidecar.core.queue_moves import QueuedAttempt, moves

if TYPE_CHECKING:
    from sidecar.dataplane.server import DataPlane
    from sidecar.dataplane.waiting import Waits


class Moving:
    """Those that wait. A look without any costs nothing."""

    __slots__ = ("_plane", "_waiting")

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._waiting: dict[Waits, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request: Waits) -> None:
        """It waits, and could go elsewhere."""
        self._waiting[request] = None

    def discard(self, request: object) -> None:
        """It does not wait any more."""
        self._waiting.pop(request, None)  # type: ignore[call-overload]

    def look(self) -> None:
        """Move whom it helps; call it at every tick."""
        if not self._waiting:
            return
        by_model: dict[str, list[Waits]] = {}
        for request in self._waiting:
            if request.plan is not None:
                by_model.setdefault(request.plan.model, []).append(request)
        for model, requests in by_model.items():
            self._move(model, requests)

    def _move(self, model: str, requests: list[Waits]) -> None:
        plane, now_s = self._plane, time.monotonic()
        queued: list[QueuedAttempt] = []
        for number, request in enumerate(requests):
            attempt = request.queued_attempt(number, now_s)
            if attempt is not None:
                queued.append(attempt)
        candidates = plane.routes.resolve(model, plane.clock_s()).candidates
        for one in moves(queued, candidates, plane.draw()):
            requests[one.request].move(one.to)
