"""Ends the membership of nodes that this instance has not heard of for a lease (PROTOCOL section 2)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

import structlog

from controlplane.core.membership import MembershipPolicy
from controlplane.services import keyspace
from controlplane.services.mirror import Mirror
from controlplane.services.sessions import Sessions
from controlplane.store.port import Delete, KeyValue, Store, modified
from swarmplane.clock import Clock
from swarmplane.codec import records
from swarmplane.errors import UnavailableError
from swarmplane.ids import InstanceId, NodeId

log = structlog.get_logger(__name__)

_TICK_S: Final = 0.5
_BATCH: Final = 60
"""Nodes in one transaction; each takes a condition and a deletion."""


class Expiry:
    """Level-triggered: looks at all members that name this instance, twice a second.

    Their keys stand under one lease (:mod:`controlplane.services.node_lease`), which says that this instance
    lives; what ends a single one is this. Each deletion has the condition that the session is the one that
    fell silent: a node that came back, here or elsewhere, is left alone.
    """

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        sessions: Sessions,
        clock: Clock,
        policy: MembershipPolicy,
        *,
        instance: InstanceId,
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._sessions = sessions
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
            await self._clock.sleep(_TICK_S)
            gap_s = self._clock.now_s() - before_s - _TICK_S
            if gap_s > self._policy.pause_s:
                # Nobody could be heard meanwhile: what was seen gets that time on top first.
                self._unseen_s = {node: since_s + gap_s for node, since_s in self._unseen_s.items()}
                continue
            try:
                await self._end(list(self._over()))
            except UnavailableError as error:
                log.warning("members.not_ended", reason=error.message)

    def _over(self) -> Iterator[KeyValue]:
        """Members of this instance that were silent for a lease."""
        now_s, unseen = self._clock.now_s(), self._unseen_s
        self._unseen_s = {}
        for name, kv in self._members():
            node = NodeId(name)
            sighting = self._sessions.sighting(node)
            if sighting is None:
                # It left, or its claim was in doubt; without a stream nobody else will end it.
                heard_s = self._unseen_s[node] = unseen.get(node, now_s)
            else:
                heard_s = sighting.heard_s
            if now_s - heard_s >= self._policy.lease_ttl_s:
                yield kv

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

    async def _end(self, due: list[KeyValue]) -> None:
        waiting = iter(due)
        while batch := list(islice(waiting, _BATCH)):
            compares = [modified(kv.key, kv.mod_revision) for kv in batch]
            done = await self._store.transact(compares, [Delete(kv.key) for kv in batch])
            if done.succeeded:
                names = [keyspace.name_below(keyspace.MEMBERS, kv.key) for kv in batch]
                log.info("members.ended", nodes=names, revision=done.revision)
            # Else one came back, or the picture is behind: the next look decides anew.
            await self._mirror.caught_up(done.revision)
