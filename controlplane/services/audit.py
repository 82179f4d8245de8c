"""Who did what: a record in the mutation's own transaction, so that neither is ever without the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from controlplane.services import keyspace
from controlplane.services.ulids import new_ulid
from controlplane.store.port import Compare, Delete, Put, Store
from swarmplane.codec import records
from swarmplane.ids import SubjectId

KEEP_RECORDS: Final = 10_000
KEEP_S: Final = 90 * 86_400.0
_BATCH: Final = 100


def audit_record(now_s: float, actor: SubjectId, action: str, subject: str, message: str) -> Put:
    """The operation that records an act; ``message`` has no secrets."""
    ulid = new_ulid(now_s)
    value = records.Audit(
        at_ms=int(now_s * 1000), actor=actor, action=action, subject=subject, message=message
    )
    return Put(keyspace.audit(ulid), value.SerializeToString())


async def trim_audit(
    store: Store,
    now_s: float,
    *,
    keep_records: int = KEEP_RECORDS,
    keep_s: float = KEEP_S,
    guards: Sequence[Compare] = (),
) -> int:
    """Delete records over the number kept and those older than ``keep_s``; how many it deleted.

    It ends early where ``guards`` hold no longer.

    Cost: one listing of the keys, and a transaction for every hundred deleted.
    """
    found = (await store.range(keyspace.AUDITS)).items
    oldest_kept = keyspace.audit(new_ulid(max(0.0, now_s - keep_s)))
    surplus = max(0, len(found) - keep_records)
    doomed = [kv.key for place, kv in enumerate(found) if place < surplus or kv.key < oldest_kept]
    for start in range(0, len(doomed), _BATCH):
        batch = doomed[start : start + _BATCH]
        done = await store.transact(guards, [Delete(key) for key in batch])
        if not done.succeeded:
            return start
    return len(doomed)
