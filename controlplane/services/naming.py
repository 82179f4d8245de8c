"""Names that stay unique under races: a clash gets a suffix."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Final

from controlplane.services import keyspace
from controlplane.store.port import Compare, Put, Store, absent, modified
from swarmplane.codec import records
from swarmplane.credentials.names import user_subject
from swarmplane.errors import InvalidRequestError
from swarmplane.ids import NodeId, SwarmId, is_node_name, random_id

_LONGEST: Final = 63
_COUNTED: Final = 20


def check_name(name: str) -> None:
    """That ``name`` is a DNS label.

    Raises:
        InvalidRequestError: It is not.
    """
    if not is_node_name(name):
        raise InvalidRequestError(
            f"{name!r} can't be a name: lower-case letters, digits and inner dashes, at most 63 (--name)"
        )


def candidates(wish: str) -> Iterator[str]:
    """``wish``, ``wish-2``, ``wish-3``…, then random suffixes, without end; all of them DNS labels."""
    yield wish
    for suffix in (*map(str, islice(count(2), _COUNTED)),):
        yield _suffixed(wish, suffix)
    while True:
        yield _suffixed(wish, random_id(30))


def _suffixed(wish: str, suffix: str) -> str:
    return f"{wish[: _LONGEST - len(suffix) - 1].rstrip('-')}-{suffix}"


async def claim_node_name(store: Store, node: NodeId, wish: str) -> tuple[str, Compare, Put]:
    """The first free name like ``wish``, and what claims it for ``node`` in the enrolment's transaction."""
    for name in candidates(wish):
        key = keyspace.node_name(name)
        kv = await store.get(key)
        holder = records.Node.FromString(kv.value).id if kv is not None else ""
        if not holder or await store.get(keyspace.node(NodeId(holder))) is None:
            guard = absent(key) if kv is None else modified(key, kv.mod_revision)
            return name, guard, Put(key, records.Node(id=node, name=name).SerializeToString())
    raise AssertionError("candidates never end")


async def free_person_name(store: Store, swarm: SwarmId, wish: str) -> str:
    """The first name like ``wish`` that nobody has, and nobody had whose certificates must stay refused."""
    for name in candidates(wish):
        denied = await store.get(keyspace.denied(user_subject(name, swarm).id))
        if denied is None and await store.get(keyspace.person(name)) is None:
            return name
    raise AssertionError("candidates never end")
