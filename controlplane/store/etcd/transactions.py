"""Transactions on etcd, whose outcome is found out where it can be.

A transaction that is sure to change something is marked (:mod:`controlplane.store.etcd.markers`). When its
outcome is unknown, it is settled: either it was done, then its result is given; or it can no longer be done,
then it is sent again. One that only compares is simply asked again. What is left is
:class:`~controlplane.store.port.UncertainError`: for a transaction of deletes that may find nothing, for one
that is within a few bytes or operations of the limits, and when nobody answers the question either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from controlplane.store.etcd.calls import TXN
from controlplane.store.etcd.client import Effect, EtcdClient, InDoubtError
from controlplane.store.etcd.failures import Refusal, RefusedError
from controlplane.store.etcd.keyspace import Keyspace
from controlplane.store.etcd.markers import Markers, Slot, markable
from controlplane.store.etcd.wire import v3_pb2 as pb
from controlplane.store.port import (
    Compare,
    LeaseNotFoundError,
    Operation,
    Put,
    StoreUnavailableError,
    TxnResult,
    UncertainError,
)
from swarmplane.errors import Code, InvalidRequestError


class Transactions:
    """Makes transactions for everybody who writes to the store."""

    def __init__(self, client: EtcdClient, keyspace: Keyspace, holder: str) -> None:
        self._client = client
        self._keyspace = keyspace
        self._markers = Markers(keyspace, holder)

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[str]
    ) -> TxnResult:
        """See :meth:`controlplane.store.port.Store.transact`; the limits are checked already."""
        compares, then, otherwise = tuple(compares), tuple(then), tuple(otherwise)
        request = self._request(compares, then, otherwise)
        slot = self._markers.take() if markable(compares, then, otherwise) else None
        try:
            if slot is None:
                answer = await self._unmarked(request, reads=not then)
                return self._result(answer)
            try:
                return await self._marked(request, slot)
            finally:
                # Also when it is in doubt: whoever takes it next sees what became of this one.
                self._markers.give(slot)
        except RefusedError as error:
            if error.refusal is not Refusal.NO_LEASE:
                raise InvalidRequestError(
                    "What stands at the keys that the transaction reads is too large for one answer.",
                    code=Code.REQUEST_TOO_LARGE,
                ) from error
            leases = (operation.lease for operation in then if isinstance(operation, Put))
            raise LeaseNotFoundError(next(filter(None, leases), 0)) from error

    async def _unmarked(self, request: pb.TxnRequest, *, reads: bool) -> pb.TxnResponse:
        try:
            return await self._client.ask(TXN, request, Effect.READ if reads else Effect.ONCE, linear=True)
        except InDoubtError as error:
            raise _uncertain() from error

    async def _marked(self, request: pb.TxnRequest, slot: Slot) -> TxnResult:
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + self._client.timing.give_up_s
        while True:
            token = self._markers.token()
            marked, swept = self._with_marker(request, slot, token)
            try:
                answer = await self._client.ask(TXN, marked, Effect.ONCE, linear=True, ends_s=ends_s)
            except InDoubtError as error:
                if (revision := await self._settle(slot, token)) is not None:
                    return TxnResult(succeeded=True, revision=revision)
                if loop.time() > ends_s:
                    raise StoreUnavailableError("etcd did not take the change in time.") from error
                continue
            if answer.succeeded:
                slot.revision = answer.header.revision
                self._markers.swept |= swept
                return TxnResult(succeeded=True, revision=answer.header.revision)
            there = _read(answer.responses[-1])
            if (there.mod_revision if there else 0) == slot.revision:
                del answer.responses[-1]
                return self._result(answer)
            # Its own condition failed, not the caller's: an earlier transaction here was in doubt.
            slot.revision = there.mod_revision if there else 0

    def _with_marker(self, request: pb.TxnRequest, slot: Slot, token: bytes) -> tuple[pb.TxnRequest, bool]:
        marked = pb.TxnRequest()
        marked.CopyFrom(request)
        marked.compare.append(slot.unchanged())
        marked.success.append(slot.put(token))
        marked.failure.append(slot.read())
        sweeping = not self._markers.swept
        if sweeping:
            marked.success.extend(self._markers.sweeping())
        return marked, sweeping

    async def _settle(self, slot: Slot, token: bytes) -> int | None:
        """The revision of the transaction in doubt; None if it was not done and never will be.

        Raises:
            UncertainError: Nobody answered.
        """
        try:
            answer = await self._client.ask(TXN, slot.fence(), Effect.REPEATABLE, linear=True)
        except (StoreUnavailableError, UncertainError) as error:
            raise _uncertain() from error
        if answer.succeeded:
            slot.revision = answer.header.revision
            return None
        there = _read(answer.responses[-1])
        if there is None:
            slot.revision = 0
            raise UncertainError("Somebody removed the keys by which the store knows its own writes.")
        slot.revision = there.mod_revision
        return there.mod_revision if there.value == token else None

    def _request(
        self, compares: tuple[Compare, ...], then: tuple[Operation, ...], otherwise: tuple[str, ...]
    ) -> pb.TxnRequest:
        keyspace = self._keyspace
        return pb.TxnRequest(
            compare=[keyspace.compare(compare) for compare in compares],
            success=[keyspace.request_op(operation) for operation in then],
            failure=[pb.RequestOp(request_range=pb.RangeRequest(key=keyspace.key(key))) for key in otherwise],
        )

    def _result(self, answer: pb.TxnResponse) -> TxnResult:
        if answer.succeeded:
            return TxnResult(succeeded=True, revision=answer.header.revision)
        found = map(_read, answer.responses)
        reads = tuple(self._keyspace.value(kv) if kv else None for kv in found)
        return TxnResult(succeeded=False, revision=answer.header.revision, reads=reads)


def _read(response: pb.ResponseOp) -> pb.KeyValue | None:
    return next(iter(response.response_range.kvs), None)


def _uncertain() -> UncertainError:
    return UncertainError("etcd did not say whether it was done; read again before writing again.")
