"""Sessions of nodes: who is connected, under which revision, and what it said (PROTOCOL section 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import structlog

from controlplane.core.membership import (
    Holder,
    MembershipPolicy,
    Sighting,
    excused,
    is_silent,
    may_connect,
)
from controlplane.services import keyspace
from controlplane.services.claiming import Found, claim, found_in, keys, pictured
from controlplane.services.hearsay import Hearsay
from controlplane.services.messages import Hello, Refusal
from controlplane.services.mirror import Mirror, Turn
from controlplane.services.node_lease import NodeLease
from controlplane.services.outbox import Outbox
from controlplane.store.port import (
    Delete,
    KeyValue,
    LeaseNotFoundError,
    Operation,
    Put,
    Store,
    modified,
)
from swarmplane.clock import Clock
from swarmplane.codec import records
from swarmplane.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidRequestError,
    StaleEpochError,
)
from swarmplane.ids import InstanceId, ModelName, NodeId

log = structlog.get_logger(__name__)

_TRIES: Final = 8
MAX_INVENTORY_BYTES: Final = 1024 * 1024


@dataclass(eq=False, slots=True)
class Session:
    """A node's present stream at this instance."""

    node: NodeId
    name: str
    revision: int
    """The session's number: revision of the write that began it."""
    incarnation: str
    lease: int
    """Under which its membership stands; 0: it has ended."""
    features: frozenset[str]
    outbox: Outbox
    left: bool = False
    """Whether it said Goodbye, or was told to go elsewhere: its end is no sign of trouble."""
    drained: bool = False
    """Whether it was told to take nothing new: its end is no sign of trouble either."""
    inventory: bytes | None = None
    """As it was stored last."""
    uses: frozenset[ModelName] | None = None
    """Models that its clients asked for lately; None: it does not say."""


