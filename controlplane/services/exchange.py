"""What instances tell each other of the nodes connected to them: load, condition, caches, and suspicion."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from controlplane.core.loads import owner_of
from controlplane.services import keyspace
from controlplane.services.hearsay import Hearsay
from controlplane.services.membership import Membership
from controlplane.services.mirror import Mirror, Turn
from controlplane.services.push import Pushes
from controlplane.services.sessions import Sessions
from swarmplane.clock import Clock
from swarmplane.codec import records
from swarmplane.conditions import NodeCondition
from swarmplane.ids import EndpointId, InstanceId, NodeId
from swarmplane.load import LoadEntry
from swarmplane.prefixes import EndpointPrefixes

MOST_DIGESTS: Final = 512
"""In one share: about 1 MB."""
MOST_FIGURES: Final = 50_000
"""In the loads of one share: 2 MB usually, a quarter of a message at most."""
MOST_ENDPOINTS: Final = 500
MOST_NODES: Final = 500
"""In the conditions of one share."""
_ENTRY_FIGURES: Final = 8
BEAT_S: Final = 1.0
"""A share is never silent for longer."""


@dataclass(frozen=True, slots=True)
class Share:
    """News of an instance's own nodes."""

    instance: InstanceId
    loads: tuple[LoadEntry, ...]
    suspects: frozenset[NodeId]
    """All of them."""
    departed: frozenset[NodeId] = frozenset()
    """What was told of these is void."""
    conditions: tuple[NodeCondition, ...] = ()
    prefixes: tuple[EndpointPrefixes, ...] = ()


