"""Suspicion and removal: the shell around :mod:`controlplane.core.membership`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Final

import structlog

from controlplane.core.doubts import Doubt
from controlplane.core.membership import (
    MembershipPolicy,
    Removals,
    Sighting,
    Standing,
    hold,
    is_silent,
    observe,
    standing,
)
from controlplane.services import keyspace
from controlplane.services.doubts import Doubts
from controlplane.services.hearsay import Hearsay
from controlplane.services.leadership import Leadership
from controlplane.services.mirror import Mirror, Turn
from controlplane.services.sessions import Sessions
from controlplane.store.port import Compare, Delete, KeyValue, Operation, Put, Store, modified
from swarmplane.clock import Clock
from swarmplane.codec import records
from swarmplane.errors import StaleEpochError, UnavailableError
from swarmplane.ids import InstanceId, NodeId

log = structlog.get_logger(__name__)

_TICK_S: Final = 0.5
_LARGE: Final = 100
"""From so many nodes on not every change makes a decision of its own."""
_NODES_A_SECOND: Final = 10_000
_BATCH: Final = 30
"""Nodes removed in one transaction; each takes two conditions and two writes."""


class Membership:
    """Watches silence, and decides removals.

    Suspicion is an overlay: it is pushed. What is stored of a long silence (see
    :mod:`controlplane.services.expiry`) is for removals, which must come in time though the instance that
    noticed it is dead by then.
    """

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        sessions: Sessions,
        leadership: Leadership,
        hearsay: Hearsay,
        doubts: Doubts,
        clock: Clock,
        policy: MembershipPolicy,
        *,
        instance: InstanceId,
        unix_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._sessions = sessions
        self._leadership = leadership
        self._hearsay = hearsay
        self._doubts = doubts
        self._clock = clock
        self._policy = policy
        self._instance = instance
        self._unix_s = unix_s
        self._subscribers: list[Callable[[frozenset[NodeId]], None]] = []
        self._unheld_s: dict[NodeId, float] = {}
        self._removals = Removals()
        self._outages = 0
        self._counts_of: dict[str, tuple[int, bool]] = {}
        self._wake = asyncio.Event()
        self.suspects: frozenset[NodeId] = frozenset()
        """Nodes that are suspected now."""
        mirror.subscribe(self._turn)
        sessions.subscribe(lambda node: self._look({node}))
        hearsay.subscribe(self._look)

    @property
    def held_until_s(self) -> float:
        """Until when removals wait, on the clock; in the past where they do not."""
        return self._removals.held_until_s

    def subscribe(self, act: Callable[[frozenset[NodeId]], None]) -> None:
        """Call ``act`` with those newly suspected, whenever :attr:`suspects` changes; they may be none."""
        self._subscribers.append(act)

    def standing(self, node: NodeId, record: records.Node) -> Standing:
        """How ``node`` stands."""
        return standing(
            seen=bool(record.incarnation),
            gone=record.gone,
            present=node in self._mirror.below(keyspace.MEMBERS),
            suspected=node in self.suspects,
        )

    async def run(self) -> None:
        """Look, and decide while this instance leads, until cancelled.

        All instances keep the evidence, so that a new controller knows what the last one knew.
        """
        await self._mirror.loaded.wait()
        if any(True for _ in self._known()) and not self._others_lead():
            # Leases that were running while nobody could renew them say nothing.
            self._removals = hold(self._removals, self._clock.now_s(), self._policy)
            log.info("removals.held", nodes=0, hold_s=self._policy.removal_hold_s)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick(), name="membership-tick")
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._decide()
                nodes = len(self._mirror.below(keyspace.NODES))
                if nodes >= _LARGE:
                    # Many changes in a large swarm share a look at all of it.
                    await self._clock.sleep(nodes / _NODES_A_SECOND)

    async def _tick(self) -> None:
        before_s = self._clock.now_s()
        while True:
            await self._clock.sleep(_TICK_S)
            now_s = self._clock.now_s()
            gap_s, before_s = now_s - before_s - _TICK_S, now_s
            if gap_s > self._policy.pause_s:
                log.warning("membership.paused", gap_s=round(gap_s, 1))
                self._sessions.excuse(gap_s)
                self._unheld_s = {node: since_s + gap_s for node, since_s in self._unheld_s.items()}
                self._removals = hold(self._removals, now_s, self._policy)
            self._look()
            self._wake.set()

    def _turn(self, turn: Turn) -> None:
        changed = {NodeId(c.name) for c in turn.changes if c.prefix in {keyspace.MEMBERS, keyspace.NODES}}
        if turn.loading or changed:
            self._look(None if turn.loading else changed)
            self._wake.set()

    def _others_lead(self) -> bool:
        """Whether another instance leads, or did moments ago: then somebody renewed leases all the time."""
        return any(
            records.parse(records.Election, kv.value).instance_id != self._instance
            for kv in self._mirror.below(keyspace.ELECTIONS).values()
        )

    def _known(self) -> Iterable[NodeId]:
        """Nodes that were seen and are not decided gone. Each record is read once a change."""
        below = self._mirror.below(keyspace.NODES)
        if len(self._counts_of) > 2 * len(below):
            self._counts_of = {name: self._counts_of[name] for name in below if name in self._counts_of}
        return (NodeId(name) for name, kv in below.items() if self._counts(name, kv))

    def _counts(self, name: str, kv: KeyValue) -> bool:
        revision, counts = self._counts_of.get(name, (0, False))
        if revision != kv.mod_revision:
            record = records.parse(records.Node, kv.value)
            counts = bool(record.incarnation) and not record.gone
            self._counts_of[name] = (kv.mod_revision, counts)
        return counts

    def _look(self, only: AbstractSet[NodeId] | None = None) -> None:
        """Whom to suspect: of ``only``, where nobody else can have changed, else of all."""
        now_s, below = self._clock.now_s(), self._mirror.below(keyspace.NODES)
        if only is None:
            suspects = frozenset(node for node in self._known() if self._is_suspect(node, now_s))
        else:
            seen = ((node, below[node]) for node in only if node in below)
            those = (node for node, kv in seen if self._counts(node, kv) and self._is_suspect(node, now_s))
            suspects = (self.suspects - only).union(those)
        if suspects == self.suspects:
            return
        new, self.suspects = suspects - self.suspects, suspects
        if new:
            log.info("nodes.suspected", nodes=sorted(new))
        for act in self._subscribers:
            act(new)

    def _is_suspect(self, node: NodeId, now_s: float) -> bool:
        kv = self._mirror.below(keyspace.MEMBERS).get(node)
        if kv is None:
            # The lease ended, or the node is just connecting and our picture is behind.
            return node not in self._sessions.open
        instance = InstanceId(records.parse(records.Member, kv.value).instance_id)
        if instance != self._instance and self._doubts.about(node, kv.mod_revision):
            return True
        if instance != self._instance and instance in self._mirror.below(keyspace.INSTANCES):
            self._unheld_s.pop(node, None)
            return self._hearsay.suspected(instance, node)
        # What was seen before it went to another instance says nothing of now.
        sighting = self._sessions.sighting(node) if instance == self._instance else None
        if sighting is None:
            # Its instance is dead, or was us in an earlier life: it has the usual time to come back.
            sighting = Sighting(self._unheld_s.setdefault(node, now_s))
        else:
            self._unheld_s.pop(node, None)
        return is_silent(sighting, now_s, self._policy)

    async def _decide(self) -> None:
        before = self._removals
        # What is followed at a member that a majority left behind goes on: questions tell sooner.
        outages = self._mirror.outages + self._leadership.outages
        if outages != self._outages:
            self._outages = outages
            self._removals = hold(self._removals, self._clock.now_s(), self._policy)
        silent = self._doubts.run_out()
        present = {NodeId(name) for name in self._mirror.below(keyspace.MEMBERS)} - silent.keys()
        lost = frozenset(node for node in self._known() if node not in present)
        now_s = self._clock.now_s()
        self._removals, due = observe(
            self._removals,
            present,
            lost,
            now_s,
            self._policy,
            doubtful=self.suspects & present,
            orphaned=lost - silent.keys(),
        )
        self._tell_of_holds(before, len(lost))
        if not self._leadership.leading:
            return
        try:
            await self._remove(sorted(due), silent)
            if leftover := list(self._doubts.leftover(self._instance)):
                compares, then = zip(*leftover, strict=True)
                await self._store.transact([self._leadership.guard, *compares], then)
        except (UnavailableError, StaleEpochError) as error:
            log.warning("removals.not_written", reason=error.message)

    def _tell_of_holds(self, before: Removals, lost: int) -> None:
        now = self._removals
        if now.held_until_s > before.held_until_s:
            log.warning("removals.held", nodes=lost, hold_s=self._policy.removal_hold_s)
        if bool(now.waiting) != bool(before.waiting):
            log.info("removals.waiting" if now.waiting else "removals.waited", nodes=sorted(now.waiting))

    async def _remove(self, due: list[NodeId], silent: Mapping[NodeId, Doubt]) -> None:
        """Decide that those ``due`` are gone. ``silent``: who of them has a membership still, which ends."""
        waiting = iter(due)
        while batch := list(islice(waiting, _BATCH)):
            compares: list[Compare] = [self._leadership.guard]
            then: list[Operation] = []
            for node in batch:
                kv = self._mirror.below(keyspace.NODES).get(node)
                if kv is None:
                    # Somebody removed it from the swarm while an earlier batch was written.
                    continue
                record = records.parse(records.Node, kv.value)
                record.gone, record.gone_at_s = True, int(self._unix_s())
                key, doubt = keyspace.node(node), silent.get(node)
                session = doubt.session if doubt is not None else 0
                compares += [modified(keyspace.member(node), session), modified(key, kv.mod_revision)]
                then.append(Put(key, record.SerializeToString()))
                if doubt is not None:
                    then.append(Delete(keyspace.member(node)))
            over = {silent[node] for node in batch if node in silent}
            for compare, operation in self._doubts.without(over):
                # Nobody took it back meanwhile.
                compares.append(compare)
                then.append(operation)
            done = await self._store.transact(compares, then)
            if not done.succeeded:
                # One came back, or the picture is behind: the next look decides anew.
                await self._leadership.check()
                return
            log.info("nodes.gone", nodes=batch, revision=done.revision, epoch=self._leadership.epoch)
            await self._mirror.caught_up(done.revision)
