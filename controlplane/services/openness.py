"""Whether nodes may enrol without a token: the state of a swarm that people set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controlplane.services import keyspace
from controlplane.services.callers import Caller
from controlplane.services.dedupe import Repeat
from controlplane.services.mutations import Committed, Mutation, Mutations
from controlplane.store.port import Put, Store, modified
from swarmplane.codec import records
from swarmplane.errors import ConflictError, NotFoundError


@dataclass(frozen=True, slots=True)
class EnrolmentState:
    """How nodes enrol now."""

    open: bool
    revision: int


class Openness:
    """See the module."""

    def __init__(self, store: Store, mutations: Mutations) -> None:
        self._store = store
        self._mutations = mutations

    async def state(self) -> EnrolmentState:
        """As it stands.

        Raises:
            NotFoundError: There is no swarm in the store.
        """
        kv = await self._store.get(keyspace.SWARM)
        if kv is None:
            raise NotFoundError("the store holds no swarm")
        return EnrolmentState(records.Swarm.FromString(kv.value).open, kv.mod_revision)

    async def set(
        self,
        caller: Caller,
        *,
        is_open: bool,
        expected_revision: int,
        repeat: Repeat,
        encode: Callable[[EnrolmentState], bytes],
    ) -> Committed:
        """Let nodes enrol without a token, or with one only. Doing it again changes nothing.

        Raises:
            NotFoundError: There is no swarm in the store.
            ConflictError: It is not at ``expected_revision`` (0: any).
        """

        async def plan() -> Mutation:
            kv = await self._store.get(keyspace.SWARM)
            if kv is None:
                raise NotFoundError("the store holds no swarm")
            if expected_revision not in {0, kv.mod_revision}:
                raise ConflictError(
                    f"enrolment is at revision {kv.mod_revision}, not {expected_revision}",
                    revision=str(kv.mod_revision),
                )
            record = records.Swarm.FromString(kv.value)
            changed, record.open = record.open != is_open, is_open
            return Mutation(
                (modified(kv.key, kv.mod_revision),),
                (Put(kv.key, record.SerializeToString()),) if changed else (),
                "enrolment.open" if is_open else "enrolment.close",
                "enrolment",
                "opened enrolment to every host" if is_open else "closed enrolment: a token is needed",
                encode(EnrolmentState(is_open, kv.mod_revision)),
                kv.mod_revision,
            )

        return await self._mutations.commit(caller.subject.id, plan, repeat)
