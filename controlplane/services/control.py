"""The control service of an instance: membership, routes and pushes, built once and run together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from controlplane.core.election import ElectionPolicy
from controlplane.core.membership import MembershipPolicy
from controlplane.core.reachability import Reachability
from controlplane.services import keyspace
from controlplane.services.admission import Admission
from controlplane.services.catalog import Catalog
from controlplane.services.doubts import Doubts
from controlplane.services.drains import Drains
from controlplane.services.elections import Elections
from controlplane.services.events import Events
from controlplane.services.exchange import Exchange
from controlplane.services.expiry import Expiry
from controlplane.services.hearsay import Hearsay
from controlplane.services.instances import InstanceFacts, Instances
from controlplane.services.keeping import Keeping
from controlplane.services.known import KnownStore
from controlplane.services.leadership import Leadership
from controlplane.services.live_table import LiveTable
from controlplane.services.measured_store import Durations
from controlplane.services.membership import Membership
from controlplane.services.messages import Hello, Redirection, Welcome
from controlplane.services.mirror import Mirror, Turn
from controlplane.services.mutations import Mutations
from controlplane.services.node_lease import NodeLease
from controlplane.services.nodes import Nodes
from controlplane.services.operations import Operations
from controlplane.services.pulls import Pulls
from controlplane.services.push import Pushes
from controlplane.services.routes import RouteController
from controlplane.services.sessions import Session, Sessions
from controlplane.store.port import DeletePrefix, Store
from swarmplane import features
from swarmplane.clock import Clock
from swarmplane.errors import UnavailableError
from swarmplane.ids import NodeId
from swarmplane.routes import Version
from swarmplane.settings.schema import Settings

log = structlog.get_logger(__name__)

_READY_S: Final = 5.0
_RETRY_S: Final = 0.5
_DRAIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class ControlPolicy:
    """Figures of the control service; see ``ControlSettings``."""

    membership: MembershipPolicy = field(default_factory=MembershipPolicy)
    election: ElectionPolicy = field(default_factory=ElectionPolicy)
    heartbeat_s: float = 2.0
    load_interval_s: float = 0.25
    debounce_s: float = 0.1
    forget_models_s: float = 86_400.0
    drain_s: float = 60.0

    @classmethod
    def of(cls, settings: Settings) -> ControlPolicy:
        """Out of the settings of a host."""
        control = settings.control
        return cls(
            membership=MembershipPolicy(control.suspect_s, control.lease_ttl_s, control.removal_hold_s),
            heartbeat_s=control.heartbeat_s,
            load_interval_s=control.load_interval_s,
            debounce_s=control.debounce_s,
            forget_models_s=control.forget_models_s,
            drain_s=settings.drain_s,
        )


class ControlService:
    """Everything about nodes, routes and events. :meth:`run` keeps it; servicers use its parts."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        policy: ControlPolicy,
        instance: InstanceFacts,
        mutations: Mutations,
        *,
        unix_s: Callable[[], float],
        mirror: Mirror | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._policy = policy
        self._instance = instance
        self.mirror = mirror = mirror or Mirror(store, clock)
        known = KnownStore(store, mirror, clock)
        self.table = LiveTable(mirror, instance.swarm)
        figures, own = policy.membership, instance.id
        self.leadership = Leadership(store, mirror, clock, policy.election, instance=own, unix_s=unix_s)
        hearsay, doubts = Hearsay(), Doubts(mirror, clock)
        self.admission = Admission(clock)
        """What whoever connects passes first."""
        self._lease = lease = NodeLease(store, clock, figures.instance_lease_s)
        self.sessions = Sessions(store, mirror, clock, figures, hearsay, lease, instance=own, unix_s=unix_s)
        self._expiry = Expiry(store, mirror, self.sessions, doubts, clock, figures, instance=own)
        heard = (self.sessions, self.leadership, hearsay, doubts)
        self.membership = Membership(store, mirror, *heard, clock, figures, instance=own, unix_s=unix_s)
        self.instances = Instances(store, mirror, clock, instance, figures.lease_ttl_s)
        routing = (mirror, self.table, self.leadership, clock, self._crowded)
        self._routes = RouteController(store, *routing, unix_s=unix_s, forget_models_s=policy.forget_models_s)
        self.pushes = self._pushes(hearsay)
        telling = (self.pushes, self.membership, self.sessions, mirror, hearsay, clock)
        self.exchange = Exchange(*telling, instance=own, interval_s=policy.load_interval_s)
        self.elections = Elections(known, mirror)
        self.reachability = Reachability()
        self.events = Events(store, mirror, self.membership)
        self.catalog = Catalog(known, mirror, self.table)
        self.operations = Operations(store, mutations, unix_s=unix_s)
        seen = (mirror, self.sessions, self.membership, self.reachability)
        beside = str if instance.alone else instance.called
        self.nodes = Nodes(known, *seen, mutations, unix_s=unix_s, beside=beside)
        acting = (self.nodes, self.operations, self.pushes.in_flight, clock, mirror, self.leadership)
        self.drains, self.pulls = Drains(*acting), self._pulls(unix_s)
        mirror.subscribe(self._turn)
        self._stopping = False
        self.nacks = 0
        """Updates that sidecars refused."""
        self.answered = Durations()
        """From the departure of tables to their acknowledgement."""

    def _crowded(self) -> bool:
        return self.admission.crowded

    def _pulls(self, unix_s: Callable[[], float]) -> Pulls:
        return Pulls(self._store, self.mirror, self.table, self.operations, self._clock, unix_s=unix_s)

    def _pushes(self, hearsay: Hearsay) -> Pushes:
        policy = self._policy
        return Pushes(
            self.mirror,
            self.table,
            self.sessions,
            self.membership,
            hearsay,
            self._clock,
            instances=self.instances.addresses,
            crowded=self._crowded,
            debounce_s=policy.debounce_s,
            load_interval_s=policy.load_interval_s,
            drain_s=policy.drain_s,
        )

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            ExceptionGroup: A part failed.
        """
        if self._instance.alone:
            # Whoever is listed is dead, and a dead controller's lease need not be waited for.
            dead = (keyspace.INSTANCES, keyspace.DOUBTS, keyspace.ELECTIONS)
            await self._store.transact((), [DeletePrefix(prefix) for prefix in dead])
        async with asyncio.TaskGroup() as group:
            for name, part in (
                ("instance", self.instances.run),
                ("mirror", self.mirror.run),
                ("election", self.leadership.run),
                ("node-lease", self._lease.run),
                ("expiry", self._expiry.run),
                ("membership", self.membership.run),
                ("routes", self._routes.run),
                ("pushes", self.pushes.run),
                ("drains", self.drains.run),
                ("pulls", self.pulls.run),
            ):
                group.create_task(part(), name=f"control-{name}")

    async def drain(self) -> None:
        """End all streams, and take no new ones: this instance stops, and nothing broke."""
        self._stopping = True
        await self.leadership.resign()
        others = self.instances.others()
        for session in tuple(self.sessions.open.values()):
            session.left = True
            redirected = bool(others) and features.REDIRECT in session.features
            session.outbox.end(Redirection(others) if redirected else None)
        await self.instances.withdraw()

    async def connect(self, hello: Hello) -> tuple[Session, Welcome]:
        """Make the stream that said ``hello`` its node's session.

        Raises:
            SwarmError: It may not be, or not now.
        """
        if self._stopping:
            raise UnavailableError("this instance stops; try another or later")
        try:
            async with asyncio.timeout(_READY_S):
                await self.mirror.loaded.wait()
                session = await self.sessions.connect(hello)
        except TimeoutError as error:
            raise UnavailableError("the store does not answer; try again") from error
        welcome = Welcome(
            session=session.revision,
            generation=self.mirror.generation,
            lease_ttl_s=self._policy.membership.lease_ttl_s,
            heartbeat_s=self._policy.heartbeat_s,
            load_interval_s=self._policy.load_interval_s,
            instance=self._instance.id,
            control_addresses=self.instances.addresses().control_addresses,
            node_name=session.name,
            features=hello.features & frozenset(features.ALL),
            swarm_name=self._instance.swarm_name,
            prefix_key=self._instance.prefix_key,
        )
        return session, welcome

    def keeping(self, session: Session) -> Keeping:
        """What writes for ``session`` as long as its stream lasts."""
        return Keeping(self.sessions, session, self._clock)

    def ended(self, session: Session) -> None:
        """The stream is over, in whatever way."""
        current = self.sessions.open.get(session.node) is session
        self.sessions.ended(session)
        if current:
            self.pushes.drop_load(session.node)
            self.reachability.drop(session.node)

    def forget(self, node: NodeId) -> None:
        """The node was removed from the swarm."""
        self.sessions.forget(node)
        self.pushes.drop_load(node)
        self.exchange.forget(node)
        self.reachability.forget(node)

    def _turn(self, turn: Turn) -> None:
        for change in turn.changes:
            if change.prefix == keyspace.NODES and change.after is None:
                # Whichever instance removed it.
                self.forget(NodeId(change.name))
            elif change.prefix == keyspace.MEMBERS and change.after is not None:
                self.sessions.moved(NodeId(change.name), change.after)

    def reported(self, reporter: NodeId, peer: NodeId, reason: str) -> None:
        """``reporter`` can't reach ``peer`` for ``reason``; empty: it can. Strangers are ignored."""
        if peer in self.table.history.nodes and peer != reporter:
            self.reachability.report(reporter, peer, reason)

    def refused(self, session: Session, reason: str) -> None:
        """A sidecar keeps its last good table."""
        self.nacks += 1
        log.warning("update.refused", node=session.node, name=session.name, reason=reason)

    def adopt(self, policy: ControlPolicy) -> None:
        """Go by what of ``policy`` may change while running. From any thread."""
        self._policy = replace(self._policy, heartbeat_s=policy.heartbeat_s, debounce_s=policy.debounce_s)
        self.pushes.gather_for(policy.debounce_s)

    def acknowledged(self, session: Session, version: Version, nonce: int) -> None:
        """A sidecar uses the table of ``version`` now, or took what else ``nonce`` stands for."""
        waiting = session.outbox.table_unanswered
        session.outbox.acked(version, nonce)
        if waiting is not None and session.outbox.table_unanswered is None:
            self.answered.record(self._clock.now_s() - waiting.sent_s)

    @property
    def leads(self) -> bool:
        """Whether this instance is the controller now."""
        return self.leadership.leading
