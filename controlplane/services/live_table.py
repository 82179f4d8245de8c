"""The route table and the policy as this instance's watch shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from controlplane.core.resume import TableHistory
from controlplane.core.routes import takes_away
from controlplane.services import keyspace
from controlplane.services.client_keys import keys_of
from controlplane.services.mirror import Change, Mirror, Turn
from swarmplane.codec import records
from swarmplane.ids import BackendName, ModelName, NodeId, SubjectId, SwarmId
from swarmplane.policies import Policy
from swarmplane.pulls import RUNNING, Pull
from swarmplane.routes import NodeEntry, Version


@dataclass(frozen=True, slots=True)
class News:
    """What of the table changed in a turn."""

    table: bool = False
    takes_away: bool = False
    """Whether there is less to route to: such news go out at once."""
    policy: bool = False
    cordons: frozenset[NodeId] = frozenset()
    """Nodes that were cordoned or are not any more."""


class LiveTable:
    """Keeps itself by subscribing to ``mirror``."""

    def __init__(self, mirror: Mirror, swarm: SwarmId) -> None:
        self._mirror = mirror
        self._subscribers: list[Callable[[News], None]] = []
        self.history = TableHistory(swarm)
        self.policy = Policy()
        mirror.subscribe(self._turn)

    def subscribe(self, act: Callable[[News], None]) -> None:
        """Call ``act`` when something a sidecar should know changed."""
        self._subscribers.append(act)

    def cordoned(self, node: NodeId) -> bool:
        """Whether ``node`` takes no new requests."""
        entry = self.history.nodes.get(node)
        return entry is not None and entry.cordoned

    def _turn(self, turn: Turn) -> None:
        self.history.forget_before(self._mirror.horizon)
        news = [self._change(change, loading=turn.loading) for change in turn.changes]
        self.history.advance(Version(self._mirror.generation, turn.revision))
        whole = News(
            table=any(found.table for found in news),
            takes_away=any(found.takes_away for found in news),
            policy=self.policy == Policy() or any(found.policy for found in news),
            cordons=frozenset[NodeId]().union(*(found.cordons for found in news)),
        )
        if whole.policy:
            self.policy = self._policy(turn.revision)
        if whole != News():
            for act in self._subscribers:
                act(whole)

    def _change(self, change: Change, *, loading: bool) -> News:
        match change.prefix:
            case keyspace.ROUTES:
                return self._route(change)
            case keyspace.NODES | keyspace.MEMBERS:
                return self._node(NodeId(change.name), change.revision, loading=loading)
            case keyspace.DENIALS | keyspace.POLICIES | keyspace.PULLS | keyspace.KEYS | keyspace.SWARM:
                return News(policy=True)
            case _:
                return News()

    def _route(self, change: Change) -> News:
        name = ModelName(change.name)
        before = self.history.models.get(name)
        if change.after is None:
            self.history.remove_model(name, change.revision)
            return News(table=True, takes_away=takes_away(before, None))
        route = records.route_of(change.after.value, change.revision)
        self.history.put_model(route)
        return News(table=True, takes_away=takes_away(before, route))

    def _node(self, node: NodeId, revision: int, *, loading: bool) -> News:
        before = self.history.nodes.get(node)
        after = self._entry(node, revision)
        if after is None:
            if before is None and (not loading or node in self._mirror.below(keyspace.NODES)):
                return News()
            self.history.remove_node(node, revision)
            return News(table=True, takes_away=before is not None)
        if before is not None and replace(before, revision=revision) == after and not loading:
            return News()
        # While loading, the picture is already whole: the row must still bear the newest revision.
        self.history.put_node(after)
        changed = before is not None and before.cordoned != after.cordoned
        return News(table=True, cordons=frozenset({node}) if changed else frozenset())

    def _entry(self, node: NodeId, revision: int) -> NodeEntry | None:
        kv = self._mirror.below(keyspace.NODES).get(node)
        if kv is None:
            return None
        record = records.parse(records.Node, kv.value)
        if not record.incarnation:
            return None
        member = self._mirror.below(keyspace.MEMBERS).get(node)
        return NodeEntry(
            id=node,
            name=record.name,
            peer_addresses=tuple(record.peer_addresses),
            session=member.mod_revision if member is not None else 0,
            cordoned=record.cordoned,
            revision=revision,
        )

    def _pulls(self) -> Iterator[tuple[str, records.Pull]]:
        """Those that run."""
        for model, kv in sorted(self._mirror.below(keyspace.PULLS).items()):
            pull = records.parse(records.Pull, kv.value)
            if pull.state == RUNNING:
                yield model, pull

    def _open(self) -> bool:
        """Whether nodes enrol without a token."""
        kv = self._mirror.below(keyspace.SWARM).get("")
        return kv is not None and records.parse(records.Swarm, kv.value).open

    def _policy(self, revision: int) -> Policy:
        kv = self._mirror.below(keyspace.POLICIES).get(
            keyspace.name_below(keyspace.POLICIES, keyspace.SWARM_POLICY)
        )
        record = records.parse(records.SwarmPolicy, kv.value if kv is not None else b"")
        return Policy(
            version=Version(self._mirror.generation, revision),
            denied=frozenset(map(SubjectId, self._mirror.below(keyspace.DENIALS))),
            default_strategy=record.default_strategy or Policy().default_strategy,
            fallbacks=records.fallbacks_of(record),
            default_context=record.context_protection,
            keys=keys_of(self._mirror.below(keyspace.KEYS)),
            open=self._open(),
            pulls=tuple(
                Pull(model, NodeId(pull.node_id), BackendName(pull.backend), pull.eta_s)
                for model, pull in self._pulls()
            ),
        )
