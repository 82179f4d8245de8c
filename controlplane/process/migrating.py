"""The embedded store's content in etcd: once, whole, and never served in both.

The target is claimed by a marker, filled under it, and becomes the swarm in one last transaction, before
which the source is given up. Wherever it is interrupted, doing it again goes on: until the source is given up
it is the truth, and from then on nobody serves it; the last transaction makes the target the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from controlplane.services import keyspace
from controlplane.services.audit import audit_record
from controlplane.services.founding import next_generation
from controlplane.store.batches import batches
from controlplane.store.port import (
    OPERATION_BYTES,
    Delete,
    DeletePrefix,
    KeyValue,
    Put,
    Store,
    absent,
    modified,
)
from swarmplane.codec import records
from swarmplane.credentials.names import control_subject
from swarmplane.errors import ConflictError, FailedPreconditionError
from swarmplane.ids import SwarmId

MARKER: Final = "migration/source"
_LAST: Final = frozenset({keyspace.SWARM, keyspace.GENERATION})
"""What makes a store a swarm: written at the end."""
_PASSING: Final = (
    keyspace.MEMBERS,
    keyspace.INSTANCES,
    keyspace.DOUBTS,
    keyspace.ELECTIONS,
    keyspace.REQUESTS,
)
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was done."""

    swarm: str
    swarm_name: str
    keys: int
    """Copied; 0 where it was done before."""
    generation: int
    again: bool = False
    """Whether the target had the swarm already."""


async def migrate(
    source: Store, target: Store, give_up: Callable[[], None], *, given_up: bool, now_s: float
) -> Migrated:
    """Copy what lasts of ``source`` into ``target``, and make that the swarm's store.

    Args:
        source: Nobody else uses it.
        target: Empty, or left half-way by the same swarm.
        give_up: Makes sure that ``source`` is never served again; durable when it returns. It blocks.
        given_up: Whether ``source`` was given up before.
        now_s: Unix time.

    Raises:
        FailedPreconditionError: ``source`` has no swarm, or ``target`` has something else in it.
        SwarmError: A store failed; do it again.
    """
    items = [kv async for kv in _all(source)]
    by_key = {kv.key: kv for kv in items}
    if not by_key.keys() >= _LAST:
        raise FailedPreconditionError("the store here has no whole swarm; there is nothing to migrate")
    swarm = records.Swarm.FromString(by_key[keyspace.SWARM].value)
    before = records.parse(records.Counter, by_key[keyspace.GENERATION].value).value
    done = await _done_before(target, swarm.id)
    if done is not None:
        if not given_up:
            raise FailedPreconditionError(
                f"etcd has swarm {swarm.name!r} already, and this host still has a copy of its own; "
                "decide which one is right, and take the other away"
            )
        return Migrated(swarm.id, swarm.name, 0, done, again=True)
    claim = await _claim(target, swarm.id)
    lasting = [kv for kv in items if kv.key not in _LAST and not _passes(kv)]
    await _copy(lasting, target, claim)
    generation = next_generation(before, now_s)
    # First it is nobody's truth, then the target's: never both.
    await asyncio.to_thread(give_up)
    said = f"migrated {len(lasting) + len(_LAST)} keys from the embedded store"
    ended = await target.transact(
        [modified(MARKER, claim), absent(keyspace.SWARM)],
        [
            Put(keyspace.SWARM, by_key[keyspace.SWARM].value),
            Put(keyspace.GENERATION, records.Counter(value=generation).SerializeToString()),
            Delete(MARKER),
            audit_record(now_s, control_subject(SwarmId(swarm.id)).id, "store.migrate", swarm.id, said),
        ],
    )
    if not ended.succeeded:
        raise ConflictError("the target changed meanwhile; do it again")
    return Migrated(swarm.id, swarm.name, len(lasting) + len(_LAST), generation)


async def _all(store: Store) -> AsyncIterator[KeyValue]:
    """Everything in ``store``, of one revision, page by page."""
    after, revision = "", 0
    while True:
        page = await store.range("", start_after=after, limit=_PAGE, revision=revision)
        for kv in page.items:
            yield kv
        if not page.more:
            return
        after, revision = page.items[-1].key, page.revision


def _passes(kv: KeyValue) -> bool:
    """Whether it ends by itself: leases are not carried over, and whoever held them asks again."""
    return kv.lease != 0 or kv.key.startswith(_PASSING)


def _size(kv: KeyValue) -> int:
    return len(kv.key.encode()) + len(kv.value) + OPERATION_BYTES


async def _done_before(target: Store, swarm: str) -> int | None:
    """The generation of the same swarm in ``target``; None if no swarm is there."""
    kv, generation = await target.get(keyspace.SWARM), await target.get(keyspace.GENERATION)
    if kv is None:
        return None
    there = records.Swarm.FromString(kv.value)
    if there.id != swarm or generation is None:
        raise FailedPreconditionError(
            f"etcd holds swarm {there.name!r} ({there.id}) there already; choose another prefix (etcd.prefix)"
        )
    return records.parse(records.Counter, generation.value).value


async def _claim(target: Store, swarm: str) -> int:
    """The revision of our marker in ``target``, which has nothing else, or what an earlier try left."""
    marker = await target.get(MARKER)
    if marker is not None and marker.value != swarm.encode():
        raise FailedPreconditionError(
            f"another swarm ({marker.value.decode(errors='replace')}) is half-way migrated into etcd there; "
            "choose another prefix (etcd.prefix)"
        )
    if marker is None:
        found = await target.range("", limit=1)
        if found.items:
            raise FailedPreconditionError(
                f"etcd is not empty there (it holds {found.items[0].key!r}); "
                "choose another prefix (etcd.prefix)"
            )
        done = await target.transact([absent(MARKER)], [Put(MARKER, swarm.encode())])
    else:
        # What was copied before may be older than what stands here now.
        kept = [modified(MARKER, marker.mod_revision), absent(keyspace.SWARM)]
        for prefix in sorted({kv.key.partition("/")[0] for kv in (await target.range("")).items}):
            if prefix != MARKER.partition("/")[0]:
                await target.transact(kept, [DeletePrefix(prefix)])
        done = await target.transact(kept, [Put(MARKER, swarm.encode())])
    if not done.succeeded:
        raise ConflictError("somebody else migrates into the same place; let one of you finish")
    return done.revision


async def _copy(lasting: Sequence[KeyValue], target: Store, claim: int) -> None:
    for batch in batches(lasting, _size):
        puts = [Put(kv.key, kv.value) for kv in batch]
        if not (await target.transact([modified(MARKER, claim)], puts)).succeeded:
            raise ConflictError("somebody else migrates into the same place; let one of you finish")
    await _check(target, lasting)


async def _check(target: Store, wanted: Sequence[KeyValue]) -> None:
    """That all of it is there: what is given up next can't be asked again."""
    there = {kv.key: kv.value for kv in (await target.range("")).items}
    missing = [kv.key for kv in wanted if there.get(kv.key) != kv.value]
    if missing:
        raise ConflictError(f"{len(missing)} keys did not arrive, as {missing[0]!r}; do it again")
