"""What ``/v1/models`` tells of every known model."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.routing.view import View
from swarmplane.ids import ModelName
from swarmplane.inventory import ModelState
from swarmplane.routes import Endpoint


@dataclass(frozen=True, slots=True)
class ModelListing:
    """A model and where it is."""

    name: ModelName
    nodes: tuple[str, ...] = ()
    """Names of the nodes that have it, sorted; empty: known, but nobody has it now."""
    loaded: bool = False
    """Whether any of them can serve it now without loading it first."""
    context_length: int = 0
    """Tokens: the most that any endpoint offers; 0 where unknown."""
    aliases: tuple[str, ...] = ()


def listings(view: View) -> tuple[ModelListing, ...]:
    """Every model of ``view``, by name. O(endpoints)."""
    listed = []
    for name in sorted(view.models):
        route = view.models[name]
        endpoints = [e for e in route.endpoints if e.node != view.node or e.id in view.own]
        listed.append(
            ModelListing(
                name,
                tuple(sorted({view.node_name(e.node) for e in endpoints})),
                any(_loaded(view, e) for e in endpoints),
                max((e.context_length for e in endpoints), default=0),
                route.aliases,
            )
        )
    return tuple(listed)


def _loaded(view: View, endpoint: Endpoint) -> bool:
    own = view.own.get(endpoint.id)
    return endpoint.ready and not endpoint.draining and (own is None or own.state is ModelState.LOADED)
