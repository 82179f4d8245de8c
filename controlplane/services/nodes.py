"""Nodes as people see them, and what people do to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from controlplane.core.membership import Standing
from controlplane.core.reachability import Reachability
from controlplane.services import keyspace
from controlplane.services.callers import Caller
from controlplane.services.dedupe import Repeat
from controlplane.services.denials import denial
from controlplane.services.membership import Membership
from controlplane.services.mirror import Mirror
from controlplane.services.mutations import Committed, Mutation, Mutations
from controlplane.services.outbox import PushState
from controlplane.services.sessions import Sessions
from controlplane.store.port import Compare, Delete, KeyValue, Operation, Put, Store, modified
from swarmplane.codec import records
from swarmplane.credentials.names import instance_id
from swarmplane.errors import ConflictError, NotFoundError
from swarmplane.ids import NodeId, SubjectId, is_node_name
from swarmplane.inventory import Inventory
from swarmplane.operation import Operation as LongAct


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node with all that is known of it."""

    id: NodeId
    record: records.Node
    revision: int
    standing: Standing
    member: records.Member | None
    session: int
    inventory: Inventory
    push: PushState
    silent_s: float
    """-1: no stream here."""
    unreachable_reason: str


@dataclass(frozen=True, slots=True)
class NodePage:
    """Some nodes, ordered by id."""

    nodes: tuple[NodeFacts, ...]
    revision: int
    last: str
    """Key after which the next page begins; empty: nothing follows."""


