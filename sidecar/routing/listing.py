"""What is told of every known model: who has it, how it is loaded, and what it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sidecar.core.candidate import Facts, Warmth
from sidecar.core.context import holds, protection_of
from sidecar.core.residents import Resident
from sidecar.routing.view import View
from swarmplane.ids import ModelName
from swarmplane.inventory import ModelState
from swarmplane.routes import Endpoint
from swarmplane.traits import UNKNOWN_TRAITS, Traits


@dataclass(frozen=True, slots=True)
class ModelListing:
    """A model and where it is."""

    name: ModelName
    nodes: tuple[str, ...] = ()
    """Names of the nodes that have it, sorted; empty: known, but nobody has it now."""
    loaded: bool = False
    """Whether any of them can serve it now without loading it first."""
    context_length: int = 0
    """Tokens: the most that a request has anywhere which names none; 0 where unknown."""
    aliases: tuple[str, ...] = ()
    traits: Traits = UNKNOWN_TRAITS
    """Of its weights; what any of its endpoints can do."""
    resident: Resident | None = None
    """As it is loaded with the greatest context; None: not loaded, or it has no context of its own."""


def listings(view: View, facts: Callable[[Endpoint], Facts]) -> tuple[ModelListing, ...]:
    """Every model of ``view``, by name; ``facts`` are what owners tell now. O(endpoints)."""
    listed = []
    for name in sorted(view.models):
        route = view.models[name]
        protection = protection_of(route.context, view.table.default_context)
        here = [(e, facts(e)) for e in route.endpoints if e.node != view.node or e.id in view.own]
        loaded = [found for endpoint, found in here if _loaded(view, endpoint, found)]
        listed.append(
            ModelListing(
                name,
                tuple(sorted({view.node_name(endpoint.node) for endpoint, _ in here})),
                bool(loaded),
                max(
                    (holds(e, f.resident.context if f.resident else 0, 0, protection) for e, f in here),
                    default=0,
                ),
                route.aliases,
                _traits([endpoint for endpoint, _ in here]),
                max((f.resident for f in loaded if f.resident), key=lambda one: one.context, default=None),
            )
        )
    return tuple(listed)


def _loaded(view: View, endpoint: Endpoint, facts: Facts) -> bool:
    if not endpoint.ready or endpoint.draining:
        return False
    own = view.own.get(endpoint.id)
    return facts.warmth is Warmth.LOADED if own is None else own.state is ModelState.LOADED


def _traits(endpoints: Sequence[Endpoint]) -> Traits:
    """Of the endpoint that tells its digest, or else most; with what any of them can do."""
    known = [endpoint.traits for endpoint in endpoints if endpoint.traits != UNKNOWN_TRAITS]
    if not known:
        return UNKNOWN_TRAITS
    best = max(known, key=lambda one: (bool(one.digest), bool(one.family), one.size_bytes))
    can = tuple(dict.fromkeys(word for one in known for word in one.capabilities))
    return best if can == best.capabilities else replace(best, capabilities=can)
