"""How a stream's node becomes a member: one transaction, from what memory shows, that checks all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controlplane.services import keyspace
from controlplane.services.messages import Hello
from controlplane.services.mirror import Mirror
from controlplane.store.port import Compare, KeyValue, Operation, Put, absent, modified
from swarmplane.codec import records
from swarmplane.errors import NotFoundError, UnauthenticatedError
from swarmplane.ids import InstanceId, NodeId, SubjectId

_OF_THE_CLAIM: Final = 1
"""Session of an inventory that is written with the claim, whose revision nobody knows before."""


@dataclass(frozen=True, slots=True)
class Found:
    """What stood in the store before a Connect."""

    node: KeyValue
    member: KeyValue | None
    inventory: KeyValue | None


def keys(node: NodeId) -> tuple[str, ...]:
    """What a claim depends on; :func:`found_in` takes what was read there."""
    return (
        keyspace.node(node),
        keyspace.member(node),
        keyspace.inventory(node),
        keyspace.denied(SubjectId(node)),
    )


def pictured(mirror: Mirror, node: NodeId) -> Found | None:
    """As ``mirror`` shows it, which may be late; None: it does not know the node, or knows it for denied."""
    kv = mirror.below(keyspace.NODES).get(node)
    if kv is None or node in mirror.below(keyspace.DENIALS):
        return None
    return Found(kv, mirror.below(keyspace.MEMBERS).get(node), mirror.below(keyspace.INVENTORIES).get(node))


def found_in(node: NodeId, reads: Sequence[KeyValue | None]) -> Found:
    """As it was read at :func:`keys`.

    Raises:
        NotFoundError: The node is not enrolled.
        UnauthenticatedError: It was removed.
    """
    kv, member, inventory, denied = reads
    if denied is not None:
        raise UnauthenticatedError(
            f"{node} was removed from this swarm; join again with a new token", subject=node
        )
    if kv is None:
        raise NotFoundError("this node is not enrolled in the swarm; join again with a token")
    return Found(kv, member, inventory)


def claim(
    hello: Hello, found: Found, instance: InstanceId, lease: int
) -> tuple[list[Compare], list[Operation]]:
    """What makes the stream that said ``hello`` the node's session, if all is still as it was ``found``."""
    node_key, member_key = keyspace.node(hello.node), keyspace.member(hello.node)
    compares = [
        modified(node_key, found.node.mod_revision),
        modified(member_key, found.member.mod_revision if found.member is not None else 0),
        absent(keyspace.denied(SubjectId(hello.node))),
    ]
    member = records.Member(
        incarnation=hello.incarnation,
        instance_id=instance,
        peer_addresses=hello.peer_addresses,
        software_version=hello.software_version,
        platform=hello.platform,
        features=sorted(hello.features),
        client_url=hello.client_url,
    )
    then: list[Operation] = [Put(member_key, member.SerializeToString(), lease)]
    record = records.parse(records.Node, found.node.value)
    inventory = _inventory(hello, found, new_life=record.incarnation != hello.incarnation)
    if inventory is not None:
        # Also where it stays: that is right only while it is what was found.
        key = keyspace.inventory(hello.node)
        compares.append(modified(key, found.inventory.mod_revision if found.inventory is not None else 0))
        if found.inventory is None or inventory != found.inventory.value:
            then.append(Put(key, inventory))
    before = record.SerializeToString()
    record.incarnation = hello.incarnation
    record.gone = False
    record.peer_addresses[:] = hello.peer_addresses
    if record.SerializeToString() != before:
        then.append(Put(node_key, record.SerializeToString()))
    return compares, then


def _inventory(hello: Hello, found: Found, *, new_life: bool) -> bytes | None:
    """What should stand as the node's inventory from now on; None: whatever does."""
    old = records.parse(records.Inventory, found.inventory.value) if found.inventory is not None else None
    if hello.inventory is not None:
        if old is not None and not new_life and old.session and old.inventory == hello.inventory:
            return old.SerializeToString()
        return records.Inventory(session=_OF_THE_CLAIM, inventory=hello.inventory).SerializeToString()
    if old is None or not new_life:
        return None
    # What an earlier life had is known by name, but nothing of it is routable until this one says so.
    old.session = 0
    return old.SerializeToString()
