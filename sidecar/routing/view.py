"""One consistent picture of the routes; a request works on the one it started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from sidecar.core.lookup import RouteIndex
from sidecar.routing.own_names import own_names
from swarmplane.ids import EndpointId, ModelName, NodeId, endpoint_id
from swarmplane.inventory import Inventory, ModelState
from swarmplane.routes import Endpoint, ModelRoute, RouteTable

LONE: Final = NodeId("local")
"""Node id of a host that joined no swarm."""


@dataclass(frozen=True, slots=True)
class OwnEndpoint:
    """An endpoint of this host, as its backends show it now."""

    endpoint: Endpoint
    canonical: ModelName
    state: ModelState
    healthy: bool
    told: ModelName | None = None
    """What its backend's people call it; None: the same."""

    def was_called(self, name: str) -> bool:
        """Whether ``name`` is another one that it has in tables made before or after ours."""
        told = self.told or self.canonical
        return name != self.canonical and (name == told or name.rpartition("@")[0] == told)

    @property
    def loading(self) -> bool:
        """Whether it will be ready without anybody's doing."""
        return self.state is ModelState.LOADING


@dataclass(frozen=True, slots=True)
class View:
    """The table with this host's own truth laid over it (PROTOCOL section 3). Replaced whole."""

    node: NodeId
    table: RouteTable
    """As pushed; rows about this node in it are ignored, use :attr:`models`."""
    models: Mapping[ModelName, ModelRoute]
    """Every known model with other nodes' endpoints from the table and our own from observation."""
    index: RouteIndex
    own: Mapping[EndpointId, OwnEndpoint]
    suspects: frozenset[NodeId] = frozenset()
    stale: bool = False
    """Whether the table came from disk and no instance has confirmed it yet."""
    draining: bool = False
    """Whether this host takes no new requests at its own endpoints."""
    own_name: str = ""
    """Name of this node until the table has one for it; empty: its id."""

    def node_name(self, node: NodeId) -> str:
        """Its name as people know it; the id where the table has none."""
        entry = self.table.nodes.get(node)
        if entry is not None and entry.name:
            return entry.name
        return self.own_name if node == self.node and self.own_name else str(node)

    def find(self, asked: str) -> ModelRoute | None:
        """See :meth:`swarmplane.routes.RouteTable.find`; own models included."""
        return self.index.find(asked)


def own_endpoints(node: NodeId, inventory: Inventory) -> Mapping[EndpointId, OwnEndpoint]:
    """The endpoints that ``inventory`` shows on ``node``, in its order."""
    own: dict[EndpointId, OwnEndpoint] = {}
    for backend in inventory.backends:
        for model in backend.models:
            key = endpoint_id(node, backend.name, model.name)
            endpoint = Endpoint(
                id=key,
                node=node,
                backend=backend.name,
                model=model.name,
                ready=backend.healthy and model.state.ready,
                slots=backend.slots,
                context_length=model.context_length,
                kind=backend.kind,
                traits=model.traits,
            )
            own[key] = OwnEndpoint(endpoint, model.model, model.state, backend.healthy)
    return MappingProxyType(own)


def named(
    node: NodeId, table: RouteTable, own: Mapping[EndpointId, OwnEndpoint]
) -> Mapping[EndpointId, OwnEndpoint]:
    """``own`` under the names that others use; the same where nothing changes."""
    names = own_names(
        node, table.models, {key: (one.told or one.canonical, one.endpoint) for key, one in own.items()}
    )
    if all(names[key] == one.canonical for key, one in own.items()):
        return own
    renamed = {
        key: replace(one, canonical=names[key], told=one.told or one.canonical) for key, one in own.items()
    }
    return MappingProxyType(renamed)


def build_view(
    node: NodeId,
    table: RouteTable,
    own: Mapping[EndpointId, OwnEndpoint],
    *,
    suspects: frozenset[NodeId] = frozenset(),
    stale: bool = False,
    draining: bool = False,
    own_name: str = "",
) -> View:
    """Merge ``table`` and ``own``. O(models).

    Rows of ``table`` about ``node`` that ``own`` does not replace are dropped where they are read.
    """
    own = named(node, table, own)
    by_model: dict[ModelName, list[Endpoint]] = {}
    for found in own.values():
        by_model.setdefault(found.canonical, []).append(found.endpoint)
    models = dict(table.models)
    for name, endpoints in by_model.items():
        route = models.get(name, ModelRoute(name))
        models[name] = replace(route, endpoints=(*_of_others(route, node), *endpoints))
    frozen = MappingProxyType(models)
    return View(node, table, frozen, RouteIndex(frozen), own, suspects, stale, draining, own_name)


def _of_others(route: ModelRoute, node: NodeId) -> tuple[Endpoint, ...]:
    return tuple(endpoint for endpoint in route.endpoints if endpoint.node != node)


def newcomers(old: RouteTable, new: RouteTable) -> list[EndpointId]:
    """Endpoints of ``new`` that ``old`` does not list, or whose node began another life. O(what changed)."""
    reborn = {
        node
        for node, entry in new.nodes.items()
        if (before := old.nodes.get(node)) is not None and before.session != entry.session
    }
    found: list[EndpointId] = []
    for name, route in new.models.items():
        former = old.models.get(name)
        if former is route and not reborn:
            continue
        known = {e.id for e in former.endpoints if e.ready} if former is not None else set()
        found += [e.id for e in route.endpoints if e.ready and (e.id not in known or e.node in reborn)]
    return found
