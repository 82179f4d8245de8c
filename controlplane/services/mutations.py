"""How anything a person asked for is changed: compare-and-swap, repeatable, audited, in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from controlplane.services.audit import audit_record
from controlplane.services.dedupe import KEPT_S, Answers, Repeat
from controlplane.services.known import FRESHNESS
from controlplane.services.sealing import SwarmSecret
from controlplane.store.port import Compare, LeaseNotFoundError, Operation, Store, TxnResult, UncertainError
from controlplane.store.port import absent as key_absent
from swarmplane.errors import ConflictError, UnavailableError
from swarmplane.ids import SubjectId

LIMIT_S: Final = 10.0
_TRIES: Final = 200
_AWAY: Final = (
    "the store is out of reach, so nothing can be changed: with etcd, a majority of its members must run and "
    "be reachable; try again then"
)


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is to be done, under which conditions, and what is answered.

    Without operations there is nothing to do, and ``revision`` is the one answered.
    """

    compares: tuple[Compare, ...]
    operations: tuple[Operation, ...]
    action: str
    """As ``token.create``."""
    subject: str
    """Id of the thing."""
    message: str
    """For people; no secrets."""
    response: bytes = b""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """The answer, and the revision of the act it tells of."""

    response: bytes
    revision: int


Plan = Callable[[], Awaitable[Mutation]]


class Mutations:
    """Carries out plans."""

    def __init__(self, store: Store, secret: SwarmSecret, unix_s: Callable[[], float]) -> None:
        self._store = store
        self._answers = Answers(store, secret)
        self._unix_s = unix_s

    async def commit(self, actor: SubjectId, plan: Plan, repeat: Repeat | None = None) -> Committed:
        """Do what ``plan`` says; asked again after every change by somebody else, so it reads afresh.

        A repeat with an empty ``request_id`` is none.

        Raises:
            ConflictError: Others kept changing what the plan reads.
            UnavailableError: The store did not answer in time.
            SwarmError: What the plan raises; then nothing was done.
        """
        freshness = FRESHNESS.get()
        if freshness is not None and freshness.age_s:
            # Found out when the caller was identified: waiting would not help.
            raise UnavailableError(_AWAY)
        asked = repeat if repeat is not None and repeat.request_id else None
        try:
            async with asyncio.timeout(LIMIT_S):
                return await self._commit(actor, plan, asked)
        except TimeoutError as error:
            raise UnavailableError(f"the store did not answer within {LIMIT_S:g} s; try again") from error

    async def _commit(self, actor: SubjectId, plan: Plan, repeat: Repeat | None) -> Committed:
        for _ in range(_TRIES):
            recalled = await self._answers.recall(repeat) if repeat else None
            if recalled is not None:
                return Committed(recalled.response, recalled.revision)
            mutation = await plan()
            if not mutation.operations:
                return Committed(mutation.response, mutation.revision)
            try:
                result = await self._transact(actor, mutation, repeat)
            except UncertainError:
                if repeat is None:
                    raise
                # The request's own record tells whether it was done.
                continue
            if result.succeeded:
                return Committed(mutation.response, result.revision)
        raise ConflictError("others changed the same things at the same time; try again")

    async def _transact(self, actor: SubjectId, mutation: Mutation, repeat: Repeat | None) -> TxnResult:
        record = audit_record(self._unix_s(), actor, mutation.action, mutation.subject, mutation.message)
        then = (*mutation.operations, record)
        if repeat is None:
            return await self._store.transact(mutation.compares, then)
        lease = await self._store.grant(KEPT_S)
        kept = False
        try:
            result = await self._store.transact(
                (*mutation.compares, key_absent(repeat.key)),
                (*then, self._answers.remember(repeat, mutation.response, lease)),
            )
            kept = result.succeeded
        except (UncertainError, asyncio.CancelledError):
            # It may be in use: left alone, it ends by itself.
            kept = True
            raise
        finally:
            if not kept:
                await self._give_back(lease)
        return result

    async def _give_back(self, lease: int) -> None:
        with contextlib.suppress(LeaseNotFoundError):
            await self._store.revoke(lease)
