"""Events: what happened, derived from the store's own history, so that a watcher may come late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from controlplane.core.happenings import (
    Happening,
    NodeRow,
    PullRow,
    member_happening,
    node_happening,
    pull_happening,
    route_happening,
    token_happening,
    wanted,
)
from controlplane.services import keyspace
from controlplane.services.membership import Membership
from controlplane.services.mirror import Mirror
from controlplane.store.port import Event, KeyValue, Store
from swarmplane.codec import records
from swarmplane.ids import NodeId

_WAITING: Final = 1_000
"""Suspicions kept for a slow watcher; more are dropped: they are evidence, and old ones are worthless."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event. Without a happening it is a bookmark: nothing was missed up to ``revision``."""

    revision: int
    happening: Happening | None = None


Emit = Callable[[Told], Awaitable[None]]


class Events:
    """See the module."""

    def __init__(self, store: Store, mirror: Mirror, membership: Membership) -> None:
        self._store = store
        self._mirror = mirror
        self._watchers: set[asyncio.Queue[NodeId]] = set()
        membership.subscribe(self._suspected)

    async def watch(self, revision: int, kinds: Sequence[str], emit: Emit) -> None:
        """Tell ``emit`` of every event from ``revision`` on (0: from now on), until cancelled.

        Raises:
            CompactedError: ``revision`` is forgotten.
        """
        telling = asyncio.Lock()

        async def tell(revision: int, happening: Happening | None) -> None:
            if happening is None or wanted(happening.kind, kinds):
                # Both sources write to one stream.
                async with telling:
                    await emit(Told(revision, happening))

        suspected: asyncio.Queue[NodeId] = asyncio.Queue(_WAITING)
        self._watchers.add(suspected)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tell_suspicions(suspected, tell), name="events-suspicions")
                await self._tell_changes(revision, tell)
        finally:
            self._watchers.discard(suspected)

    async def _tell_changes(
        self, revision: int, tell: Callable[[int, Happening | None], Awaitable[None]]
    ) -> None:
        async with self._store.watch("", start_revision=revision) as batches:
            async for batch in batches:
                for event in batch.events:
                    happening = self._happening(event)
                    if happening is not None:
                        await tell(batch.revision, happening)
                if not batch.events:
                    await tell(batch.revision, None)

    async def _tell_suspicions(
        self,
        suspected: asyncio.Queue[NodeId],
        tell: Callable[[int, Happening | None], Awaitable[None]],
    ) -> None:
        while True:
            node = await suspected.get()
            name = self._name(node)
            message = f"{name or node} is silent; it is asked last until it is heard again"
            await tell(self._mirror.revision, Happening("node.suspect", node, name, message))

    def _suspected(self, new: frozenset[NodeId]) -> None:
        for node in sorted(new):
            for watcher in self._watchers:
                if not watcher.full():
                    watcher.put_nowait(node)

    def _name(self, node: str) -> str:
        kv = self._mirror.below(keyspace.NODES).get(node)
        return records.parse(records.Node, kv.value).name if kv is not None else ""

    def _pull(self, kv: KeyValue | None) -> PullRow | None:
        if kv is None:
            return None
        pull = records.parse(records.Pull, kv.value)
        node = self._name(pull.node_id) or pull.node_id
        return PullRow(pull.state, node, pull.completed_bytes, pull.total_bytes, pull.reason)

    def _happening(self, event: Event) -> Happening | None:
        key = event.kv.key
        before = event.previous
        after = event.kv if event.kv.value else None
        if key.startswith(keyspace.NODES):
            return node_happening(_node_row(before), _node_row(after))
        if key.startswith(keyspace.MEMBERS):
            node = keyspace.name_below(keyspace.MEMBERS, key)
            return member_happening(node, self._name(node), _incarnation(before), _incarnation(after))
        if key.startswith(keyspace.ROUTES):
            return route_happening(
                records.route_of(before.value, before.mod_revision) if before is not None else None,
                records.route_of(after.value, after.mod_revision) if after is not None else None,
            )
        if key.startswith(keyspace.PULLS):
            model = keyspace.name_below(keyspace.PULLS, key)
            return pull_happening(model, self._pull(before), self._pull(after))
        if key.startswith(keyspace.TOKENS):
            return token_happening(
                keyspace.name_below(keyspace.TOKENS, key),
                existed=before is not None or after is None,
                was_revoked=_revoked(before),
                revoked=_revoked(after),
            )
        return None


def _node_row(kv: KeyValue | None) -> NodeRow | None:
    if kv is None:
        return None
    record = records.parse(records.Node, kv.value)
    return NodeRow(keyspace.name_below(keyspace.NODES, kv.key), record.name, record.gone)


def _incarnation(kv: KeyValue | None) -> str | None:
    return records.parse(records.Member, kv.value).incarnation if kv is not None else None


def _revoked(kv: KeyValue | None) -> bool:
    return kv is not None and records.parse(records.Token, kv.value).revoked
