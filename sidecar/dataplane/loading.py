"""Requests for a model that nobody has ready but somebody loads: they wait instead of being refused.

The owner says so (`102`, phase ``loading``); a sender that knows another candidate leaves it for that one.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Final

from sidecar.core.answers import Answer, Refusal
from sidecar.core.attempts import Outcome
from sidecar.core.backoff import retry_after_s
from sidecar.dataplane import hop as hops
from sidecar.dataplane.falling import Falls
from sidecar.dataplane.plan import allowed_s, read_content
from sidecar.dataplane.refusals import RefusedError
from sidecar.dataplane.showing import SHOW
from swarmplane.errors import Code, SwarmError

if TYPE_CHECKING:
    from sidecar.dataplane.server import DataPlane
    from sidecar.routing.view import View

_MOST: Final = 256
"""Requests that wait at a time; a model's first seconds are no reason to hold more bodies."""
_WAITED_FOR: Final = frozenset({Code.MODEL_LOADING, Code.MODEL_NOT_FOUND})
_HOPE_S: Final = 15.0
"""How long a request waits until somebody pulls its model, where policy allows that."""
_PULLED_S: Final = 5.0
"""From the end of a pull until the model is in the table."""


class Loads(Falls):
    """A request that waits for its model, before there is a plan for it."""

    __slots__ = ()

    def _refuse(self, error: SwarmError) -> None:
        """See :class:`sidecar.dataplane.attempting.Attempts`; another may answer, or it is waited for.

        What nobody shows is told as far as it is known here.
        """
        if self.request.head.path == SHOW and self.plan is not None:
            self._answer(self._plane.catalogue.show(self.request))
            return
        if self._falls_back(error):
            return
        if self.plan is None and error.code in _WAITED_FOR:
            loading = self._plane.loading
            if self.connection.peer is None:
                error = loading.pulled(error)
            if loading.holds(self, error):
                return
        super()._refuse(error)

    @abstractmethod
    def _answer(self, body: bytes) -> None:
        """The answer is ``body``, without any backend."""

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
    __slots__ = ("asked", "eta_s", "limit_s", "loads", "next_phase_s", "until_s", "view")

    def __init__(self, asked: str, limit_s: float, next_phase_s: float, view: View) -> None:
        self.asked = asked
        self.limit_s = self.until_s = limit_s
        """The end of all waiting, and of what it waits for now."""
        self.next_phase_s = next_phase_s
        self.view = view
        self.eta_s: float | None = None
        self.loads = True

    def hears(self, error: SwarmError, now_s: float) -> None:
        """Somebody loads or pulls the model, or nobody does yet, or any more."""
        loads, self.eta_s = error.code is Code.MODEL_LOADING, _eta_s(error)
        if loads != self.loads:
            self.loads = loads
            self.until_s = self.limit_s if loads else min(self.limit_s, now_s + _PULLED_S)


def _eta_s(error: SwarmError) -> float | None:
    swarm = error.swarm if isinstance(error, RefusedError) else None
    eta = swarm.get("eta_s") if swarm is not None else None
    return eta if isinstance(eta, float) else None


def _asked(error: SwarmError) -> str:
    return error.asked if isinstance(error, RefusedError) else ""


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
        if error.code is Code.MODEL_NOT_FOUND and not self._may_be_pulled(error):
            return False
        if wait is not None:
            wait.hears(error, now_s)
            return now_s < wait.until_s and not plane.draining
        if wait_s <= 0.0 or len(self._waiting) >= _MOST or plane.draining:
            return False
        wait_s = min(wait_s, allowed_s(request.request.head))
        self._waiting[request] = wait = _Wait(
            _asked(error), now_s + wait_s, now_s + plane.policy.phase_after_s, plane.routes.view
        )
        wait.hears(error, now_s)
        if not wait.loads:
            wait.until_s = min(wait.limit_s, now_s + _HOPE_S)
            plane.routes.uses.wanted.add(wait.asked)
        request.tell_loading(wait.eta_s)
        return True

    def _may_be_pulled(self, error: SwarmError) -> bool:
        asked = _asked(error)
        return bool(asked) and self._plane.routes.view.table.fallbacks.pulls(asked)

    def pulled(self, error: SwarmError) -> SwarmError:
        """``error``; of a name that nobody has but somebody pulls, that it is on its way."""
        plane, asked = self._plane, _asked(error)
        view = plane.routes.view
        pull = next((one for one in view.table.pulls if one.model == asked), None)
        if error.code is not Code.MODEL_NOT_FOUND or pull is None:
            return error
        return RefusedError(
            f"The model {asked!r} is being pulled to {view.node_name(pull.node)}; try again later",
            Code.MODEL_LOADING,
            retry_after=retry_after_s(pull.eta_s or _HOPE_S, plane.draw()),
            eta_s=pull.eta_s or None,
            asked=asked,
        )

    def requests(self, now_s: float) -> list[dict[str, object]]:
        """Those that wait, for the admin listener."""
        # Of one that is over the body is dropped; it is looked at once more at the next tick.
        there = [(request, wait) for request, wait in self._waiting.items() if not request.gone]
        return [request.describe_wait(now_s, wait.eta_s) for request, wait in there]

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
                if not wait.loads:
                    # Said again: no node could when it was said before, or nobody heard it.
                    plane.routes.uses.wanted.add(wait.asked)
