"""Acts that take longer than a call: kept in the store for a day, so that anybody may ask any instance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controlplane.services import keyspace
from controlplane.services.callers import Caller
from controlplane.services.dedupe import Repeat
from controlplane.services.mutations import Committed, Mutation, Mutations, Plan
from controlplane.services.ulids import new_ulid
from controlplane.store.port import Compare, KeyValue, Put, Store, modified
from swarmplane.codec.operations import operation_of, operation_value
from swarmplane.errors import ConflictError, NotFoundError
from swarmplane.operation import Operation

KEPT_S: Final = 86_400.0
_TRIES: Final = 8


@dataclass(frozen=True, slots=True)
class OperationPage:
    """Some operations, newest first."""

    operations: tuple[Operation, ...]
    revision: int
    last: str
    """Key before which the next page begins; empty: nothing follows."""


class Operations:
    """See the module."""

    def __init__(self, store: Store, mutations: Mutations, *, unix_s: Callable[[], float]) -> None:
        self._store = store
        self._mutations = mutations
        self._unix_s = unix_s

    async def begin(self, kind: str, subject: str) -> Operation:
        """A new one, running."""
        operation = self.new(kind, subject)
        put = await self.kept(operation)
        revision = await self._store.put(put.key, put.value, lease=put.lease)
        return replace(operation, revision=revision)

    def new(self, kind: str, subject: str) -> Operation:
        """One that is not written yet; see :meth:`kept`."""
        return Operation(new_ulid(self._unix_s()), kind, subject)

    async def kept(self, operation: Operation) -> Put:
        """What writes ``operation`` and keeps it for a day, as part of somebody's transaction."""
        lease = await self._store.grant(KEPT_S)
        return Put(keyspace.operation(operation.id), operation_value(operation), lease)

    async def ordered(self, caller: Caller, plan: Plan, repeat: Repeat) -> Committed:
        """Carry out ``plan``, which begins an operation as part of what it does.

        Raises:
            SwarmError: As :meth:`Mutations.commit`, and what the plan raises.
        """
        return await self._mutations.commit(caller.subject.id, plan, repeat)

    async def update(self, operation: Operation, guards: Sequence[Compare] = ()) -> Operation:
        """Write where it stands; what was cancelled meanwhile stays so, and is returned.

        Args:
            operation: As it is now.
            guards: Further conditions; who finds them broken must see to that itself.

        Raises:
            NotFoundError: It is over for more than a day.
        """
        for _ in range(_TRIES):
            kv = await self._find(operation.id)
            present = operation_of(kv.value, kv.mod_revision)
            if present.state != "running":
                return present
            done = await self._store.transact(
                [modified(kv.key, kv.mod_revision), *guards],
                [Put(kv.key, operation_value(operation, kv.value), kv.lease)],
            )
            if done.succeeded:
                return replace(operation, revision=done.revision)
        raise ConflictError("others kept changing this operation; try again")

    async def get(self, operation_id: str) -> Operation:
        """One of the last day.

        Raises:
            NotFoundError: There is none with this id.
        """
        kv = await self._find(operation_id)
        return operation_of(kv.value, kv.mod_revision)

    async def page(self, *, before: str, limit: int, revision: int) -> OperationPage:
        """Operations older than the key ``before`` (empty: all), as of ``revision`` (0: now).

        Raises:
            CompactedError: ``revision`` is forgotten.
        """
        found = await self._store.range(keyspace.OPERATIONS, revision=revision)
        older = [kv for kv in reversed(found.items) if not before or kv.key < before]
        page = older[:limit]
        last = page[-1].key if len(older) > limit else ""
        return OperationPage(
            tuple(operation_of(kv.value, kv.mod_revision) for kv in page), found.revision, last
        )

    async def cancel(
        self, caller: Caller, operation_id: str, *, repeat: Repeat, encode: Callable[[Operation], bytes]
    ) -> Committed:
        """Ask a running one to stop; others stay as they are.

        Raises:
            NotFoundError: There is none with this id.
        """

        async def plan() -> Mutation:
            kv = await self._find(operation_id)
            present = operation_of(kv.value, kv.mod_revision)
            if present.state != "running":
                return Mutation((), (), "", present.id, "", encode(present), kv.mod_revision)
            cancelled = replace(present, state="cancelled", message="cancelled on request")
            return Mutation(
                (modified(kv.key, kv.mod_revision),),
                (Put(kv.key, operation_value(cancelled, kv.value), kv.lease),),
                "operation.cancel",
                present.id,
                f"cancelled {present.kind} of {present.subject}",
                encode(cancelled),
            )

        return await self._mutations.commit(caller.subject.id, plan, repeat)

    async def _find(self, operation_id: str) -> KeyValue:
        kv = await self._store.get(keyspace.operation(operation_id))
        if kv is None:
            raise NotFoundError(f"no operation of the last 24 hours has the id {operation_id!r}")
        return kv
