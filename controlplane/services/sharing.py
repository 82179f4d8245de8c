"""Telling nodes of each other what is slower than load: how they are, and what they have cached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import Final

from controlplane.core.boards import ConditionBoard, PrefixBoard
from controlplane.core.loads import owner_of
from controlplane.services.audience import Audience
from controlplane.services.messages import ConditionNews, PrefixNews
from controlplane.services.sessions import Session, Sessions
from swarmplane import features
from swarmplane.clock import Clock
from swarmplane.conditions import Condition, NodeCondition
from swarmplane.ids import EndpointId, NodeId
from swarmplane.prefixes import EndpointPrefixes

GATHER_S: Final = 1.0
"""Between two rounds of news."""
MOST_NODES_TOLD: Final = 64
MOST_ENDPOINTS_TOLD: Final = 1000
"""Of them together; the message ends with the node that reaches it."""
MOST_DIGESTS_TOLD: Final = 64
"""In one message: about 150 KB; the others follow."""


class Sharing:
    """Gathers news and marks the streams that should hear them. A slow stream hears the newest only."""

    def __init__(self, sessions: Sessions, audience: Audience, clock: Clock) -> None:
        self._sessions = sessions
        self._audience = audience
        self._clock = clock
        self._conditions = ConditionBoard()
        self._prefixes = PrefixBoard()
        self._fresh_nodes: set[NodeId] = set()
        self._fresh_endpoints: set[EndpointId] = set()
        self._news = asyncio.Event()
        self._subscribers: list[Callable[[frozenset[NodeId], frozenset[EndpointId]], None]] = []

    def subscribe(self, act: Callable[[frozenset[NodeId], frozenset[EndpointId]], None]) -> None:
        """Call ``act`` with nodes connected here, and endpoints of such, that said something new."""
        self._subscribers.append(act)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            nodes, self._fresh_nodes = frozenset(self._fresh_nodes), set()
            endpoints, self._fresh_endpoints = frozenset(self._fresh_endpoints), set()
            for session in self._sessions.open.values():
                self._mark(session, nodes, endpoints)
            await self._clock.sleep(GATHER_S)

    def greet(self, session: Session) -> None:
        """A stream begins: it is told everything."""
        self._mark(session, frozenset(self._conditions.nodes), frozenset(self._prefixes.endpoints))

    def tell_of(self, session: Session, endpoints: frozenset[EndpointId]) -> None:
        """A stream hears of ``endpoints`` from now on: it is told what is known of them and their nodes."""
        nodes = self._conditions.nodes & frozenset(map(owner_of, endpoints))
        self._mark(session, nodes, self._prefixes.endpoints & endpoints)

    def take_condition(self, session: Session, condition: Condition) -> None:
        """The node says how it is."""
        self._conditions.fold(session.node, condition, self._clock.now_s())
        self._tell(nodes={session.node}, own=True)

    def take_prefixes(self, session: Session, told: Iterable[EndpointPrefixes]) -> None:
        """The node says what it has cached."""
        self._tell(endpoints=self._prefixes.fold(session.node, told), own=True)

    def take_others(self, conditions: Iterable[NodeCondition], prefixes: Iterable[EndpointPrefixes]) -> None:
        """Another instance says what its nodes told; who is connected here tells it himself."""
        now_s, own = self._clock.now_s(), self._sessions.open
        for one in conditions:
            if one.node in own:
                continue
            if one.condition is None:
                self._conditions.drop(one.node)
            else:
                self._conditions.fold(one.node, one.condition, now_s - one.age_ms / 1000)
            self._tell(nodes={one.node})
        for digest in prefixes:
            node = owner_of(digest.endpoint)
            if node not in own:
                self._tell(endpoints=self._prefixes.fold(node, (digest,)))

    def known_of(self, nodes: Iterable[NodeId]) -> tuple[frozenset[NodeId], frozenset[EndpointId]]:
        """Which of ``nodes`` said how they are, and which of their endpoints what is cached."""
        wanted = frozenset(nodes)
        endpoints = frozenset(key for key in self._prefixes.endpoints if owner_of(key) in wanted)
        return self._conditions.nodes & wanted, endpoints

    def told(
        self, nodes: Iterable[NodeId], endpoints: Iterable[EndpointId]
    ) -> tuple[tuple[NodeCondition, ...], tuple[EndpointPrefixes, ...]]:
        """The last words of ``nodes``, and the digests of ``endpoints``."""
        return self._conditions.digest(nodes, self._clock.now_s()), self._prefixes.digest(endpoints)

    def condition_of(self, node: NodeId) -> Condition | None:
        """How the host of ``node`` is, without its endpoints; None: nothing is known."""
        (told,) = self._conditions.digest((node,), self._clock.now_s())
        return None if told.condition is None else replace(told.condition, endpoints=())

    def drop(self, node: NodeId) -> None:
        """The node left."""
        self._prefixes.drop(node)
        if self._conditions.drop(node):
            self._tell(nodes={node})

    def conditions(self, session: Session) -> ConditionNews | None:
        """What to tell the stream next of nodes; None: nothing."""
        box = session.outbox
        if not box.conditions or not box.greeted:
            return None
        told: list[NodeCondition] = []
        endpoints = 0
        while box.conditions and len(told) < MOST_NODES_TOLD and endpoints < MOST_ENDPOINTS_TOLD:
            node = box.conditions.pop()
            if node != session.node:
                found = self._conditions.digest((node,), self._clock.now_s())
                told += found
                endpoints += sum(len(one.condition.endpoints) for one in found if one.condition is not None)
        return ConditionNews(tuple(told)) if told else None

    def prefixes(self, session: Session) -> PrefixNews | None:
        """What to tell the stream next of caches; None: nothing."""
        box = session.outbox
        if not box.prefixes or not box.greeted:
            return None
        endpoints = sorted(islice(box.prefixes, MOST_DIGESTS_TOLD))
        box.prefixes.difference_update(endpoints)
        told = self._prefixes.digest(key for key in endpoints if owner_of(key) != session.node)
        return PrefixNews(told) if told else None

    def _mark(self, session: Session, nodes: frozenset[NodeId], endpoints: frozenset[EndpointId]) -> None:
        hears = session.features
        conditions = self._audience.nodes(session, nodes) if features.CONDITION in hears else ()
        prefixes = self._audience.endpoints(session, endpoints) if features.PREFIXES in hears else ()
        if conditions or prefixes:
            session.outbox.mark_shared(conditions=conditions, prefixes=prefixes)

    def _tell(
        self, *, nodes: Iterable[NodeId] = (), endpoints: Iterable[EndpointId] = (), own: bool = False
    ) -> None:
        new_nodes, new_endpoints = frozenset(nodes), frozenset(endpoints)
        self._fresh_nodes |= new_nodes
        self._fresh_endpoints |= new_endpoints
        if self._fresh_nodes or self._fresh_endpoints:
            self._news.set()
        if own and (new_nodes or new_endpoints):
            for act in self._subscribers:
                act(new_nodes, new_endpoints)
