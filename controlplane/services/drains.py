"""Drains of nodes: no new requests from now on, and an operation that ends when the running ones have."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import structlog

from controlplane.services import keyspace
from controlplane.services.callers import Caller
from controlplane.services.dedupe import Repeat
from controlplane.services.leadership import Leadership
from controlplane.services.mirror import Mirror, Turn
from controlplane.services.mutations import Committed
from controlplane.services.nodes import Nodes
from controlplane.services.operations import Operations
from controlplane.services.push import UNKNOWN
from swarmplane.clock import Clock
from swarmplane.codec.operations import operation_of
from swarmplane.errors import Code, NotFoundError, StaleEpochError, SwarmError
from swarmplane.ids import NodeId
from swarmplane.operation import Operation

log = structlog.get_logger(__name__)

KIND: Final = "drain"
LOOK_S: Final = 0.25
_LOOK_ANEW_S: Final = 60.0
SETTLE_S: Final = 1.5
"""Not done before: neighbours hear of it first, and what they sent until then is counted by then."""
MOST_S: Final = 3600.0
"""A drain that takes longer has failed; the node stays cordoned and its requests go on."""
_RUNNING: Final = "running"
_NOT_TOLD: Final = "the node's instance does not tell what it carries"

InFlight = Callable[[NodeId], int | None]
"""Requests that a node's endpoints serve or hold queued now; ``UNKNOWN`` while the instance that holds its
stream does not tell; None: it is connected nowhere."""


class Drains:
    """Begins drains, and follows those that run. :meth:`run` must be running.

    Any instance begins one; the controller follows it, and whoever is elected next goes on.
    """

    def __init__(
        self,
        nodes: Nodes,
        operations: Operations,
        in_flight: InFlight,
        clock: Clock,
        mirror: Mirror,
        leadership: Leadership,
    ) -> None:
        self._nodes = nodes
        self._operations = operations
        self._in_flight = in_flight
        self._clock = clock
        self._mirror = mirror
        self._leadership = leadership
        self._followed: set[str] = set()
        self._wake = asyncio.Event()
        mirror.subscribe(self._turn)
        leadership.subscribe(self._wake.set)

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

        return await self._nodes.drain(
            caller,
            id_or_name,
            expected_revision=expected_revision,
            repeat=repeat,
            prepare=prepare,
            kept=self._operations.kept,
            encode=encode,
        )

    async def run(self) -> None:
        """Follow drains until cancelled, as long as this instance leads."""
        await self._mirror.loaded.wait()
        self._wake.set()
        async with asyncio.TaskGroup() as group:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_ANEW_S):
                        await self._wake.wait()
                self._wake.clear()
                if not self._leadership.leading:
                    continue
                for operation in self._running():
                    if operation.id not in self._followed:
                        self._followed.add(operation.id)
                        group.create_task(self._follow(operation), name="drain")

    def _turn(self, turn: Turn) -> None:
        if turn.loading or any(change.prefix == keyspace.OPERATIONS for change in turn.changes):
            self._wake.set()

    def _running(self) -> Iterator[Operation]:
        for kv in self._mirror.below(keyspace.OPERATIONS).values():
            operation = operation_of(kv.value, kv.mod_revision)
            if operation.kind == KIND and operation.state == _RUNNING:
                yield operation

    async def _follow(self, operation: Operation) -> None:
        try:
            await self._followed_to_its_end(operation)
        except StaleEpochError:
            log.info("drain.left_to_the_next_controller", node=operation.subject)
        finally:
            self._followed.discard(operation.id)

    async def _followed_to_its_end(self, operation: Operation) -> None:
        """Look until it ended.

        Raises:
            StaleEpochError: This instance leads no longer.
        """
        node = NodeId(operation.subject)
        begun_s, most, told = self._clock.now_s(), 0, -2
        while True:
            await self._clock.sleep(LOOK_S)
            guard = self._leadership.guard
            left, age_s = self._in_flight(node), self._clock.now_s() - begun_s
            most = max(most, left or 0)
            now = _standing(operation, left, most, age_s)
            if now.state == _RUNNING and left == told:
                continue
            try:
                now = await self._operations.update(now, (guard,))
            except NotFoundError:
                return
            except SwarmError as error:
                log.warning("drain.not_written", node=node, reason=error.message)
                continue
            told = -2 if left is None else left
            if now.state != _RUNNING:
                log.info("node.drain_ended", node=node, state=now.state, left=left)
                return


def _standing(operation: Operation, left: int | None, most: int, age_s: float) -> Operation:
    """The operation as it stands after ``age_s`` with ``left`` requests of at ``most`` so many. Pure."""
    if age_s >= SETTLE_S and not left:
        message = "no request is left" if left == 0 else "the node is not connected"
        return replace(operation, state="done", progress=1.0, message=message)
    known = max(left or 0, 0)
    count = f"{known} request{'' if known == 1 else 's'} left" if left != UNKNOWN else _NOT_TOLD
    if age_s >= MOST_S:
        message = f"{count} after {MOST_S:g} s; the node stays cordoned and they go on"
        return replace(operation, state="failed", code=Code.UNAVAILABLE.slug, message=message)
    progress = 1.0 - known / most if most and left != UNKNOWN else operation.progress
    return replace(operation, progress=round(progress, 3), message=count)
