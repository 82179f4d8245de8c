"""Everything about one model (``POST /api/show``): from its own server, wherever that is.

Templates and licences are long and seldom asked for, so no table carries them: who has the model keeps what
its server showed, and is asked. If nobody with such a server answers, what the table knows is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.core.context import RELOADING
from sidecar.dataplane.answers import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.core.candidate import Candidate
    from sidecar.core.shown import Shown
    from sidecar.dataplane.request import Request
    from sidecar.dataplane.server import DataPlane
    from swarmplane.routes import ModelRoute

SHOW: Final = b"/api/show"


def shown_here(plane: DataPlane, route: ModelRoute) -> Shown | None:
    """What a server of this host showed of a model; None: none has it, or tells such things."""
    node, shown = plane.routes.view.node, plane.backends.shown
    found = (shown(one.backend, one.model) for one in route.endpoints if one.node == node)
    return next((one for one in found if one is not None), None)


def goes_on(plane: DataPlane, request: Request) -> bool:
    """Whether another node has to be asked for what ``request`` wants to be shown.

    Then its body is made anew: old clients call the model otherwise than all other requests do.

    Raises:
        SwarmError: The body names no model.
    """
    head = request.head
    if head.path != SHOW or head.method != b"POST":
        return False
    view = plane.routes.view
    asked = plane.catalogue.named(request)
    route = view.find(asked)
    if route is None or shown_here(plane, route) is not None:
        return False
    if not any(e.kind == RELOADING and e.node != view.node and e.ready for e in route.endpoints):
        return False
    request.body = encode({"model": asked})
    return True


def telling(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Those whose servers tell such things."""
    return [one for one in candidates if one.endpoint.kind == RELOADING]
