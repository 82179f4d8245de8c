"""Routes as a function of what stands in the store (PROTOCOL section 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import Final

from controlplane.core.names import is_backend_name, is_model_name, is_spelling
from swarmplane.ids import EndpointId, ModelName, NodeId, endpoint_id
from swarmplane.inventory import Backend, BackendModel, Inventory, ModelState
from swarmplane.merging import Offer, merge
from swarmplane.routes import Endpoint, ModelRoute

MOST_OF_A_NODE: Final = 2048
"""Endpoints that count of one node; what else it lists is left out, lest it fill everybody's table."""
MOST_ALIKE: Final = 32
"""Of one model at one node: a route is one value in the store, and others must find room in it."""

MOST_KIND: Final = 32
"""Characters of a backend's kind that go into routes."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What routes depend on, of one node."""

    id: NodeId
    inventory: Inventory
    routable: bool = True
    """Whether it is not gone, and the inventory is of its present life."""
    cordoned: bool = False
    forgotten: bool = False
    """Whether it is gone for so long that its models' names are dropped."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What people want of a model."""

    strategy: str = ""
    fallbacks: tuple[str, ...] = ()
    context: str = ""
    """What is done about requests that make a server load it again with another context."""


_NOTHING: Final = Wanted()


def compile_routes(
    nodes: Iterable[NodeFacts],
    wanted: Mapping[ModelName, Wanted] = MappingProxyType({}),
    standing: Mapping[ModelName, ModelRoute] = MappingProxyType({}),
) -> Mapping[ModelName, ModelRoute]:
    """The routes of all models that any node has, or had and may have again, ordered by name.

    Endpoints are those that their owner reports ready, or loading (not ready: clients are told to wait); in
    order of their id. ``wanted`` is what is set for single models. A name without endpoints stays known.
    Which of them are one model, and its name, says :mod:`swarmplane.merging`; names of the routes that are
    ``standing`` stay with whom they are.
    The order of ``nodes`` does not matter. Of one node at most ``MOST_OF_A_NODE`` count, and ``MOST_ALIKE``
    of one model; impossible names do not.
    O(endpoints log endpoints).
    """
    offers: dict[EndpointId, Offer] = {}
    found: dict[EndpointId, Endpoint] = {}
    for node in nodes:
        if node.forgotten:
            continue
        for backend, model in _models(node.inventory):
            endpoint = _endpoint(node, backend, model)
            key = endpoint_id(node.id, backend.name, model.name)
            traits = model.traits
            offers[key] = Offer(key, model.model, node.id, traits.digest, traits.quantization)
            if endpoint is not None:
                found[key] = endpoint
    names = {endpoint.id: route.name for route in standing.values() for endpoint in route.endpoints}
    return {
        one.name: ModelRoute(
            one.name,
            tuple(found[key] for key in one.endpoints if key in found),
            one.further,
            strategy=wanted.get(one.name, _NOTHING).strategy,
            fallbacks=wanted.get(one.name, _NOTHING).fallbacks,
            context=wanted.get(one.name, _NOTHING).context,
        )
        for one in merge(offers.values(), names)
    }


def _models(inventory: Inventory) -> Iterator[tuple[Backend, BackendModel]]:
    return islice(_possible(inventory), MOST_OF_A_NODE)


def _possible(inventory: Inventory) -> Iterator[tuple[Backend, BackendModel]]:
    alike: Counter[str] = Counter()
    for backend in inventory.backends:
        if not is_backend_name(backend.name):
            continue
        for model in backend.models:
            if is_model_name(model.model) and is_spelling(model.name):
                alike[model.model] += 1
                if alike[model.model] <= MOST_ALIKE:
                    yield backend, model


def _endpoint(node: NodeFacts, backend: Backend, model: BackendModel) -> Endpoint | None:
    loading = model.state is ModelState.LOADING
    if not (node.routable and backend.healthy and (model.state.ready or loading)):
        return None
    return Endpoint(
        id=endpoint_id(node.id, backend.name, model.name),
        node=node.id,
        backend=backend.name,
        model=model.name,
        ready=not loading,
        draining=node.cordoned,
        slots=backend.slots,
        context_length=model.context_length,
        kind=backend.kind[:MOST_KIND],
        traits=model.traits,
    )


@dataclass(frozen=True, slots=True)
class RouteChanges:
    """What turns the routes that stand into those that should."""

    put: tuple[ModelRoute, ...] = ()
    removed: tuple[ModelName, ...] = ()


def route_changes(
    standing: Mapping[ModelName, ModelRoute], wanted: Mapping[ModelName, ModelRoute]
) -> RouteChanges:
    """Compare by content; revisions are the store's business."""
    put = (
        r for name, r in wanted.items() if name not in standing or replace(standing[name], revision=0) != r
    )
    return RouteChanges(tuple(put), tuple(name for name in standing if name not in wanted))


def takes_away(before: ModelRoute | None, after: ModelRoute | None) -> bool:
    """Whether a change leaves less to route to; such changes are pushed at once."""
    usable = _usable(after)
    return any(key not in usable for key in _usable(before))


def _usable(route: ModelRoute | None) -> frozenset[EndpointId]:
    endpoints = route.endpoints if route is not None else ()
    return frozenset(e.id for e in endpoints if e.ready and not e.draining)