class Sessions:
    """Begins, keeps and ends them. One per instance."""

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        clock: Clock,
        policy: MembershipPolicy,
        hearsay: Hearsay,
        lease: NodeLease,
        *,
        instance: InstanceId,
        unix_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._policy = policy
        self._hearsay = hearsay
        self._lease = lease
        self._instance = instance
        self._unix_s = unix_s
        self._sessions: dict[NodeId, Session] = {}
        self._sightings: dict[NodeId, Sighting] = {}
        self._subscribers: list[Callable[[NodeId], None]] = []
        mirror.subscribe(self._turn)

    @property
    def open(self) -> Mapping[NodeId, Session]:
        """Streams held here; a view that changes."""
        return MappingProxyType(self._sessions)

    def subscribe(self, act: Callable[[NodeId], None]) -> None:
        """Call ``act`` when a node came, left, broke off or was heard again after a silence."""
        self._subscribers.append(act)

    def sighting(self, node: NodeId) -> Sighting | None:
        """What was seen of ``node`` here; None if it never had a stream here."""
        return self._sightings.get(node)

    def silent_s(self, node: NodeId) -> float:
        """Seconds since its last message; -1 without a stream here."""
        if node not in self._sessions:
            return -1.0
        return max(0.0, self._clock.now_s() - self._sightings[node].heard_s)

    def excuse(self, gap_s: float) -> None:
        """This process stood still for ``gap_s``: nobody could be heard meanwhile."""
        now_s = self._clock.now_s()
        for node, sighting in self._sightings.items():
            self._sightings[node] = excused(sighting, gap_s, now_s, self._policy)

    async def connect(self, hello: Hello) -> Session:
        """Make the stream that said ``hello`` the node's session; an older one of the same node ends.

        Raises:
            AlreadyExistsError: Another live process has this node's id.
            NotFoundError: The node is not enrolled.
            UnauthenticatedError: It was removed.
            SwarmError: The store is out of reach, or others kept changing the node.
        """
        if not hello.incarnation:
            raise InvalidRequestError("Hello needs an incarnation")
        shown = pictured(self._mirror, hello.node)
        found = shown or await self._found(hello.node)
        for _ in range(_TRIES):
            name = records.parse(records.Node, found.node.value).name
            if not self._may_connect(hello, found.member):
                if found is shown:
                    # The picture may be late: only the store refuses.
                    found = await self._found(hello.node)
                    continue
                raise _second_process(hello.node, name)
            lease = await self._lease.held()
            compares, then = claim(hello, found, self._instance, lease)
            try:
                result = await self._store.transact(compares, then, otherwise=keys(hello.node))
            except LeaseNotFoundError:
                self._lease.ended(lease)
                continue
            if result.succeeded:
                return self._began(hello, name, result.revision, lease)
            found = found_in(hello.node, result.reads)
        raise ConflictError("others kept changing this node's record; connect again")

    async def _found(self, node: NodeId) -> Found:
        return found_in(node, [await self._store.get(key) for key in keys(node)])

    def _may_connect(self, hello: Hello, member: KeyValue | None) -> bool:
        holder = None
        if member is not None:
            record = records.parse(records.Member, member.value)
            holder = Holder(record.incarnation, InstanceId(record.instance_id))
        silent = self._silent(hello.node, holder)
        live = {InstanceId(name) for name in self._mirror.below(keyspace.INSTANCES)} | {self._instance}
        return may_connect(holder, hello.incarnation, own=self._instance, live=live, silent=silent)

    def _silent(self, node: NodeId, holder: Holder | None) -> bool | None:
        """Whether ``holder`` of the node's session is silent; None where nobody says."""
        if holder is not None and holder.instance != self._instance:
            return self._hearsay.suspected(holder.instance, node) or None
        sighting = self._sightings.get(node)
        return None if sighting is None else is_silent(sighting, self._clock.now_s(), self._policy)

    def _began(self, hello: Hello, name: str, revision: int, lease: int) -> Session:
        session = Session(
            hello.node,
            name,
            revision,
            hello.incarnation,
            lease,
            hello.features,
            Outbox(hello.last_version),
            inventory=hello.inventory,
        )
        old = self._sessions.pop(hello.node, None)
        if old is not None:
            old.outbox.end(Refusal("stale_epoch", "this node connected again; its newer stream counts"))
        self._sessions[hello.node] = session
        self._sightings[hello.node] = Sighting(self._clock.now_s())
        log.info("node.connected", node=hello.node, name=name, session=revision)
        self._tell(hello.node)
        return session

    def heard(self, session: Session) -> None:
        """Any message of it came.

        Raises:
            StaleEpochError: A newer stream is the node's session.
        """
        if self._sessions.get(session.node) is not session:
            raise StaleEpochError("this stream is no longer the node's session")
        before = self._sightings[session.node]
        now_s = self._clock.now_s()
        self._sightings[session.node] = Sighting(now_s)
        if is_silent(before, now_s, self._policy):
            self._tell(session.node)

    def beat(self, session: Session) -> None:
        """A heartbeat came.

        Raises:
            StaleEpochError: The node's membership ended meanwhile; it must connect again.
        """
        if not self._lease.lives(session.lease):
            raise StaleEpochError("the node's lease ended before this heartbeat; connect again")

    async def take_inventory(self, session: Session, inventory: bytes) -> None:
        """Keep what the node says it has, as it was sent.

        Raises:
            StaleEpochError: A newer session exists.
            InvalidRequestError: It is too large.
        """
        if inventory == session.inventory:
            return
        if len(inventory) > MAX_INVENTORY_BYTES:
            raise InvalidRequestError(f"an inventory has at most {MAX_INVENTORY_BYTES} bytes")
        record = records.Inventory(session=session.revision, inventory=inventory)
        done = await self._store.transact(
            [modified(keyspace.member(session.node), session.revision)],
            [Put(keyspace.inventory(session.node), record.SerializeToString())],
        )
        if not done.succeeded:
            raise StaleEpochError("this stream is no longer the node's session")
        session.inventory = inventory

    async def leave(self, session: Session, reason: str) -> None:
        """The node stops on purpose: its endpoints leave at once, and nobody suspects it."""
        session.left = True
        log.info("node.left", node=session.node, name=session.name, reason=reason)
        key = keyspace.node(session.node)
        for _ in range(_TRIES):
            kv = await self._store.get(key)
            compares = [modified(keyspace.member(session.node), session.revision)]
            then: list[Operation] = [Delete(keyspace.member(session.node))]
            if kv is not None:
                record = records.parse(records.Node, kv.value)
                record.gone, record.gone_session = True, session.revision
                record.gone_at_s = int(self._unix_s())
                compares.append(modified(key, kv.mod_revision))
                then.append(Put(key, record.SerializeToString()))
            done = await self._store.transact(compares, then, otherwise=[keyspace.member(session.node)])
            member = done.reads[0] if done.reads else None
            if done.succeeded or member is None or member.mod_revision != session.revision:
                break

    def ended(self, session: Session) -> None:
        """The stream is over. Without a farewell that is a reset: the node is suspected at once."""
        if self._sessions.get(session.node) is not session:
            return
        del self._sessions[session.node]
        if session.left or session.drained:
            self._sightings.pop(session.node, None)
        else:
            seen = self._sightings[session.node]
            self._sightings[session.node] = replace(seen, reset=True)
            log.info("node.stream_broke", node=session.node, name=session.name)
        self._tell(session.node)

    def moved(self, node: NodeId, member: KeyValue) -> None:
        """The session of ``node`` is ``member`` now; if that is elsewhere, what was seen here is void."""
        if node not in self._sightings or node in self._sessions:
            return
        if records.parse(records.Member, member.value).instance_id != self._instance:
            del self._sightings[node]

    def forget(self, node: NodeId) -> None:
        """The node was removed from the swarm."""
        session = self._sessions.pop(node, None)
        if session is not None:
            session.outbox.end()
        self._sightings.pop(node, None)

    def _turn(self, turn: Turn) -> None:
        for change in turn.changes:
            if change.prefix != keyspace.MEMBERS or change.after is not None or change.before is None:
                continue
            session = self._sessions.get(NodeId(change.name))
            if session is not None and session.revision == change.before.mod_revision:
                # Its next heartbeat is told so.
                session.lease = 0

    def _tell(self, node: NodeId) -> None:
        for act in self._subscribers:
            act(node)


def _second_process(node: NodeId, name: str) -> AlreadyExistsError:
    log.warning("node.refused_second_process", node=node, name=name)
    return AlreadyExistsError(
        f"another live process runs as node {name!r} ({node}): a copied data directory or a "
        "cloned machine; stop one of them, or join this host anew with a data directory of its own",
        node=node,
    )
