"""The route table: what a sidecar needs to know to forward a request, as one immutable value.

Suspicion, load and residency are overlays kept elsewhere (PROTOCOL section 3); a row changes only when the
store's compiled routes change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

from swarmplane.aliases import by_scan, without_tag
from swarmplane.client_keys import ClientKey
from swarmplane.fallbacks import NO_FALLBACKS, FallbackPolicy
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId, SubjectId, SwarmId
from swarmplane.pulls import Pull
from swarmplane.traits import UNKNOWN_TRAITS, Traits


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """What a table is a picture of. Comparable only within one ``generation`` of the store."""

    generation: int = 0
    revision: int = 0

    def __str__(self) -> str:
        return f"{self.generation}.{self.revision}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One replica of a model at one backend of one node."""

    id: EndpointId
    node: NodeId
    backend: BackendName
    model: str
    """The backend's own spelling."""
    ready: bool = True
    draining: bool = False
    slots: int = 0
    """Requests served at a time; 0 where unknown."""
    context_length: int = 0
    """Tokens; 0 where unknown."""
    kind: str = ""
    """Of the backend: ``openai``, ``ollama``…; empty where unknown."""
    traits: Traits = UNKNOWN_TRAITS
    """Of the weights."""


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """Where a model is served. No endpoints: it is known, but nobody has it now (503, never 404)."""

    name: ModelName
    endpoints: tuple[Endpoint, ...] = ()
    aliases: tuple[str, ...] = ()
    strategy: str = ""
    """Balancing strategy for this model; empty: the swarm's default."""
    revision: int = 0
    fallbacks: tuple[str, ...] = ()
    """Models that may answer where this one can't, in this order."""
    context: str = ""
    """What is done about requests that would make a server load it again: ``strip``, ``warn`` or
    ``passthrough``; empty: the swarm's default."""


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """How other sidecars reach a node."""

    id: NodeId
    name: str
    peer_addresses: tuple[str, ...] = ()
    """``host:port`` of its peer listener, most preferred first; IPv6 hosts in brackets."""
    session: int = 0
    """Store revision of the Connect that started its present session."""
    cordoned: bool = False
    revision: int = 0


_EMPTY: Final[Mapping[Any, Any]] = MappingProxyType({})


def _none() -> Mapping[Any, Any]:
    return _EMPTY


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Everything a sidecar routes by. Replaced whole, never changed in place."""

    swarm: SwarmId
    version: Version = field(default_factory=Version)
    models: Mapping[ModelName, ModelRoute] = field(default_factory=_none)
    nodes: Mapping[NodeId, NodeEntry] = field(default_factory=_none)
    denied: frozenset[SubjectId] = frozenset()
    default_strategy: str = "local_spillover"
    fallbacks: FallbackPolicy = NO_FALLBACKS
    pulls: tuple[Pull, ...] = ()
    """Models that are being pulled now."""
    default_context: str = ""
    """As :attr:`ModelRoute.context`; empty: ``strip``."""
    keys: tuple[ClientKey, ...] = ()
    """Of clients, by id; those in force."""
    open: bool = False
    """Whether nodes enrol without a token."""

    def find(self, asked: str) -> ModelRoute | None:
        """The route for a name as a client wrote it: see :meth:`named`, then by alias, then by pattern.

        O(models): for those who ask seldom.
        """
        return self.named(asked) or by_scan(
            {
                alias: route
                for route in reversed(tuple(self.models.values()))
                for alias in reversed(route.aliases)
            },
            asked,
        )

    def named(self, asked: str) -> ModelRoute | None:
        """The route of a model with this name: exact, ``name:latest``, either in any case, the only tag.

        Where spellings clash, the first in the table wins. A name without a tag stands for one with another
        tag than ``latest`` where there is only one such model.
        """
        route = self.models.get(ModelName(asked)) or self.models.get(ModelName(f"{asked}:latest"))
        if route is not None:
            return route
        folded = asked.casefold()
        names = [(candidate.name.casefold(), candidate) for candidate in self.models.values()]
        for wanted in (folded, f"{folded}:latest"):
            for name, candidate in names:
                if name == wanted:
                    return candidate
        tagged = [candidate for name, candidate in names if folded and without_tag(name) == folded]
        return tagged[0] if len(tagged) == 1 else None


@dataclass(frozen=True, slots=True)
class RouteDelta:
    """The difference between two tables of one generation."""

    version: Version
    models: tuple[ModelRoute, ...] = ()
    removed_models: tuple[ModelName, ...] = ()
    nodes: tuple[NodeEntry, ...] = ()
    removed_nodes: tuple[NodeId, ...] = ()
    denied: frozenset[SubjectId] | None = None
    """The whole new deny list, or None for no change."""
    default_strategy: str | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing but the version changes."""
        return not (
            self.models
            or self.removed_models
            or self.nodes
            or self.removed_nodes
            or self.denied is not None
            or self.default_strategy is not None
        )


def apply_delta(table: RouteTable, delta: RouteDelta) -> RouteTable:
    """``table`` with ``delta`` applied; the old table is untouched.

    Raises:
        ValueError: The delta is of another generation or older than the table.
    """
    if delta.version.generation != table.version.generation:
        raise ValueError(f"delta of generation {delta.version.generation} on table {table.version}")
    if delta.version < table.version:
        raise ValueError(f"delta {delta.version} is older than table {table.version}")
    return replace(
        table,
        version=delta.version,
        models=_changed(table.models, {m.name: m for m in delta.models}, delta.removed_models),
        nodes=_changed(table.nodes, {n.id: n for n in delta.nodes}, delta.removed_nodes),
        denied=table.denied if delta.denied is None else delta.denied,
        default_strategy=delta.default_strategy or table.default_strategy,
    )


K = TypeVar("K")
V = TypeVar("V")


def _changed(old: Mapping[K, V], put: Mapping[K, V], removed: Iterable[K]) -> Mapping[K, V]:
    merged = {**old, **put}
    for key in removed:
        merged.pop(key, None)
    return MappingProxyType(merged)


def difference(old: RouteTable, new: RouteTable) -> RouteDelta:
    """What turns ``old`` into ``new``. O(models + nodes)."""
    return RouteDelta(
        version=new.version,
        models=tuple(m for name, m in new.models.items() if old.models.get(name) != m),
        removed_models=tuple(name for name in old.models if name not in new.models),
        nodes=tuple(n for key, n in new.nodes.items() if old.nodes.get(key) != n),
        removed_nodes=tuple(key for key in old.nodes if key not in new.nodes),
        denied=None if old.denied == new.denied else new.denied,
        default_strategy=None if old.default_strategy == new.default_strategy else new.default_strategy,
    )
