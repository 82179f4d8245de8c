"""What the control plane says, taken into use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from sidecar.control.answering import explanation
from sidecar.control.assembly import Assembly, with_policy
from sidecar.routing.current import CurrentRoutes
from swarmplane.clock import Clock
from swarmplane.codec.conditions import node_conditions_from_pb
from swarmplane.codec.load import load_entries_from_pb
from swarmplane.codec.prefixes import prefixes_from_pb
from swarmplane.codec.version import version_to_pb
from swarmplane.ids import NodeId
from swarmplane.routes import RouteTable, Version
from swarmplane.v1 import sidecar_pb2 as pb

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Keeping:
    """How tables reach the disk."""

    soon: Callable[[RouteTable], None]
    durably: Callable[[RouteTable], Awaitable[None]]
    """Raises OSError."""
    trouble: Callable[[], str]
    """Why what was kept is not on disk; empty: it is, or is being written."""


@dataclass(slots=True)
class Progress:
    """What was taken and what was refused. It outlives sessions."""

    acked: Version | None = None
    applied_s: float = 0.0
    """When a table was last taken or confirmed, on the process's clock."""
    nacked: Version | None = None
    nack_reason: str = ""
    owes: bool = False
    """What is in force could not be kept: a crash would lose who is denied, or whose key is revoked."""


class Inbox:
    """Applies messages to ``routes``; answers go to ``answer``. One per session.

    A bad update is refused whole and the last good table stays in use (xDS semantics).
    """

    def __init__(
        self,
        routes: CurrentRoutes,
        keeping: Keeping,
        progress: Progress,
        clock: Clock,
        answer: Callable[[pb.SidecarMessage], None],
    ) -> None:
        self._routes = routes
        self._keeping = keeping
        self._progress = progress
        self._clock = clock
        self._answer = answer
        self._assembly = Assembly()

    async def take(self, message: pb.ControlMessage) -> None:
        """Apply one message that is neither Welcome, Reject nor Redirect. Unknown ones are ignored."""
        match message.WhichOneof("kind"):
            case "route_update":
                await self._take_routes(message.route_update)
            case "policy_update":
                await self._take_policy(message.policy_update)
            case "load_digest":
                self._take_load(message.load_digest)
            case "suspicion":
                self._routes.set_suspects(frozenset(map(NodeId, message.suspicion.node_ids)))
            case "drain":
                self._routes.set_draining(draining=message.drain.draining)
            case "condition_digest":
                self._take_conditions(message.condition_digest)
            case "prefix_digest":
                for told in prefixes_from_pb(message.prefix_digest.endpoints):
                    self._routes.set_cached(told)
            case "explain_query":
                self._answer(pb.SidecarMessage(explanation=explanation(self._routes, message.explain_query)))
            case kind:
                log.debug("control.message_ignored", kind=kind)

    async def _take_routes(self, part: pb.RouteUpdate) -> None:
        if self._assembly.nonce != part.nonce:
            self._assembly = Assembly(part.nonce)
        try:
            await self._assembly.add(part)
            if part.more:
                return
            table = self._assembly.applied(self._routes.view.table, part)
            self._routes.install(table)
        except ValueError as error:
            self._refuse(part.nonce, part.version.generation, part.version.revision, str(error))
            return
        self._assembly = Assembly()
        self._keeping.soon(table)
        self._accept(part.nonce, table.version)

    async def _take_policy(self, update: pb.PolicyUpdate) -> None:
        before = self._routes.view.table
        table = with_policy(before, update)
        version = update.version
        if table != before or self._progress.owes:
            # In force at once; acknowledged when it would survive a crash.
            self._routes.install(table, stale=self._routes.view.stale)
            try:
                if self._progress.owes or table.denied != before.denied or table.keys != before.keys:
                    self._progress.owes = True
                    await self._keeping.durably(table)
                    self._progress.owes = False
                else:
                    self._keeping.soon(table)
            except OSError as error:
                reason = f"in force, but not on disk: {error.strerror}"
                self._refuse(update.nonce, version.generation, version.revision, reason)
                return
        self._accept(update.nonce, Version(version.generation, version.revision))

    def _take_load(self, digest: pb.LoadDigest) -> None:
        now_s = self._clock.now_s()
        for entry in load_entries_from_pb(digest.endpoints):
            self._routes.set_load(
                entry.endpoint,
                entry.in_flight_by_origin,
                entry.queued,
                entry.slots,
                received_s=now_s - entry.age_ms / 1000,
            )

    def _take_conditions(self, digest: pb.ConditionDigest) -> None:
        now_s = self._clock.now_s()
        for told in node_conditions_from_pb(digest.nodes):
            if told.node != self._routes.node_id:
                valid_s = told.condition.valid_s if told.condition is not None else 0.0
                self._routes.set_condition(told.node, told.condition, now_s + valid_s - told.age_ms / 1000)

    def _accept(self, nonce: int, version: Version) -> None:
        self._progress.acked = version
        self._progress.applied_s = self._clock.now_s()
        self._answer(pb.SidecarMessage(ack=pb.Ack(version=version_to_pb(version), nonce=nonce)))

    def _refuse(self, nonce: int, generation: int, revision: int, reason: str) -> None:
        self._assembly = Assembly()
        self._progress.nacked = Version(generation, revision)
        self._progress.nack_reason = reason
        in_use = self._routes.view.table.version
        log.warning(
            "control.update_refused", version=f"{generation}.{revision}", in_use=str(in_use), reason=reason
        )
        self._answer(
            pb.SidecarMessage(nack=pb.Nack(version=version_to_pb(in_use), nonce=nonce, reason=reason))
        )
