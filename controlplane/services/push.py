"""What each stream is told, and when (DESIGN section 4). A slow sidecar costs no memory and waits alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from controlplane.services import keyspace
from controlplane.services.audience import Audience
from controlplane.services.hearsay import Hearsay
from controlplane.services.live_table import LiveTable, News
from controlplane.services.load_news import Loads
from controlplane.services.membership import Membership
from controlplane.services.messages import (
    DrainOrder,
    InstanceNews,
    Message,
    PolicyChange,
    Refusal,
    Suspects,
    TableUpdate,
)
from controlplane.services.mirror import Mirror, Turn
from controlplane.services.outbox import MARKED_TOGETHER, Outbox, Unanswered
from controlplane.services.questions import Questions
from controlplane.services.sessions import Session, Sessions
from controlplane.services.sharing import Sharing
from swarmplane import features
from swarmplane.clock import Clock
from swarmplane.codec import records
from swarmplane.codec.table import EncodedRows
from swarmplane.ids import InstanceId, NodeId
from swarmplane.routes import RouteDelta, Version

log = structlog.get_logger(__name__)

_ANSWER_S: Final = 30.0
"""A sidecar that beats but does not answer an update for so long must connect again."""
_REMEMBERED: Final = 16
_CROWDED_S: Final = 3.0
"""So long a change that is not urgent waits while sidecars wait to come in."""
_CROWDED_LOOK_S: Final = 0.1
_LARGE: Final = 100
"""Nodes from which on telling all of one thing costs something."""
_FIRST_S: Final = 1.0
"""So long it is; what changed since follows as a difference."""
UNKNOWN: Final = -1
"""Requests in flight at a node of which nothing is known."""
STREAMS_A_SECOND: Final = 1000
"""So many streams are told of a change that is not urgent in a second, over all."""
NEIGHBOURS_FIRST_S: Final = 0.5
"""From the news that a node is cordoned until it is told to take nothing new."""


@dataclass(frozen=True, slots=True)
class _Update:
    version: Version
    parts: tuple[bytes, ...]
    empty: bool
    """Whether it says only that nothing changed."""


class Pushes:
    """Marks outboxes when something changed, and makes of each the messages its stream sends."""

    def __init__(
        self,
        mirror: Mirror,
        table: LiveTable,
        sessions: Sessions,
        membership: Membership,
        hearsay: Hearsay,
        clock: Clock,
        *,
        instances: Callable[[], InstanceNews],
        crowded: Callable[[], bool],
        debounce_s: float,
        load_interval_s: float,
        drain_s: float,
    ) -> None:
        self._mirror = mirror
        self._table = table
        self._sessions = sessions
        self._membership = membership
        self._hearsay = hearsay
        self._instances = instances
        self._crowded = crowded
        self._on_departure: list[Callable[[NodeId], None]] = []
        self._clock = clock
        self._debounce_s = debounce_s
        self._drain_s = drain_s
        self._changed = asyncio.Event()
        self._heard_again = False
        """Whether suspicions ended of which streams were not told yet."""
        self._cordoned: asyncio.Queue[NodeId] = asyncio.Queue()
        self._rows = EncodedRows()
        self._updates: dict[tuple[Version, Version], _Update] = {}
        self._firsts: dict[Version, tuple[_Update, float]] = {}
        self.sent = 0
        """Tables and differences that were sent."""
        self._audience = Audience(table)
        self.loads = Loads(
            sessions,
            self._audience,
            clock,
            least_interval_s=load_interval_s,
            swarm_size=lambda: len(mirror.below(keyspace.MEMBERS)),
            crowded=crowded,
        )
        self.sharing = Sharing(sessions, self._audience, clock)
        self.questions = Questions(sessions)
        self._steps = self._in_order()
        table.subscribe(self._news)
        membership.subscribe(self._suspected)
        mirror.subscribe(self._turn)

    def _in_order(self) -> tuple[tuple[str, Callable[[Session], Message | None]], ...]:
        """What a stream may be told, most urgent first, and what it has to understand for it."""
        return (
            (features.DRAIN, self._drain_order),
            (features.POLICY, self._policy_change),
            (features.SUSPICION, self._suspects),
            (features.ROUTES, self._table_update),
            (features.INSTANCES, self._instance_news),
            (features.LOAD, self.loads.news),
            (features.EXPLAIN, self.questions.next),
            (features.CONDITION, self.sharing.conditions),
            (features.PREFIXES, self.sharing.prefixes),
        )

    def gather_for(self, debounce_s: float) -> None:
        """Gather route pushes for so long from now on."""
        self._debounce_s = debounce_s

    async def run(self) -> None:
        """Gather what is not urgent, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._gather_tables(), name="push-tables")
            group.create_task(self.loads.run(), name="push-loads")
            group.create_task(self.sharing.run(), name="push-shared")
            group.create_task(self._end_the_mute(), name="push-answers")
            group.create_task(self._order_drains(), name="push-drains")

    async def messages(self, session: Session) -> AsyncGenerator[Message, None]:
        """All that the stream is told after its Welcome, most urgent first; ends when the session does."""
        box = session.outbox
        try:
            # Not before our picture has what the sidecar has: else it would be sent back in time.
            async with asyncio.timeout(_ANSWER_S):
                if box.has.generation == self._mirror.generation:
                    await self._mirror.reached(box.has.revision)
                await self._mirror.reached(session.revision)
        except TimeoutError:
            yield Refusal("not_ready", "this instance is behind the store; try another or later", retry=True)
            return
        box.mark(suspects=bool(self._membership.suspects), drain=self._table.cordoned(session.node))
        self.sharing.greet(session)
        while True:
            message = self._next(session)
            if message is not None:
                yield message
            elif box.closed:
                return
            else:
                await box.wait()

    def subscribe(self, departed: Callable[[NodeId], None]) -> None:
        """Call ``departed`` with nodes that left this instance."""
        self._on_departure.append(departed)

    def in_flight(self, node: NodeId) -> int | None:
        """Requests at the endpoints of ``node``; None if it is connected nowhere.

        ``UNKNOWN`` while the instance that it is connected to does not tell.
        """
        kv = self._mirror.below(keyspace.MEMBERS).get(node)
        if node not in self._sessions.open:
            if kv is None:
                return None
            instance = InstanceId(records.parse(records.Member, kv.value).instance_id)
            if instance not in self._hearsay.linked:
                return UNKNOWN
        return self.loads.in_flight(node)

    def drop_load(self, node: NodeId, *, elsewhere: bool = False) -> None:
        """The node left: what it carried is void. ``elsewhere``: it left another instance."""
        self.loads.drop(node)
        self.sharing.drop(node)
        self._audience.drop(node)
        if not elsewhere:
            for act in self._on_departure:
                act(node)

    def _next(self, session: Session) -> Message | None:
        box = session.outbox
        if box.closed:
            word, box.last_word = box.last_word, None
            return word
        for feature, step in self._steps:
            # Tables are what a stream is for: they go to whoever opens one.
            if feature in session.features or feature == features.ROUTES:
                message = step(session)
                if message is not None:
                    return message
        return None

    def _drain_order(self, session: Session) -> Message | None:
        if not session.outbox.drain:
            return None
        session.outbox.drain = False
        session.drained = self._table.cordoned(session.node)
        return DrainOrder(session.drained, self._drain_s)

    def _policy_change(self, session: Session) -> Message | None:
        box = session.outbox
        if not box.policy or box.policy_unanswered is not None:
            return None
        box.policy = False
        box.nonce += 1
        box.policy_unanswered = Unanswered(box.nonce, self._table.policy.version, self._clock.now_s())
        return PolicyChange(self._table.policy, box.nonce)

    def _suspects(self, session: Session) -> Message | None:
        if not session.outbox.suspects or not session.outbox.greeted:
            return None
        session.outbox.suspects = False
        return Suspects(self._membership.suspects - {session.node})

    def _table_update(self, session: Session) -> Message | None:
        box = session.outbox
        if not box.table or box.table_unanswered is not None:
            return None
        update = self._update(box.has) if box.greeted else self._first(box.has)
        if update is None:
            # Ahead of us again, after a NACK that named a version we don't have: the next turn marks it.
            return None
        # What one of a moment ago lacks comes as a difference, once it is acknowledged.
        box.table = update.version != self._table.history.version
        if box.greeted and update.empty:
            return None
        box.greeted = True
        box.nonce += 1
        box.table_unanswered = Unanswered(box.nonce, update.version, self._clock.now_s())
        box.state.sent = update.version
        self.sent += 1
        return TableUpdate(update.parts, box.nonce)

    def _first(self, has: Version) -> _Update | None:
        """The first update of a stream that has ``has``; in a large swarm one made a moment ago for another.

        It may be as large as the swarm, many come at once, and each who comes makes a new version.
        """
        history, now_s = self._table.history, self._clock.now_s()
        if len(history.nodes) < _LARGE:
            return self._update(has)
        made, at_s = self._firsts.get(has, (None, now_s))
        if made is None or now_s - at_s >= _FIRST_S or made.version.generation != history.version.generation:
            made = self._update(has)
            if made is not None:
                self._firsts.pop(has, None)
                self._firsts[has] = (made, now_s)
                while len(self._firsts) > _REMEMBERED:
                    del self._firsts[next(iter(self._firsts))]
        return made

    def _update(self, has: Version) -> _Update | None:
        """The same answer for all streams that have the same: built and encoded once."""
        key = (has, self._table.history.version)
        found = self._updates.get(key)
        if found is None:
            update = self._table.history.update_for(has)
            if update is None:
                return None
            empty = isinstance(update, RouteDelta) and update.empty
            found = self._updates[key] = _Update(update.version, self._rows.parts(update), empty)
            while len(self._updates) > _REMEMBERED:
                del self._updates[next(iter(self._updates))]
        return found

    def _suspected(self, new: frozenset[NodeId]) -> None:
        """Whom to avoid is told at once. In a large swarm those who are heard again share a round."""
        if new or len(self._sessions.open) < _LARGE:
            self._mark(suspects=True)
        else:
            self._heard_again = True
            self._changed.set()

    def _news(self, news: News) -> None:
        if news.policy:
            self._mark(policy=True)
        for node in news.cordons:
            if self._table.cordoned(node):
                self._cordoned.put_nowait(node)
            else:
                self._order(node)
        if news.takes_away:
            self._mark(table=True)
        elif news.table:
            self._changed.set()

    def _turn(self, turn: Turn) -> None:
        if any(change.prefix == keyspace.INSTANCES for change in turn.changes):
            for session in self._sessions.open.values():
                session.outbox.mark(instances=True)

    def _instance_news(self, session: Session) -> Message | None:
        if not session.outbox.instances:
            return None
        session.outbox.instances = False
        return self._instances()

    def _order(self, node: NodeId) -> None:
        session = self._sessions.open.get(node)
        if session is not None:
            session.outbox.mark(drain=True)

    async def _order_drains(self) -> None:
        """Tell nodes that they are cordoned, after their neighbours: who knows sends nothing in vain."""
        while True:
            nodes = {await self._cordoned.get()}
            await self._clock.sleep(NEIGHBOURS_FIRST_S)
            while not self._cordoned.empty():
                nodes.add(self._cordoned.get_nowait())
            for node in nodes:
                self._order(node)

    def _mark(self, *, table: bool = False, policy: bool = False, suspects: bool = False) -> None:
        for session in self._sessions.open.values():
            session.outbox.mark(table=table, policy=policy, suspects=suspects)

    async def _gather_tables(self) -> None:
        while True:
            await self._changed.wait()
            await self._clock.sleep(self._debounce_s)
            await self._let_them_in()
            self._changed.clear()
            heard_again, self._heard_again = self._heard_again, False
            for number, session in enumerate(tuple(self._sessions.open.values())):
                if number % MARKED_TOGETHER == 0:
                    await asyncio.sleep(0)
                session.outbox.mark(table=True, suspects=heard_again)
            # A round costs something for each stream: many changes in a large swarm share one.
            await self._clock.sleep(len(self._sessions.open) / STREAMS_A_SECOND)

    async def _let_them_in(self) -> None:
        """While sidecars wait to come in, who is in waits for news of them: a round costs as much as many."""
        ends_s = self._clock.now_s() + _CROWDED_S
        while self._crowded() and self._clock.now_s() < ends_s:
            await self._clock.sleep(_CROWDED_LOOK_S)

    async def _end_the_mute(self) -> None:
        while True:
            await self._clock.sleep(_ANSWER_S / 10)
            limit_s = self._clock.now_s() - _ANSWER_S
            for session in tuple(self._sessions.open.values()):
                if _is_mute(session.outbox, limit_s):
                    log.warning("node.answers_no_updates", node=session.node, name=session.name)
                    session.outbox.end(Refusal("not_ready", "updates were not answered; connect again"))


def _is_mute(box: Outbox, limit_s: float) -> bool:
    waits = (box.table_unanswered, box.policy_unanswered)
    return any(wait is not None and wait.sent_s < limit_s for wait in waits)