class Nodes:
    """See the module."""

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        sessions: Sessions,
        membership: Membership,
        reachability: Reachability,
        mutations: Mutations,
        *,
        unix_s: Callable[[], float],
        beside: Callable[[], str] = str,
    ) -> None:
        """``beside`` names this instance, which is how the node on its host is called; empty: it is alone."""
        self._store = store
        self._mirror = mirror
        self._sessions = sessions
        self._membership = membership
        self._reachability = reachability
        self._mutations = mutations
        self._unix_s = unix_s
        self._beside = beside

    async def page(self, *, after: str, limit: int, revision: int) -> NodePage:
        """Nodes after the key ``after``, as of ``revision`` (0: now).

        Raises:
            CompactedError: ``revision`` is forgotten.
        """
        found = await self._store.range(keyspace.NODES, start_after=after, limit=limit, revision=revision)
        last = found.items[-1].key if found.more and found.items else ""
        return NodePage(tuple(map(self._facts, found.items)), found.revision, last)

    async def get(self, id_or_name: str) -> NodeFacts:
        """One node.

        Raises:
            NotFoundError: No node has this id or name.
        """
        return self._facts(await self._find(id_or_name))

    async def cordon(
        self,
        caller: Caller,
        id_or_name: str,
        *,
        cordoned: bool,
        expected_revision: int,
        repeat: Repeat,
        encode: Callable[[NodeFacts], bytes],
    ) -> Committed:
        """Let the node take no new requests, or let it again.

        Raises:
            NotFoundError: No node has this id or name.
            ForbiddenError: A node meddles with another one.
            ConflictError: The record is at another revision.
        """

        async def plan() -> Mutation:
            kv = await self._found_for(caller, id_or_name, expected_revision)
            record = records.parse(records.Node, kv.value)
            verb = "cordon" if cordoned else "uncordon"
            operations: tuple[Operation, ...] = ()
            if record.cordoned != cordoned:
                record.cordoned = cordoned
                operations = (Put(kv.key, record.SerializeToString()),)
            changed = KeyValue(kv.key, record.SerializeToString(), kv.create_revision, kv.mod_revision)
            return Mutation(
                (modified(kv.key, kv.mod_revision),),
                operations,
                f"node.{verb}",
                record.id,
                f"{verb}ed {record.name}",
                encode(self._facts(changed)),
                kv.mod_revision,
            )

        return await self._mutations.commit(caller.subject.id, plan, repeat)

    async def drain(
        self,
        caller: Caller,
        id_or_name: str,
        *,
        expected_revision: int,
        repeat: Repeat,
        prepare: Callable[[NodeId], LongAct],
        kept: Callable[[LongAct], Awaitable[Put]],
        encode: Callable[[LongAct], bytes],
    ) -> Committed:
        """Cordon the node, and write the operation that ``prepare`` makes for it as ``kept`` says.

        Raises:
            NotFoundError: No node has this id or name.
            ForbiddenError: A node meddles with another one.
            ConflictError: The record is at another revision.
        """

        async def plan() -> Mutation:
            kv = await self._found_for(caller, id_or_name, expected_revision)
            record = records.parse(records.Node, kv.value)
            act = prepare(NodeId(keyspace.name_below(keyspace.NODES, kv.key)))
            operations: list[Operation] = [await kept(act)]
            if not record.cordoned:
                record.cordoned = True
                operations.append(Put(kv.key, record.SerializeToString()))
            return Mutation(
                (modified(kv.key, kv.mod_revision),),
                tuple(operations),
                "node.drain",
                record.id,
                f"drains {record.name}",
                encode(act),
            )

        return await self._mutations.commit(caller.subject.id, plan, repeat)

    async def remove(
        self,
        caller: Caller,
        id_or_name: str,
        *,
        expected_revision: int,
        repeat: Repeat,
        encode: Callable[[NodeId], bytes],
    ) -> Committed:
        """Delete all that is known of a node, and refuse its certificate from now on.

        Raises:
            NotFoundError: No node has this id or name.
            ForbiddenError: A node meddles with another one.
            ConflictError: The record is at another revision.
        """

        async def plan() -> Mutation:
            kv = await self._found_for(caller, id_or_name, expected_revision)
            record = records.parse(records.Node, kv.value)
            node = NodeId(keyspace.name_below(keyspace.NODES, kv.key))
            compares: list[Compare] = [modified(kv.key, kv.mod_revision)]
            operations: list[Operation] = [
                Delete(kv.key),
                Delete(keyspace.member(node)),
                Delete(keyspace.inventory(node)),
                denial(SubjectId(node), f"{record.name} was removed", self._unix_s()),
            ]
            if self._beside() not in {"", node}:
                # The instance on its host goes with it. Our own is stopped by whoever stops this host.
                reason = f"its host {record.name} was removed"
                operations.append(denial(instance_id(node), reason, self._unix_s()))
            if is_node_name(record.name):
                operations.append(Delete(keyspace.node_name(record.name)))
            return Mutation(
                tuple(compares),
                tuple(operations),
                "node.remove",
                node,
                f"removed {record.name}",
                encode(node),
            )

        return await self._mutations.commit(caller.subject.id, plan, repeat)

    async def _found_for(self, caller: Caller, id_or_name: str, expected_revision: int) -> KeyValue:
        kv = await self._find(id_or_name)
        caller.check_acts_on(NodeId(keyspace.name_below(keyspace.NODES, kv.key)))
        if expected_revision and kv.mod_revision != expected_revision:
            raise ConflictError(
                f"the node is at revision {kv.mod_revision}, not {expected_revision}; read it again",
                revision=str(kv.mod_revision),
            )
        return kv

    async def _find(self, id_or_name: str) -> KeyValue:
        kv = await self._store.get(keyspace.node(NodeId(id_or_name)))
        if kv is None:
            claim = await self._store.get(keyspace.node_name(id_or_name))
            if claim is not None:
                holder = records.parse(records.Node, claim.value).id
                kv = await self._store.get(keyspace.node(NodeId(holder)))
        if kv is None:
            raise NotFoundError(f"no node has the id or name {id_or_name!r}; see swarmctl node list")
        return kv

    def _facts(self, kv: KeyValue) -> NodeFacts:
        record = records.parse(records.Node, kv.value)
        node = NodeId(keyspace.name_below(keyspace.NODES, kv.key))
        member = self._mirror.below(keyspace.MEMBERS).get(node)
        inventory = self._mirror.below(keyspace.INVENTORIES).get(node)
        session = self._sessions.open.get(node)
        return NodeFacts(
            node,
            record,
            kv.mod_revision,
            self._membership.standing(node, record),
            records.parse(records.Member, member.value) if member is not None else None,
            member.mod_revision if member is not None else 0,
            records.inventory_of(records.parse(records.Inventory, inventory.value))
            if inventory is not None
            else Inventory(),
            session.outbox.state if session is not None else PushState(),
            self._sessions.silent_s(node),
            self._reachability.unreachable_reason(node),
        )
