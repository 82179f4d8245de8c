"""Load of all nodes on its way to those who want to know it. Nothing of it is ever stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from controlplane.core.loads import LoadBoard, owner_of
from controlplane.services.audience import Audience
from controlplane.services.messages import LoadNews
from controlplane.services.outbox import MARKED_TOGETHER, MOST_NEWS
from controlplane.services.sessions import Session, Sessions
from swarmplane import features
from swarmplane.clock import Clock
from swarmplane.codec.load import encoded_load_entry, encoded_report
from swarmplane.ids import EndpointId, ModelName, NodeId
from swarmplane.load import LoadEntry

NODES_A_SECOND: Final = 1000
"""So many nodes are heard and told in a second at most: more nodes, longer intervals (DESIGN section 10)."""
MOST_BYTES: Final = 1024 * 1024
"""A message ends with the entry that reaches it; the others follow."""
_YOUNG_S: Final = 1.0
_OLD_S: Final = 2.0
"""A report that is told so late is known for as long as it takes to tell the next."""
_ENCODED_S: Final = 0.1
"""Ages in a message may be off by so much: within it the same bytes go to all."""
_UNKNOWN: Final = (b"", float("-inf"))


class Loads:
    """Takes reports in, and marks the streams that should hear them.

    A round costs O(news + streams); telling one stream costs O(endpoints it hears of), see its aperture.
    """

    def __init__(
        self,
        sessions: Sessions,
        audience: Audience,
        clock: Clock,
        *,
        least_interval_s: float,
        swarm_size: Callable[[], int],
        crowded: Callable[[], bool],
    ) -> None:
        self._sessions = sessions
        self._audience = audience
        self._clock = clock
        self._least_interval_s = least_interval_s
        self._swarm_size = swarm_size
        self._crowded = crowded
        self._board = LoadBoard()
        self._fresh: set[EndpointId] = set()
        self._reports: dict[EndpointId, bytes] = {}
        """The newest, encoded but for their age."""
        self._encoded: dict[EndpointId, tuple[bytes, float]] = {}
        """With their age, and when; gone with the report, as the above."""
        self._news = asyncio.Event()
        self._subscribers: list[Callable[[frozenset[EndpointId]], None]] = []

    @property
    def interval_s(self) -> float:
        """Between two reports of a node, and two digests to it: grows with the fleet.

        What it costs grows with the streams here, what it is worth with the swarm: beyond a second, which is
        young enough for everybody, other instances' nodes make it no longer. While sidecars wait to come in,
        it is as long as figures are worth anything.
        """
        if self._crowded():
            return max(_OLD_S, len(self._sessions.open) / NODES_A_SECOND)
        swarm = min(self._swarm_size() / NODES_A_SECOND, _YOUNG_S)
        return max(self._least_interval_s, len(self._sessions.open) / NODES_A_SECOND, swarm)

    def subscribe(self, act: Callable[[frozenset[EndpointId]], None]) -> None:
        """Call ``act`` with endpoints of nodes connected here that have news."""
        self._subscribers.append(act)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            told, self._fresh = frozenset(self._fresh), set()
            for number, session in enumerate(tuple(self._sessions.open.values())):
                if number % MARKED_TOGETHER == 0:
                    await asyncio.sleep(0)
                if features.LOAD in session.features:
                    endpoints = self._audience.endpoints(session, told)
                    if endpoints:
                        session.outbox.mark_loads(endpoints)
            await self._clock.sleep(self.interval_s)

    def take(
        self, session: Session, entries: Iterable[LoadEntry], uses: Iterable[ModelName]
    ) -> frozenset[EndpointId]:
        """The node says what its endpoints carry, and which models its clients use.

        Returns endpoints of which it is told from now on, and was not before.
        """
        more: frozenset[EndpointId] = frozenset()
        if features.INTEREST in session.features:
            more = self._audience.uses(session, uses, self._clock.now_s())
            session.outbox.mark_loads(more)
        fresh = self._board.fold(session.node, entries, self._clock.now_s())
        self._refresh(fresh)
        if fresh:
            self._news.set()
            for act in self._subscribers:
                act(fresh)
        return more

    def take_others(self, entries: Iterable[LoadEntry]) -> None:
        """Another instance says what endpoints of its nodes carry; who is connected here says it himself."""
        own = self._sessions.open
        for entry in entries:
            node = owner_of(entry.endpoint)
            if node not in own:
                self._refresh(self._board.fold(node, (entry,), self._clock.now_s()))
        if self._fresh:
            self._news.set()

    def endpoints_of(self, nodes: Iterable[NodeId]) -> frozenset[EndpointId]:
        """Endpoints of ``nodes`` of which there is a report."""
        return self._board.of(nodes)

    def of(self, endpoints: Iterable[EndpointId]) -> tuple[LoadEntry, ...]:
        """What is known and fresh of ``endpoints``."""
        return self._board.digest(endpoints, self._clock.now_s())

    def in_flight(self, node: NodeId) -> int:
        """Requests that the endpoints of ``node`` serve or hold queued, as was told last."""
        return self._board.in_flight(node)

    def drop(self, node: NodeId) -> None:
        """It left: what it carried is void."""
        for endpoint in self._board.drop(node):
            self._forget(endpoint)

    def news(self, session: Session) -> LoadNews | None:
        """What to tell the stream next, as much as fits into a message; None: nothing."""
        box = session.outbox
        if not box.greeted:
            return None
        now_s, size = self._clock.now_s(), 0
        # A thousand streams hear of 64 endpoints each in a second: all that is done here, is done so often.
        loads, encoded, own, young_s = box.loads, self._encoded, f"{session.node}/", now_s - _ENCODED_S
        entries: list[bytes] = []
        while loads and size < MOST_BYTES:
            endpoint = loads.pop()
            told, at_s = encoded.get(endpoint, _UNKNOWN)
            if at_s < young_s:
                told = self._encode(endpoint, now_s)
            if told and not endpoint.startswith(own):
                entries.append(told)
                size += len(told)
        return LoadNews(tuple(entries), self.interval_s) if entries else None

    def _encode(self, endpoint: EndpointId, now_s: float) -> bytes:
        """Empty where nothing fresh is known."""
        if len(self._encoded) >= MOST_NEWS:
            # Names that came and went; what is needed is encoded again.
            self._encoded.clear()
            self._reports.clear()
        content = b""
        if (known := self._board.fresh(endpoint, now_s)) is not None:
            entry, age_ms = known
            report = self._reports.get(endpoint)
            if report is None:
                report = self._reports[endpoint] = encoded_report(entry)
            content = encoded_load_entry(report, age_ms)
        self._encoded[endpoint] = content, now_s
        return content

    def _refresh(self, endpoints: frozenset[EndpointId]) -> None:
        """There are newer reports of ``endpoints``."""
        self._fresh |= endpoints
        for endpoint in endpoints:
            self._forget(endpoint)

    def _forget(self, endpoint: EndpointId) -> None:
        self._encoded.pop(endpoint, None)
        self._reports.pop(endpoint, None)
