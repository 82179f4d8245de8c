"""What this instance says of nodes that it does not hear (PROTOCOL section 2, ADR 23)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

import structlog

from controlplane.core.doubts import Doubt, to_write
from controlplane.core.membership import MembershipPolicy, Sighting, was_silent
from controlplane.services import keyspace
from controlplane.services.doubts import Doubts, written
from controlplane.services.mirror import Mirror
from controlplane.services.sessions import Sessions
from controlplane.store.port import Delete, KeyValue, Operation, Store, modified
from swarmplane.clock import Clock
from swarmplane.codec import records
from swarmplane.errors import UnavailableError
from swarmplane.ids import InstanceId, NodeId

log = structlog.get_logger(__name__)

_TICK_S: Final = 0.25
_EACH_S: Final = 0.01
"""Longer between two looks for each node in doubt: many come and go, and the record has them all."""
_BATCH: Final = 60
"""Nodes in one transaction; each takes a condition and a deletion."""


class Expiry:
    """Level-triggered: looks at all members that name this instance, up to four times a second.

    Their keys stand under one lease (:mod:`controlplane.services.node_lease`), which says that this instance
    lives. Of who is silent for a while it writes that down, with the time that is left; the controller goes
    by it, whether or not this instance lives by then. Where the controller does not, because it holds
    removals or there is none, the membership is ended from here. Each deletion has the condition that the
    session is the one that fell silent: a node that came back, here or elsewhere, is left alone.
    """

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        sessions: Sessions,
        doubts: Doubts,
        clock: Clock,
        policy: MembershipPolicy,
        *,
        instance: InstanceId,
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._sessions = sessions
        self._doubts = doubts
        self._clock = clock
        self._policy = policy
        self._instance = instance
        self._ours: dict[str, tuple[int, bool]] = {}
        self._unseen_s: dict[NodeId, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        await self._mirror.loaded.wait()
        while True:
            before_s = self._clock.now_s()
            pause_s = _TICK_S + _EACH_S * len(self._doubts.of(self._instance))
            await self._clock.sleep(pause_s)
            gap_s = self._clock.now_s() - before_s - pause_s
            if gap_s > self._policy.pause_s:
                # Nobody could be heard meanwhile: what was seen gets that time on top first.
                self._unseen_s = {node: since_s + gap_s for node, since_s in self._unseen_s.items()}
                continue
            try:
                await self._say()
            except UnavailableError as error:
                log.warning("members.not_ended", reason=error.message)

    async def _say(self) -> None:
        now_s, policy = self._clock.now_s(), self._policy
        silent: dict[Doubt, float] = {}
        forsaken = []
        for doubt, sighting in self._silent(now_s):
            silent[doubt] = sighting.heard_s + policy.lease_ttl_s - now_s
            if was_silent(sighting, now_s, policy.forsaken_s):
                forsaken.append(doubt)
        population = len(self._mirror.below(keyspace.MEMBERS))
        wanted = to_write(silent.keys(), self._doubts.of(self._instance), population, policy)
        if wanted is not None:
            operation = written(self._instance, {doubt: silent[doubt] for doubt in wanted})
            done = await self._store.transact((), [operation])
            log.info("members.doubted", nodes=sorted(one.node for one in wanted), revision=done.revision)
            await self._mirror.caught_up(done.revision)
        await self._end(forsaken)

    def _silent(self, now_s: float) -> Iterator[tuple[Doubt, Sighting]]:
        """Members of this instance that were not heard for a while, each with what was seen of it last."""
        unseen, self._unseen_s = self._unseen_s, {}
        for name, kv in self._members():
            node = NodeId(name)
            sighting = self._sessions.sighting(node)
            if sighting is None:
                # It left, or its claim was in doubt; without a stream nobody else will end it.
                self._unseen_s[node] = unseen.get(node, now_s)
                sighting = Sighting(self._unseen_s[node])
            if was_silent(sighting, now_s, self._policy.doubt_s):
                yield Doubt(node, kv.mod_revision), sighting

    def _members(self) -> Iterator[tuple[str, KeyValue]]:
        """Those that name this instance. Each record is read once a change."""
        below = self._mirror.below(keyspace.MEMBERS)
        if len(self._ours) > 2 * len(below):
            self._ours = {name: self._ours[name] for name in below if name in self._ours}
        for name, kv in below.items():
            revision, ours = self._ours.get(name, (0, False))
            if revision != kv.mod_revision:
                ours = records.parse(records.Member, kv.value).instance_id == self._instance
                self._ours[name] = (kv.mod_revision, ours)
            if ours:
                yield name, kv

    async def _end(self, due: list[Doubt]) -> None:
        waiting = iter(due)
        while batch := list(islice(waiting, _BATCH)):
            compares = [modified(keyspace.member(one.node), one.session) for one in batch]
            then: list[Operation] = [Delete(keyspace.member(one.node)) for one in batch]
            for compare, operation in self._doubts.without(frozenset(batch)):
                compares.append(compare)
                then.append(operation)
            done = await self._store.transact(compares, then)
            if done.succeeded:
                nodes = [one.node for one in batch]
                log.info("members.ended", nodes=nodes, revision=done.revision)
            # Else one came back, or the picture is behind: the next look decides anew.
            await self._mirror.caught_up(done.revision)
