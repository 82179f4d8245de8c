"""Drains of nodes: no new requests from now on, and an operation that ends when the running ones have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from controlplane.services.callers import Caller
from controlplane.services.dedupe import Repeat
from controlplane.services.mutations import Committed
from controlplane.services.nodes import Nodes
from controlplane.services.operations import Operations
from swarmplane.clock import Clock
from swarmplane.errors import Code, NotFoundError, SwarmError
from swarmplane.ids import NodeId
from swarmplane.operation import Operation

log = structlog.get_logger(__name__)

KIND: Final = "drain"
LOOK_S: Final = 0.25
SETTLE_S: Final = 1.5
"""Not done before: neighbours hear of it first, and what they sent until then is counted by then."""
MOST_S: Final = 3600.0
"""A drain that takes longer has failed; the node stays cordoned and its requests go on."""
_RUNNING: Final = "running"

InFlight = Callable[[NodeId], int | None]
"""Requests that a node's endpoints serve or hold queued now; None: it has no stream here."""


class Drains:
    """Begins drains, and follows those that run. :meth:`run` must be running.

    The instance that was asked follows; after a restart it follows again what still runs.
    """

    def __init__(self, nodes: Nodes, operations: Operations, in_flight: InFlight, clock: Clock) -> None:
        self._nodes = nodes
        self._operations = operations
        self._in_flight = in_flight
        self._clock = clock
        self._begun: asyncio.Queue[Operation] = asyncio.Queue()

    async def begin(
        self,
        caller: Caller,
        id_or_name: str,
        *,
        expected_revision: int,
        repeat: Repeat,
        encode: Callable[[Operation], bytes],
    ) -> Committed:
        """Cordon the node and begin the operation, in one transaction.

        Raises:
            NotFoundError: No node has this id or name.
            ForbiddenError: A node meddles with another one.
            ConflictError: The record is at another revision.
        """
        prepared: list[Operation] = []

        def prepare(node: NodeId) -> Operation:
            if not prepared:
                prepared.append(self._operations.new(KIND, node))
            return prepared[0]

        committed = await self._nodes.drain(
            caller,
            id_or_name,
            expected_revision=expected_revision,
            repeat=repeat,
            prepare=prepare,
            kept=self._operations.kept,
            encode=encode,
        )
        if prepared:
            self._begun.put_nowait(prepared[0])
        return committed

    async def run(self) -> None:
        """Follow drains until cancelled."""
        async with asyncio.TaskGroup() as group:
            for operation in await self._unfinished():
                group.create_task(self._follow(operation), name="drain")
            while True:
                operation = await self._begun.get()
                group.create_task(self._follow(operation), name="drain")

    async def _unfinished(self) -> list[Operation]:
        while True:
            try:
                page = await self._operations.page(before="", limit=1_000, revision=0)
            except SwarmError as error:
                log.warning("drains.not_read", reason=error.message)
                await self._clock.sleep(1.0)
            else:
                return [one for one in page.operations if one.kind == KIND and one.state == _RUNNING]

    async def _follow(self, operation: Operation) -> None:
        node = NodeId(operation.subject)
        begun_s, most, told = self._clock.now_s(), 0, -1
        while True:
            await self._clock.sleep(LOOK_S)
            left, age_s = self._in_flight(node), self._clock.now_s() - begun_s
            most = max(most, left or 0)
            now = _standing(operation, left, most, age_s)
            if now.state == _RUNNING and left == told:
                continue
            try:
                now = await self._operations.update(now)
            except NotFoundError:
                return
            except SwarmError as error:
                log.warning("drain.not_written", node=node, reason=error.message)
                continue
            told = -1 if left is None else left
            if now.state != _RUNNING:
                log.info("node.drain_ended", node=node, state=now.state, left=left)
                return


def _standing(operation: Operation, left: int | None, most: int, age_s: float) -> Operation:
    """The operation as it stands after ``age_s`` with ``left`` requests of at ``most`` so many. Pure."""
    if age_s >= SETTLE_S and not left:
        message = "no request is left" if left == 0 else "the node is not connected here"
        return replace(operation, state="done", progress=1.0, message=message)
    count = f"{left or 0} request{'' if left == 1 else 's'} left"
    if age_s >= MOST_S:
        message = f"{count} after {MOST_S:g} s; the node stays cordoned and they go on"
        return replace(operation, state="failed", code=Code.UNAVAILABLE.slug, message=message)
    progress = 1.0 - (left or 0) / most if most else 0.0
    return replace(operation, progress=round(progress, 3), message=count)
