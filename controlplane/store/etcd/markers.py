"""Keys of our own by which a transaction is recognised afterwards.

A marked transaction puts a value that is its own to a key that only this client writes, on the condition that
nothing else was put there since. Whoever doubts its outcome puts something else there on the same condition:
if that succeeds, the transaction was not done and never will be; if not, the value tells. So one question
settles it, also against copies that are still on their way.

A key serves one transaction at a time. There are as many as there were transactions at once, at most
``MAX_SLOTS``, for each time the store was opened; opening it again as the same holder removes the old ones.
"""

from __future__ import annotations

import heapq
import secrets
from dataclasses import dataclass
from typing import Final

from controlplane.store.etcd.keyspace import Keyspace
from controlplane.store.etcd.wire import v3_pb2 as pb
from controlplane.store.port import (
    MAX_OPERATIONS,
    MAX_TRANSACTION_BYTES,
    OPERATION_BYTES,
    Compare,
    Delete,
    Operation,
    Put,
    Relation,
)

MAX_SLOTS: Final = 64
_FENCE: Final = b"-"
_ROOM_BYTES: Final = 512
"""What a marker may add to a transaction."""


@dataclass(slots=True)
class Slot:
    """A marker's key and what is known to stand there."""

    index: int
    key: bytes
    revision: int = 0
    """When it was last put. If that is wrong, the next transaction finds out."""

    def unchanged(self) -> pb.Compare:
        """Nothing was put there since."""
        return pb.Compare(
            key=self.key, target=pb.Compare.MOD, result=pb.Compare.EQUAL, mod_revision=self.revision
        )

    def put(self, value: bytes) -> pb.RequestOp:
        """Put ``value`` there."""
        return pb.RequestOp(request_put=pb.PutRequest(key=self.key, value=value))

    def read(self) -> pb.RequestOp:
        """Read what is there."""
        return pb.RequestOp(request_range=pb.RangeRequest(key=self.key))

    def fence(self) -> pb.TxnRequest:
        """Have no transaction on its way succeed any longer; or see that one has."""
        return pb.TxnRequest(compare=[self.unchanged()], success=[self.put(_FENCE)], failure=[self.read()])


class Markers:
    """Hands out slots."""

    def __init__(self, keyspace: Keyspace, holder: str) -> None:
        """``holder`` names whoever opens this store time and again, one process at a time; or it is empty."""
        # In hexadecimal no holder's name is the beginning of another's.
        self._mine = b"marker/" + holder.encode().hex().encode() + b"/"
        self._keyspace = keyspace
        self._prefix = self._mine + secrets.token_hex(8).encode() + b"/"
        self._free: list[int] = []
        self._slots: list[Slot] = []
        self._tokens = 0
        self.swept = not holder

    def take(self) -> Slot | None:
        """A slot that nobody else has; None if all are taken."""
        if self._free:
            return self._slots[heapq.heappop(self._free)]
        if len(self._slots) == MAX_SLOTS:
            return None
        slot = Slot(len(self._slots), self._keyspace.own(self._prefix + b"%02d" % len(self._slots)))
        self._slots.append(slot)
        return slot

    def give(self, slot: Slot) -> None:
        """``slot`` is free again."""
        heapq.heappush(self._free, slot.index)

    def token(self) -> bytes:
        """A value that no other transaction puts."""
        self._tokens += 1
        return b"%d" % self._tokens

    def sweeping(self) -> tuple[pb.RequestOp, pb.RequestOp]:
        """Remove what the holder left behind when it had the store open before."""
        key = self._keyspace.own
        before = pb.DeleteRangeRequest(key=key(self._mine), range_end=key(self._prefix))
        # "0" is what comes after "/".
        after = pb.DeleteRangeRequest(
            key=key(self._prefix[:-1] + b"0"), range_end=key(self._mine[:-1] + b"0")
        )
        return pb.RequestOp(request_delete_range=before), pb.RequestOp(request_delete_range=after)


def markable(compares: tuple[Compare, ...], then: tuple[Operation, ...], otherwise: tuple[str, ...]) -> bool:
    """Whether a marker fits and changes nothing: not the revision of a transaction that may do nothing."""
    if max(len(compares), len(otherwise)) >= MAX_OPERATIONS or len(then) > MAX_OPERATIONS - 3:
        return False
    size = sum(len(one.key) * 4 + OPERATION_BYTES for one in compares) + sum(
        len(key) * 4 for key in otherwise
    )
    size += sum(_bytes_of(operation) for operation in then)
    return size <= MAX_TRANSACTION_BYTES - _ROOM_BYTES and _writes(compares, then)


def _bytes_of(operation: Operation) -> int:
    match operation:
        case Put(key=key, value=value):
            return len(key) * 4 + len(value) + OPERATION_BYTES
        case Delete(key=key):
            return len(key) * 4 + OPERATION_BYTES
        case _:
            return len(operation.prefix) * 8 + OPERATION_BYTES


def _writes(compares: tuple[Compare, ...], then: tuple[Operation, ...]) -> bool:
    there = {
        compare.key
        for compare in compares
        if (compare.relation is Relation.EQUAL and compare.revision > 0)
        or (compare.relation is Relation.GREATER and compare.revision >= 0)
    }
    return any(
        isinstance(operation, Put) or (isinstance(operation, Delete) and operation.key in there)
        for operation in then
    )
