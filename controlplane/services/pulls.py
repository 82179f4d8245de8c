"""Models pulled because somebody asked for one that nobody has: by policy, and once in the swarm.

A pull is a key that whoever comes first creates; others see that it is there. The node is told with the
policy, so that it hears of it again after any interruption, and tells how it goes on its stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Final

import structlog

from controlplane.core.names import is_model_name
from controlplane.core.pulling import MOST_KEPT, MOST_RUNNING, Place, best_place, may_begin
from controlplane.services import keyspace
from controlplane.services.audit import audit_record
from controlplane.services.live_table import LiveTable
from controlplane.services.mirror import Mirror
from controlplane.services.operations import Operations
from controlplane.store.port import Delete, KeyValue, Operation, Put, Store, modified
from swarmplane import features
from swarmplane.clock import Clock
from swarmplane.codec import records
from swarmplane.errors import Code, SwarmError
from swarmplane.ids import NodeId, SubjectId
from swarmplane.operation import Operation as LongAct
from swarmplane.pulls import DONE, FAILED, RUNNING, PullReport

log = structlog.get_logger(__name__)

KIND: Final = "pull"
_WRITE_S: Final = 2.0
"""Between two writes of how a pull goes."""
_MOST_WAITING: Final = 256
_TEXT: Final = 256


class Pulls:
    """Takes wishes and reports at any time; :meth:`run` writes them."""

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        table: LiveTable,
        operations: Operations,
        clock: Clock,
        *,
        unix_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._table = table
        self._operations = operations
        self._clock = clock
        self._unix_s = unix_s
        self._wanted: dict[str, NodeId] = {}
        self._reports: dict[tuple[str, NodeId], PullReport] = {}
        self._written_s: dict[str, float] = {}
        self._wake = asyncio.Event()

    def wanted(self, node: NodeId, model: str) -> None:
        """A client of ``node`` asks for ``model``, which its sidecar does not know."""
        if len(self._wanted) < _MOST_WAITING:
            self._wanted[model] = node
            self._wake.set()

    def reported(self, node: NodeId, report: PullReport) -> None:
        """How ``node`` goes on with a pull."""
        if len(self._reports) < _MOST_WAITING:
            self._reports[(report.model, node)] = replace(report, reason=report.reason[:_TEXT])
            self._wake.set()

    async def run(self) -> None:
        """Act on wishes and reports until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            wanted, self._wanted = self._wanted, {}
            for model, node in wanted.items():
                await self._try(model, self._begin(model, node))
            reports, self._reports = self._reports, {}
            for (model, node), report in reports.items():
                await self._try(model, self._write(node, report))

    async def _try(self, model: str, act: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(_WRITE_S * 5):
                await act
        except (SwarmError, TimeoutError) as error:
            # Whoever waits asks again, and a node reports again.
            log.warning("pull.not_written", model=model, reason=str(error))

    async def _begin(self, model: str, asker: NodeId) -> None:
        allowed = self._table.policy.fallbacks.pulls(model) and is_model_name(model)
        if not allowed or self._table.history.snapshot().find(model) is not None:
            return
        pulls = self._mirror.below(keyspace.PULLS)
        kv = pulls.get(model)
        now_s, operation_id = self._unix_s(), ""
        if kv is not None:
            before = read_pull(kv)
            operation_id = before.operation_id if before.state == RUNNING else ""
            there = before.node_id in self._mirror.below(keyspace.MEMBERS)
            if not may_begin(before.state, now_s - before.at_s, there=there):
                return
        running = self.running()
        place = best_place(self.places(running))
        if place is None or len(running) >= MOST_RUNNING:
            log.warning("pull.refused", model=model, reason="no node can pull it now")
            return
        node, backend = place
        pull = records.Pull(
            node_id=node, backend=backend, state=RUNNING, at_s=int(now_s), operation_id=operation_id
        )
        key = keyspace.pull(model)
        done = await self._store.transact(
            [modified(key, kv.mod_revision if kv is not None else 0)],
            [
                Put(key, pull.SerializeToString()),
                *self.surplus(model),
                audit_record(now_s, SubjectId(asker), "model.pull", model, f"{node} pulls {model}"),
            ],
        )
        if done.succeeded:
            log.info("pull.begun", model=model, node=node)
        await self._mirror.caught_up(done.revision)

    @property
    def now_s(self) -> int:
        """Unix seconds, as records have them."""
        return int(self._unix_s())

    async def kept(self, model: str) -> KeyValue | None:
        """What the store says of its pull now."""
        return await self._store.get(keyspace.pull(model))

    def goes_on(self, pull: records.Pull) -> bool:
        """Whether it runs, and its node is there and was heard lately."""
        there = pull.node_id in self._mirror.below(keyspace.MEMBERS)
        return pull.state == RUNNING and not may_begin(pull.state, self.now_s - pull.at_s, there=there)

    def running(self) -> list[records.Pull]:
        """Those that are not over."""
        pulls = map(read_pull, self._mirror.below(keyspace.PULLS).values())
        return [pull for pull in pulls if pull.state == RUNNING]

    def name_of(self, node: str) -> str:
        """What the node with this id is called."""
        kv = self._mirror.below(keyspace.NODES).get(node)
        return (records.parse(records.Node, kv.value).name if kv is not None else "") or node

    def surplus(self, model: str) -> Iterator[Operation]:
        """What makes room for one more."""
        pulls = {
            name: read_pull(kv) for name, kv in self._mirror.below(keyspace.PULLS).items() if name != model
        }
        ended = sorted((pull.at_s, name) for name, pull in pulls.items() if pull.state != RUNNING)
        for _, name in ended[: max(0, len(pulls) + 1 - MOST_KEPT)]:
            yield Delete(keyspace.pull(name))

    def places(self, running: list[records.Pull]) -> Iterator[Place]:
        """Nodes that could pull, beside what is ``running``."""
        members = self._mirror.below(keyspace.MEMBERS)
        nodes = self._mirror.below(keyspace.NODES)
        for name, kv in self._mirror.below(keyspace.INVENTORIES).items():
            member, node = members.get(name), nodes.get(name)
            if member is None or node is None:
                continue
            understands = features.PULL in records.parse(records.Member, member.value).features
            record = records.parse(records.Node, node.value)
            if understands and not record.gone and not record.cordoned:
                inventory = records.inventory_of(records.parse(records.Inventory, kv.value))
                yield Place(NodeId(name), inventory, sum(pull.node_id == name for pull in running))

    async def _write(self, node: NodeId, report: PullReport) -> None:
        key = keyspace.pull(report.model)
        kv = self._mirror.below(keyspace.PULLS).get(report.model)
        if kv is None:
            return
        pull = read_pull(kv)
        now_s = self._clock.now_s()
        ended = report.state != RUNNING
        if pull.node_id != node or pull.state != RUNNING:
            return
        if not ended and now_s - self._written_s.get(report.model, 0.0) < _WRITE_S:
            return
        self._written_s[report.model] = now_s
        pull.state, pull.eta_s, pull.reason = report.state, report.eta_s, report.reason
        pull.completed_bytes, pull.total_bytes = report.completed_bytes, report.total_bytes
        pull.at_s = int(self._unix_s())
        if ended:
            del self._written_s[report.model]
        done = await self._store.transact(
            [modified(key, kv.mod_revision)], [Put(key, pull.SerializeToString())]
        )
        if done.succeeded and pull.operation_id:
            now = await self._operations.update(_standing(report.model, pull, self.name_of(node)))
            if now.state == "cancelled" and not ended:
                await self._store.transact([modified(key, done.revision)], [Delete(key)])
        await self._mirror.caught_up(done.revision)


def read_pull(kv: KeyValue) -> records.Pull:
    """What ``pulls/<model>`` says."""
    return records.parse(records.Pull, kv.value)


def _standing(model: str, pull: records.Pull, node: str) -> LongAct:
    """The operation of who ordered it."""
    act = LongAct(pull.operation_id, KIND, model, pull.state, eta_s=pull.eta_s)
    if pull.state == DONE:
        return replace(act, progress=1.0, message=f"{node} has pulled {model}")
    if pull.state == FAILED:
        code, message = Code.UPSTREAM_FAILED.slug, f"{node} could not pull {model}: {pull.reason}"
        return replace(act, code=code, message=message)
    progress = pull.completed_bytes / pull.total_bytes if pull.total_bytes else 0.0
    done = f", {progress:.0%}".replace("%", " %") if pull.total_bytes else ""
    return replace(act, progress=round(min(progress, 1.0), 3), message=f"{node} pulls {model}{done}")
