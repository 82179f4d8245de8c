"""Routes and models as people see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from controlplane.services import keyspace
from controlplane.services.live_table import LiveTable
from controlplane.services.mirror import Mirror
from controlplane.store.port import EventKind, KeyValue, Store
from swarmplane.codec import records
from swarmplane.errors import Code, NotFoundError
from swarmplane.ids import BackendName, ModelName, NodeId, endpoint_id
from swarmplane.inventory import BackendModel
from swarmplane.routes import ModelRoute, RouteTable
from swarmplane.traits import UNKNOWN_TRAITS, Traits


@dataclass(frozen=True, slots=True)
class RoutePage:
    """Some routes, ordered by name."""

    routes: tuple[ModelRoute, ...]
    generation: int
    revision: int
    last: str
    """Key after which the next page begins; empty: nothing follows."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A copy of a model that some backend has."""

    node: NodeId
    node_name: str
    backend: BackendName
    model: BackendModel
    slots: int


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model with its copies."""

    route: ModelRoute
    replicas: tuple[Replica, ...]

    @property
    def state(self) -> str:
        """ready, loading or absent."""
        if any(endpoint.ready for endpoint in self.route.endpoints):
            return "ready"
        return "loading" if self.route.endpoints else "absent"

    @property
    def context_length(self) -> int:
        """The greatest among copies, in tokens; 0 where unknown."""
        return max((replica.model.context_length for replica in self.replicas), default=0)

    @property
    def traits(self) -> Traits:
        """Of the copy that tells its digest, or else most."""
        known = [replica.model.traits for replica in self.replicas]
        return max(
            known, key=lambda t: (bool(t.digest), bool(t.family), t.size_bytes), default=UNKNOWN_TRAITS
        )

    @property
    def size_bytes(self) -> int:
        """The greatest among copies; 0 where unknown."""
        return max((replica.model.size_bytes for replica in self.replicas), default=0)


@dataclass(frozen=True, slots=True)
class RouteChange:
    """A route as it stands since ``revision``, or the name of one that is no more; neither: a bookmark."""

    revision: int
    put: ModelRoute | None = None
    removed: str = ""


class Catalog:
    """See the module."""

    def __init__(self, store: Store, mirror: Mirror, table: LiveTable) -> None:
        self._store = store
        self._mirror = mirror
        self._table = table

    async def routes(self, *, after: str, limit: int, revision: int) -> RoutePage:
        """Routes after the key ``after``, as of ``revision`` (0: now).

        Raises:
            CompactedError: ``revision`` is forgotten.
        """
        found = await self._store.range(keyspace.ROUTES, start_after=after, limit=limit, revision=revision)
        last = found.items[-1].key if found.more and found.items else ""
        routes = tuple(map(_route, found.items))
        return RoutePage(routes, self._mirror.generation, found.revision, last)

    async def watch(self, revision: int, tell: Callable[[RouteChange], Awaitable[None]]) -> None:
        """Tell of changes from ``revision`` on, until cancelled; 0: of every route first, then of changes.

        Raises:
            CompactedError: ``revision`` is forgotten.
        """
        if revision == 0:
            present = await self._store.range(keyspace.ROUTES)
            for route in map(_route, present.items):
                await tell(RouteChange(route.revision, put=route))
            await tell(RouteChange(present.revision))
            revision = present.revision + 1
        async with self._store.watch(keyspace.ROUTES, start_revision=revision) as batches:
            async for batch in batches:
                for event in batch.events:
                    if event.kind is EventKind.PUT:
                        await tell(RouteChange(batch.revision, put=_route(event.kv)))
                    else:
                        name = keyspace.name_below(keyspace.ROUTES, event.kv.key)
                        await tell(RouteChange(batch.revision, removed=name))
                if not batch.events:
                    await tell(RouteChange(batch.revision))

    def model(self, route: ModelRoute) -> ModelFacts:
        """``route`` with the copies that inventories show now."""
        return self.models((route,))[0]

    def models(self, routes: tuple[ModelRoute, ...]) -> tuple[ModelFacts, ...]:
        """``routes`` with the copies that inventories show now; inventories are read once."""
        found: dict[ModelName, list[Replica]] = {route.name: [] for route in routes}
        # A model may be called otherwise than its backend does; what no route has is found by its own name.
        table = self._table.history.models.values()
        names = {endpoint.id: route.name for route in table for endpoint in route.endpoints}
        for replica in self._replicas():
            key = endpoint_id(replica.node, replica.backend, replica.model.name)
            name = names.get(key, replica.model.model)
            if name in found:
                found[name].append(replica)
        return tuple(
            ModelFacts(route, tuple(sorted(found[route.name], key=lambda r: (r.node, r.backend))))
            for route in routes
        )

    def table(self) -> RouteTable:
        """The routes as they stand. O(models)."""
        return self._table.history.snapshot()

    def find(self, asked: str) -> ModelFacts:
        """One model, by name or alias.

        Raises:
            NotFoundError: Nobody knows it.
        """
        route = self.table().find(asked)
        if route is None:
            raise NotFoundError(
                f"no node knows a model {asked!r}; see swarmctl model list", code=Code.MODEL_NOT_FOUND
            )
        return self.model(route)

    def _replicas(self) -> Iterator[Replica]:
        nodes = self._mirror.below(keyspace.NODES)
        for name, kv in self._mirror.below(keyspace.INVENTORIES).items():
            record = records.parse(records.Inventory, kv.value)
            node = records.parse(records.Node, nodes[name].value) if name in nodes else None
            if node is None or node.gone or not record.session:
                continue
            for backend in records.inventory_of(record).backends:
                for model in backend.models:
                    yield Replica(NodeId(name), node.name, backend.name, model, backend.slots)


def _route(kv: KeyValue) -> ModelRoute:
    return records.route_of(kv.value, kv.mod_revision)
