"""Requests for a model that nobody has ready but somebody loads: they wait instead of being refused.

The owner says so (`102`, phase ``loading``); a sender that knows another candidate leaves it for that one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from sidecar.core.answers import Answer, Refusal
from sidecar.core.attempts import Outcome
from sidecar.dataplane import hop as hops
from sidecar.dataplane.falling import Falls
from sidecar.dataplane.plan import allowed_s, read_content
from sidecar.dataplane.refusals import RefusedError
from swarmplane.errors import Code, SwarmError

if TYPE_CHECKING:
    from sidecar.dataplane.server import DataPlane
    from sidecar.routing.view import View

_MOST: Final = 256
"""Requests that wait at a time; a model's first seconds are no reason to hold more bodies."""


class Loads(Falls):
    """A request that waits for its model, before there is a plan for it."""

    __slots__ = ()

    def _refuse(self, error: SwarmError) -> None:
        """See :class:`sidecar.dataplane.attempting.Attempts`; another may answer, or it is waited for."""
        if self._falls_back(error):
            return
        if self.plan is None and error.code is Code.MODEL_LOADING and self._plane.loading.holds(self, error):
            return
        super()._refuse(error)

    def _heard_phase(self, phase: str) -> None:
        """See :class:`sidecar.dataplane.waiting.Waits`; nobody waits for a model beside one that has it."""
        plan = self._plan
        if phase == hops.LOADING and plan.left and plan.hop is None:
            self._cut_off()
            self._outcome(Outcome.STATUS, Answer(Refusal.LOADING.http_status, Refusal.LOADING.value))
            return
        super()._heard_phase(phase)

    def describe_wait(self, now_s: float, eta_s: float | None) -> dict[str, object]:
        """For the admin listener: no content, no addresses."""
        request, hop = self.request, self.request.head.hop
        return {
            "request_id": request.request_id.decode("latin-1"),
            "path": request.head.path.decode("latin-1"),
            "model": hop.model if hop is not None else read_content(request).model,
            "node": "",
            "endpoint": "",
            "origin": hop.origin if hop is not None else self._plane.routes.node_id,
            "attempts": 0,
            "streaming": False,
            "waits_for": "loading",
            "eta_s": eta_s,
            "age_s": round(now_s - self._started_s, 3),
        }

    def tell_loading(self, eta_s: float | None) -> None:
        """Tell a peer why it waits."""
        if self.connection.peer is not None:
            eta = "" if eta_s is None else f";eta={eta_s:.0f}"
            self.connection.write(hops.phase_message(f"{hops.LOADING}{eta}"))


class _Wait:
    __slots__ = ("eta_s", "next_phase_s", "until_s", "view")

    def __init__(self, until_s: float, next_phase_s: float, view: View, eta_s: float | None) -> None:
        self.until_s = until_s
        self.next_phase_s = next_phase_s
        self.view = view
        self.eta_s = eta_s


def _eta_s(error: SwarmError) -> float | None:
    swarm = error.swarm if isinstance(error, RefusedError) else None
    eta = swarm.get("eta_s") if swarm is not None else None
    return eta if isinstance(eta, float) else None


class Loading:
    """Those that wait; looked at by the ticks. A look without any costs nothing."""

    __slots__ = ("_plane", "_waiting")

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._waiting: dict[Loads, _Wait] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def holds(self, request: Loads, error: SwarmError) -> bool:
        """Whether ``request``, which would be refused with ``error``, waits (on) instead."""
        plane, now_s = self._plane, time.monotonic()
        wait, wait_s = self._waiting.get(request), plane.policy.loading_wait_s
        eta_s = _eta_s(error)
        if wait is not None:
            wait.eta_s = eta_s
            return now_s < wait.until_s and not plane.draining
        if wait_s <= 0.0 or len(self._waiting) >= _MOST or plane.draining:
            return False
        wait_s = min(wait_s, allowed_s(request.request.head))
        self._waiting[request] = _Wait(
            now_s + wait_s, now_s + plane.policy.phase_after_s, plane.routes.view, eta_s
        )
        request.tell_loading(eta_s)
        return True

    def requests(self, now_s: float) -> list[dict[str, object]]:
        """Those that wait, for the admin listener."""
        return [request.describe_wait(now_s, wait.eta_s) for request, wait in self._waiting.items()]

    def look(self, now_s: float) -> None:
        """Begin again whose model may be there, and refuse who waited long enough; call it at every tick."""
        if not self._waiting:
            return
        plane = self._plane
        for request, wait in tuple(self._waiting.items()):
            view = plane.routes.view
            if not request.gone and (now_s >= wait.until_s or view is not wait.view or plane.draining):
                wait.view = view
                request.start()
            if request.gone or request.plan is not None:
                del self._waiting[request]
            elif now_s >= wait.next_phase_s:
                wait.next_phase_s = now_s + plane.policy.phase_after_s
                request.tell_loading(wait.eta_s)