@dataclass(eq=False, slots=True)
class _Listener:
    """Another instance that listens; bounded by the endpoints there are."""

    endpoints: set[EndpointId] = field(default_factory=set)
    departed: set[NodeId] = field(default_factory=set)
    nodes: set[NodeId] = field(default_factory=set)
    cached: set[EndpointId] = field(default_factory=set)
    """Endpoints whose digests are news."""
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Exchange:
    """See the module. A slow listener costs no memory, and gets the newest when it reads."""

    def __init__(
        self,
        pushes: Pushes,
        membership: Membership,
        sessions: Sessions,
        mirror: Mirror,
        hearsay: Hearsay,
        clock: Clock,
        *,
        instance: InstanceId,
        interval_s: float,
    ) -> None:
        self._pushes = pushes
        self._membership = membership
        self._sessions = sessions
        self._mirror = mirror
        self._hearsay = hearsay
        self._clock = clock
        self._instance = instance
        self._interval_s = interval_s
        self._listeners: set[_Listener] = set()
        self._told_by: dict[NodeId, InstanceId] = {}
        """Who spoke of each node last."""
        pushes.loads.subscribe(self._loaded)
        pushes.subscribe(self._departed)
        pushes.sharing.subscribe(self._shared)
        membership.subscribe(lambda _: self._wake())
        mirror.subscribe(self._turn)

    @property
    def instance(self) -> InstanceId:
        """Who tells."""
        return self._instance

    def others(self) -> dict[InstanceId, tuple[str, ...]]:
        """Control addresses of the other instances that live."""
        return {
            InstanceId(name): tuple(records.parse(records.Instance, kv.value).control_addresses)
            for name, kv in self._mirror.below(keyspace.INSTANCES).items()
            if name != self._instance
        }

    async def shares(self) -> AsyncGenerator[Share, None]:
        """All that is known of the nodes connected here, then what changes, at least every second."""
        listener = _Listener()
        listener.endpoints.update(self._pushes.loads.endpoints_of(self._sessions.open))
        nodes, cached = self._pushes.sharing.known_of(self._sessions.open)
        listener.nodes.update(nodes)
        listener.cached.update(cached)
        self._listeners.add(listener)
        try:
            while True:
                yield self._share(listener)
                await self._clock.sleep(self._interval_s)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S - self._interval_s):
                        await listener.news.wait()
        finally:
            self._listeners.discard(listener)

    def take(self, share: Share) -> None:
        """Another instance told of its nodes."""
        for node in share.departed - self._sessions.open.keys():
            # Where it is now may have told us sooner than where it was.
            if self._told_by.get(node, share.instance) == share.instance:
                self._forget(node)
        for node in _nodes_in(share) - self._sessions.open.keys():
            self._told_by[node] = share.instance
        self._pushes.loads.take_others(share.loads)
        self._pushes.sharing.take_others(share.conditions, share.prefixes)
        self._hearsay.told(share.instance, share.suspects)

    def lost(self, instance: InstanceId) -> None:
        """The link to ``instance`` is gone: who listens again is told everything anew.

        Loads are void at once, as they change all the time. What is slower stands until the instance is dead.
        """
        self._hearsay.lost(instance)
        for node in self._of(instance):
            self._pushes.loads.drop(node)

    def forget(self, node: NodeId) -> None:
        """The node was removed from the swarm."""
        self._told_by.pop(node, None)

    def _turn(self, turn: Turn) -> None:
        for change in turn.changes:
            if change.prefix == keyspace.INSTANCES and change.after is None:
                for node in self._of(InstanceId(change.name)):
                    self._forget(node)

    def _of(self, instance: InstanceId) -> list[NodeId]:
        """Nodes of which ``instance`` told, and nobody after it."""
        found = [node for node, by in self._told_by.items() if by == instance]
        return [node for node in found if node not in self._sessions.open]

    def _forget(self, node: NodeId) -> None:
        self._told_by.pop(node, None)
        self._pushes.drop_load(node, elsewhere=True)

    def _share(self, listener: _Listener) -> Share:
        """What it has not been told yet, as much as fits into a message."""
        departed, listener.departed = listener.departed, set()
        listener.news.clear()
        loads, conditions = self._loads(listener), self._conditions(listener)
        cached = frozenset(islice(listener.cached, MOST_DIGESTS))
        listener.cached -= cached
        if listener.endpoints or listener.nodes or listener.cached:
            listener.news.set()
        _, prefixes = self._pushes.sharing.told((), cached)
        return Share(self._instance, loads, self._suspects(), frozenset(departed), conditions, prefixes)

    def _loads(self, listener: _Listener) -> tuple[LoadEntry, ...]:
        told: list[LoadEntry] = []
        figures = 0
        while listener.endpoints and figures < MOST_FIGURES:
            found = self._pushes.loads.of((listener.endpoints.pop(),))
            told += found
            figures += sum(_ENTRY_FIGURES + len(entry.in_flight_by_origin) for entry in found)
        return tuple(told)

    def _conditions(self, listener: _Listener) -> tuple[NodeCondition, ...]:
        told: list[NodeCondition] = []
        endpoints = 0
        while listener.nodes and endpoints < MOST_ENDPOINTS and len(told) < MOST_NODES:
            found, _ = self._pushes.sharing.told((listener.nodes.pop(),), ())
            told += found
            endpoints += sum(len(one.condition.endpoints) for one in found if one.condition is not None)
        return tuple(told)

    def _suspects(self) -> frozenset[NodeId]:
        # Only of nodes that name this instance: of others we only repeat what we heard.
        members = self._mirror.below(keyspace.MEMBERS)
        return frozenset(
            node
            for node in self._membership.suspects
            if node in members
            and records.parse(records.Member, members[node].value).instance_id == self._instance
        )

    def _loaded(self, endpoints: frozenset[EndpointId]) -> None:
        for listener in self._listeners:
            listener.endpoints |= endpoints
            listener.news.set()

    def _shared(self, nodes: frozenset[NodeId], endpoints: frozenset[EndpointId]) -> None:
        for listener in self._listeners:
            listener.nodes |= nodes
            listener.cached |= endpoints
            listener.news.set()

    def _departed(self, node: NodeId) -> None:
        for listener in self._listeners:
            listener.departed.add(node)
            listener.news.set()

    def _wake(self) -> None:
        for listener in self._listeners:
            listener.news.set()


def _nodes_in(share: Share) -> frozenset[NodeId]:
    """Of whom it tells something."""
    loads = (owner_of(entry.endpoint) for entry in share.loads)
    digests = (owner_of(one.endpoint) for one in share.prefixes)
    return frozenset((*loads, *digests, *(one.node for one in share.conditions)))
