"""Sessions of nodes: who is connected, under which revision, and what it said (PROTOCOL section 2)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import structlog

from controlplane.core.membership import Holder, MembershipPolicy, Sighting, is_silent, may_connect
from controlplane.services import keyspace
from controlplane.services.hearsay import Hearsay
from controlplane.services.messages import Hello, Refusal
from controlplane.services.mirror import Mirror
from controlplane.services.outbox import Outbox
from controlplane.store.port import (
    Compare,
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
    NotFoundError,
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


@dataclass(frozen=True, slots=True)
class _Found:
    """What stood in the store before a Connect."""

    node: KeyValue
    member: KeyValue | None
    inventory: KeyValue | None


class Sessions:
    """Begins, keeps and ends them. One per instance."""

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        clock: Clock,
        policy: MembershipPolicy,
        hearsay: Hearsay,
        *,
        instance: InstanceId,
        unix_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._policy = policy
        self._hearsay = hearsay
        self._instance = instance
        self._unix_s = unix_s
        self._sessions: dict[NodeId, Session] = {}
        self._sightings: dict[NodeId, Sighting] = {}
        self._subscribers: list[Callable[[NodeId], None]] = []

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
        for node, sighting in self._sightings.items():
            self._sightings[node] = replace(sighting, heard_s=sighting.heard_s + gap_s)

    async def connect(self, hello: Hello) -> Session:
        """Make the stream that said ``hello`` the node's session; an older one of the same node ends.

        Raises:
            AlreadyExistsError: Another live process has this node's id.
            NotFoundError: The node is not enrolled.
            SwarmError: The store is out of reach, or others kept changing the node.
        """
        if not hello.incarnation:
            raise InvalidRequestError("Hello needs an incarnation")
        for _ in range(_TRIES):
            found = await self._found(hello.node)
            record = records.parse(records.Node, found.node.value)
            self._check_single(hello, record.name, found.member)
            lease = await self._store.grant(self._policy.lease_ttl_s)
            compares, then = self._claim(hello, record, found, lease)
            done = False
            try:
                result = await self._store.transact(compares, then)
                done = result.succeeded
            finally:
                if not done:
                    await self._revoke(lease)
            if done:
                await self._revoke(found.member.lease if found.member is not None else 0)
                return self._began(hello, record.name, result.revision, lease)
        raise ConflictError("others kept changing this node's record; connect again")

    async def _found(self, node: NodeId) -> _Found:
        kv = await self._store.get(keyspace.node(node))
        if kv is None:
            raise NotFoundError("this node is not enrolled in the swarm; join again with a token")
        return _Found(
            kv, await self._store.get(keyspace.member(node)), await self._store.get(keyspace.inventory(node))
        )

    def _check_single(self, hello: Hello, name: str, member: KeyValue | None) -> None:
        holder = None
        if member is not None:
            record = records.parse(records.Member, member.value)
            holder = Holder(record.incarnation, InstanceId(record.instance_id))
        silent = self._silent(hello.node, holder)
        live = {InstanceId(name) for name in self._mirror.below(keyspace.INSTANCES)} | {self._instance}
        if not may_connect(holder, hello.incarnation, own=self._instance, live=live, silent=silent):
            log.warning("node.refused_second_process", node=hello.node, name=name)
            raise AlreadyExistsError(
                f"another live process runs as node {name!r} ({hello.node}): a copied data directory or a "
                "cloned machine; stop one of them, or join this host anew with a data directory of its own",
                node=hello.node,
            )

    def _silent(self, node: NodeId, holder: Holder | None) -> bool | None:
        """Whether ``holder`` of the node's session is silent; None where nobody says."""
        if holder is not None and holder.instance != self._instance:
            return self._hearsay.suspected(holder.instance, node) or None
        sighting = self._sightings.get(node)
        return None if sighting is None else is_silent(sighting, self._clock.now_s(), self._policy)

    def _claim(
        self, hello: Hello, record: records.Node, found: _Found, lease: int
    ) -> tuple[list[Compare], list[Operation]]:
        node_key, member_key = keyspace.node(hello.node), keyspace.member(hello.node)
        compares = [
            modified(node_key, found.node.mod_revision),
            modified(member_key, found.member.mod_revision if found.member is not None else 0),
        ]
        member = records.Member(
            incarnation=hello.incarnation,
            instance_id=self._instance,
            peer_addresses=hello.peer_addresses,
            software_version=hello.software_version,
            platform=hello.platform,
            features=sorted(hello.features),
            client_url=hello.client_url,
        )
        then: list[Operation] = [Put(member_key, member.SerializeToString(), lease)]
        new_life = record.incarnation != hello.incarnation
        if new_life and found.inventory is not None:
            # What an earlier life had is known by name, but nothing of it is routable until this one says so.
            old = records.parse(records.Inventory, found.inventory.value)
            old.session = 0
            key = keyspace.inventory(hello.node)
            compares.append(modified(key, found.inventory.mod_revision))
            then.append(Put(key, old.SerializeToString()))
        before = record.SerializeToString()
        record.incarnation = hello.incarnation
        record.gone = False
        record.peer_addresses[:] = hello.peer_addresses
        if record.SerializeToString() != before:
            then.append(Put(node_key, record.SerializeToString()))
        return compares, then

    def _began(self, hello: Hello, name: str, revision: int, lease: int) -> Session:
        session = Session(
            hello.node,
            name,
            revision,
            hello.incarnation,
            lease,
            hello.features,
            Outbox(hello.last_version),
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

    async def renew(self, session: Session) -> None:
        """A heartbeat came: the lease gets its full time again.

        Raises:
            StaleEpochError: The lease ended meanwhile; the node must connect again.
        """
        if not await self._store.keep_alive(session.lease):
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
        await self._revoke(session.lease)

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

    def _tell(self, node: NodeId) -> None:
        for act in self._subscribers:
            act(node)

    async def _revoke(self, lease: int) -> None:
        if lease:
            with contextlib.suppress(LeaseNotFoundError):
                await self._store.revoke(lease)
