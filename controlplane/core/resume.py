"""What a sidecar with some version of the table needs to have the present one (PROTOCOL section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from swarmplane.ids import ModelName, NodeId, SwarmId
from swarmplane.routes import ModelRoute, NodeEntry, RouteDelta, RouteTable, Version

MAX_TOMBSTONES: Final = 10_000


class Resume(Enum):
    """How to bring a sidecar up to date."""

    SNAPSHOT = "snapshot"
    DELTA = "delta"
    WAIT = "wait"
    """It is ahead of this instance's watch."""


def resume(have: Version, present: Version, horizon: int) -> Resume:
    """How to bring a sidecar with ``have`` to ``present``.

    ``horizon`` is the revision from which on every removal is known.
    """
    if have.generation != present.generation or have.revision == 0:
        return Resume.SNAPSHOT
    if have.revision > present.revision:
        return Resume.WAIT
    return Resume.SNAPSHOT if have.revision < horizon else Resume.DELTA


_Key = ModelName | tuple[NodeId]
"""A model, or a node in a tuple of its own: names of models and ids of nodes may be the same text."""


class TableHistory:
    """The table as this instance's watch shows it, and which rows changed when.

    Rows are put and removed in the order of revisions; then :meth:`advance` says how far the picture
    reaches. A change costs O(1), a delta O(rows changed since), a snapshot O(rows).
    """

    def __init__(self, swarm: SwarmId, *, max_tombstones: int = MAX_TOMBSTONES) -> None:
        self._swarm = swarm
        self._max_tombstones = max_tombstones
        self._version = Version()
        self._horizon = 0
        self._models: dict[ModelName, ModelRoute] = {}
        self._nodes: dict[NodeId, NodeEntry] = {}
        # In the order of revisions, so that a delta reads only the end.
        self._touched: dict[_Key, int] = {}
        self._tombstones: dict[_Key, int] = {}

    @property
    def version(self) -> Version:
        """What the table is a picture of."""
        return self._version

    @property
    def horizon(self) -> int:
        """From this revision on every removal is known."""
        return self._horizon

    @property
    def models(self) -> Mapping[ModelName, ModelRoute]:
        """Present routes; a view that changes."""
        return MappingProxyType(self._models)

    @property
    def nodes(self) -> Mapping[NodeId, NodeEntry]:
        """Present nodes; a view that changes."""
        return MappingProxyType(self._nodes)

    def advance(self, version: Version) -> None:
        """The picture reaches ``version``."""
        self._version = version

    def forget_before(self, revision: int) -> None:
        """Removals before ``revision`` are not known."""
        self._horizon = max(self._horizon, revision)

    def put_model(self, route: ModelRoute) -> None:
        """A route is new or changed, at its revision."""
        self._models[route.name] = route
        self._touch(route.name, route.revision)

    def put_node(self, entry: NodeEntry) -> None:
        """A node is new or changed, at its revision."""
        self._nodes[entry.id] = entry
        self._touch((entry.id,), entry.revision)

    def remove_model(self, name: ModelName, revision: int) -> None:
        """A route was deleted at ``revision``; also one that was never seen here."""
        self._models.pop(name, None)
        self._bury(name, revision)

    def remove_node(self, node: NodeId, revision: int) -> None:
        """A node was deleted at ``revision``; also one that was never seen here."""
        self._nodes.pop(node, None)
        self._bury((node,), revision)

    def update_for(self, have: Version) -> RouteTable | RouteDelta | None:
        """What a sidecar with ``have`` is to be sent; None: it is ahead of us, wait.

        A delta may be empty: the sidecar learns that its table is current.
        """
        how = resume(have, self._version, self._horizon)
        if how is Resume.WAIT:
            return None
        return self.snapshot() if how is Resume.SNAPSHOT else self._delta(have.revision)

    def snapshot(self) -> RouteTable:
        """The whole table."""
        return RouteTable(
            self._swarm,
            self._version,
            MappingProxyType(dict(self._models)),
            MappingProxyType(dict(self._nodes)),
        )

    def _delta(self, since: int) -> RouteDelta:
        changed = list(_after(self._touched, since))
        buried = list(_after(self._tombstones, since))
        return RouteDelta(
            self._version,
            models=tuple(self._models[key] for key in changed if not isinstance(key, tuple)),
            removed_models=tuple(key for key in buried if not isinstance(key, tuple)),
            nodes=tuple(self._nodes[key[0]] for key in changed if isinstance(key, tuple)),
            removed_nodes=tuple(key[0] for key in buried if isinstance(key, tuple)),
        )

    def _touch(self, key: _Key, revision: int) -> None:
        self._tombstones.pop(key, None)
        self._touched.pop(key, None)
        self._touched[key] = revision

    def _bury(self, key: _Key, revision: int) -> None:
        self._touched.pop(key, None)
        self._tombstones.pop(key, None)
        self._tombstones[key] = revision
        while len(self._tombstones) > self._max_tombstones:
            oldest = next(iter(self._tombstones))
            self.forget_before(self._tombstones.pop(oldest))


def _after(revisions: dict[_Key, int], since: int) -> Iterator[_Key]:
    # dicts keep insertion order, which is that of revisions: the newest are at the end.
    for key in reversed(revisions):
        if revisions[key] <= since:
            return
        yield key
