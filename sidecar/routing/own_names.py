"""What this host's own models are called in the swarm: as the table says, else as it will say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from swarmplane.ids import EndpointId, ModelName, NodeId
from swarmplane.merging import Offer, merge
from swarmplane.routes import Endpoint, ModelRoute

_MADE: Final = "@"
"""In names of models that are kept apart from others of the same name."""


def own_names(
    node: NodeId, models: Mapping[ModelName, ModelRoute], own: Mapping[EndpointId, tuple[ModelName, Endpoint]]
) -> Mapping[EndpointId, ModelName]:
    """Canonical names of ``own`` endpoints, by the names under which their backends list them.

    Where ``models`` has a row about an endpoint, its route names it: that is how everybody else calls it.
    What was not compiled yet is named as it will be. O(endpoints of the routes concerned); of all routes
    where one is in no route of its own name.
    """
    found: dict[EndpointId, ModelName] = {}
    undecided: dict[EndpointId, ModelName] = {}
    for key, (told, _) in own.items():
        route = models.get(told)
        if route is not None and _has(route, key):
            found[key] = route.name
        else:
            undecided[key] = told
    if not undecided:
        return found
    concerned = _Concerned(node, undecided, own)
    for route in models.values():
        concerned.look(route)
    found |= concerned.rows
    if undecided.keys() <= found.keys():
        return found
    mine = (Offer(key, told, node, *_weights(endpoint)) for key, (told, endpoint) in own.items())
    standing = {**concerned.standing, **found}
    names = {key: one.name for one in merge([*mine, *concerned.offers], standing) for key in one.endpoints}
    return {key: names[key] for key in own} | found


class _Concerned:
    """What a table says about endpoints that no route of their own name has."""

    def __init__(
        self,
        node: NodeId,
        undecided: Mapping[EndpointId, ModelName],
        own: Mapping[EndpointId, tuple[ModelName, Endpoint]],
    ) -> None:
        self._node = node
        self._undecided = undecided
        self._told = set(undecided.values())
        self._digests = {own[key][1].traits.digest for key in undecided} - {""}
        self.rows: dict[EndpointId, ModelName] = {}
        """The names that rows give to own endpoints."""
        self.offers: list[Offer] = []
        """Of others: one for each kind of weights that a route has, if it may be that of an own endpoint."""
        self.standing: dict[EndpointId, ModelName] = {}

    def look(self, route: ModelRoute) -> None:
        told, seen = self._told_name(route), set()
        for endpoint in route.endpoints:
            if endpoint.node == self._node:
                if endpoint.id in self._undecided:
                    self.rows[endpoint.id] = route.name
                continue
            if told is None and endpoint.traits.digest not in self._digests:
                continue
            weights = _weights(endpoint)
            if weights not in seen:
                seen.add(weights)
                name = told if told is not None and endpoint.model != route.name else route.name
                self.offers.append(Offer(endpoint.id, name, endpoint.node, *weights))
                self.standing[endpoint.id] = route.name

    def _told_name(self, route: ModelRoute) -> ModelName | None:
        """The name, among those wanted, under which backends have the model of ``route``; None: none."""
        names = (route.name, ModelName(route.name.rpartition(_MADE)[0]), *map(ModelName, route.aliases))
        return next((name for name in names if name in self._told), None)


def _has(route: ModelRoute, key: EndpointId) -> bool:
    return any(endpoint.id == key for endpoint in route.endpoints)


def _weights(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.traits.digest, endpoint.traits.quantization
