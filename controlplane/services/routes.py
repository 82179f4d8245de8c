"""The route controller: compares the routes that should be with those that stand, writes the difference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import structlog

from controlplane.core.aliases import with_aliases
from controlplane.core.routes import NodeFacts, Wanted, compile_routes, route_changes
from controlplane.services import keyspace
from controlplane.services.leadership import Leadership
from controlplane.services.live_table import LiveTable
from controlplane.services.mirror import Mirror, Turn
from controlplane.store.batches import MOST_BYTES, batches
from controlplane.store.port import Compare, Delete, Operation, Put, Store, modified
from swarmplane.clock import Clock
from swarmplane.codec import records
from swarmplane.errors import StaleEpochError, SwarmError, UnavailableError
from swarmplane.ids import ModelName, NodeId
from swarmplane.inventory import Inventory

log = structlog.get_logger(__name__)

_RECONCILE_S: Final = 60.0
_RETRY_S: Final = 0.5
_LARGE: Final = 100
"""From so many nodes on a look at all of them is not made for each change."""
_NODES_A_SECOND: Final = 10_000
"""So many are looked at in a second at most."""
_SHARE: Final = 0.2
"""Of the time may go into looking at all."""
_CROWDED_S: Final = 1.0
"""So long changes are gathered while sidecars wait to come in."""
_CROWDED_LOOK_S: Final = 0.1
_Change = tuple[ModelName, Operation]
_INPUTS: Final = frozenset(
    {keyspace.NODES, keyspace.INVENTORIES, keyspace.ROUTES, keyspace.MODELS, keyspace.ALIASES}
)


class RouteController:
    """Level-triggered: woken by the watch, and once a minute without."""

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        table: LiveTable,
        leadership: Leadership,
        clock: Clock,
        crowded: Callable[[], bool],
        *,
        unix_s: Callable[[], float],
        forget_models_s: float,
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._table = table
        self._leadership = leadership
        self._clock = clock
        self._unix_s = unix_s
        self._crowded = crowded
        self._forget_models_s = forget_models_s
        self._inventories: dict[str, tuple[int, bool, Inventory]] = {}
        self._too_large: dict[ModelName, int] = {}
        self._wake = asyncio.Event()
        mirror.subscribe(self._turn)
        leadership.subscribe(self._wake.set)

    async def run(self) -> None:
        """Reconcile until cancelled, as long as this instance leads."""
        await self._mirror.loaded.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._each_minute(), name="routes-each-minute")
            self._wake.set()
            while True:
                await self._wake.wait()
                self._wake.clear()
                if not self._leadership.leading:
                    continue
                began_s = self._clock.now_s()
                try:
                    await self._reconcile()
                    await self._gather(self._clock.now_s() - began_s)
                except StaleEpochError as error:
                    log.warning("routes.not_written", reason=error.message)
                except UnavailableError as error:
                    log.warning("routes.not_written", reason=error.message)
                    self._wake.set()
                    await self._clock.sleep(_RETRY_S)
                except SwarmError as error:
                    # Doing the same again helps nobody; what changes next, or the next minute, may.
                    log.exception("routes.refused", reason=error.message)

    async def _gather(self, took_s: float) -> None:
        """Many changes in a large swarm share a look at all of it; the last one took so long."""
        nodes = len(self._mirror.below(keyspace.INVENTORIES))
        if nodes < _LARGE:
            return
        pause_s = min(max(nodes / _NODES_A_SECOND, took_s * (1.0 / _SHARE - 1.0)), _CROWDED_S)
        await self._clock.sleep(pause_s)
        ends_s = self._clock.now_s() + _CROWDED_S - pause_s
        while self._crowded() and self._clock.now_s() < ends_s:
            await self._clock.sleep(_CROWDED_LOOK_S)

    async def _each_minute(self) -> None:
        while True:
            await self._clock.sleep(_RECONCILE_S)
            self._wake.set()

    def _turn(self, turn: Turn) -> None:
        if any(change.prefix in _INPUTS for change in turn.changes):
            self._wake.set()

    async def _reconcile(self) -> None:
        standing = self._table.history.models
        compiled = compile_routes(self._facts(), self._wanted(), standing)
        wanted = with_aliases(compiled, self._aliases())
        changes = route_changes(standing, wanted)
        removals = ((name, Delete(keyspace.route(name))) for name in changes.removed)
        puts = ((r.name, Put(keyspace.route(r.name), records.route_value(r))) for r in changes.put)
        for batch in batches(self._storable([*removals, *puts]), _size):
            compares = [self._leadership.guard, *(self._unchanged(name) for name, _ in batch)]
            done = await self._store.transact(compares, [operation for _, operation in batch])
            if not done.succeeded:
                # Somebody wrote a route beside us, or our picture is behind: look again.
                await self._leadership.check()
                await self._mirror.caught_up(done.revision)
                self._wake.set()
                return
            log.debug("routes.written", revision=done.revision, epoch=self._leadership.epoch)
            await self._mirror.caught_up(done.revision)

    def _storable(self, found: Iterable[_Change]) -> Iterator[_Change]:
        """Without a route that no transaction holds: the one that stands goes on, and so do all others."""
        for change in found:
            name, size = change[0], _size(change)
            if size <= MOST_BYTES:
                self._too_large.pop(name, None)
                yield change
            elif size != self._too_large.get(name):
                self._too_large[name] = size
                log.error("route.too_large", model=name, bytes=size)

    def _unchanged(self, name: ModelName) -> Compare:
        route = self._table.history.models.get(name)
        return modified(keyspace.route(name), route.revision if route is not None else 0)

    def _facts(self) -> Iterator[NodeFacts]:
        now_s = self._unix_s()
        inventories = self._mirror.below(keyspace.INVENTORIES)
        self._inventories = {k: v for k, v in self._inventories.items() if k in inventories}
        for name, kv in self._mirror.below(keyspace.NODES).items():
            if name not in inventories:
                continue
            record = records.parse(records.Node, kv.value)
            current, inventory = self._inventory(name)
            yield NodeFacts(
                NodeId(name),
                inventory,
                routable=current and not record.gone,
                cordoned=record.cordoned,
                forgotten=record.gone and now_s - record.gone_at_s >= self._forget_models_s,
            )

    def _wanted(self) -> dict[ModelName, Wanted]:
        found = {
            ModelName(name): records.parse(records.Model, kv.value)
            for name, kv in self._mirror.below(keyspace.MODELS).items()
        }
        return {
            name: Wanted(one.strategy, tuple(one.fallbacks), one.context_protection)
            for name, one in found.items()
        }

    def _aliases(self) -> dict[str, ModelName]:
        return {
            name: ModelName(records.parse(records.Alias, kv.value).model)
            for name, kv in self._mirror.below(keyspace.ALIASES).items()
        }

    def _inventory(self, node: str) -> tuple[bool, Inventory]:
        """Whether it is of the node's present life, and what it says; decoded once."""
        kv = self._mirror.below(keyspace.INVENTORIES)[node]
        known = self._inventories.get(node)
        if known is None or known[0] != kv.mod_revision:
            record = records.parse(records.Inventory, kv.value)
            known = (kv.mod_revision, record.session != 0, records.inventory_of(record))
            self._inventories[node] = known
        return known[1], known[2]


def _size(change: _Change) -> int:
    _, operation = change
    return len(operation.value) if isinstance(operation, Put) else 0
