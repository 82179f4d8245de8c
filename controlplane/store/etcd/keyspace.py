"""Where our keys stand among etcd's, and its messages as values of the port.

Keys of the port are text. Ours of other kinds begin, below the same prefix, with a byte that no text has, so
that lists and watches of everything never meet them and one role allows both.
"""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.store import limits
from controlplane.store.etcd.wire import v3_pb2 as pb
from controlplane.store.port import (
    Compare,
    Delete,
    DeletePrefix,
    Event,
    EventKind,
    Field,
    KeyValue,
    Operation,
    Put,
    Relation,
)

_NO_TEXT = b"\xff"
_TARGETS = {Field.CREATED: pb.Compare.CREATE, Field.MODIFIED: pb.Compare.MOD}
_RESULTS = {
    Relation.EQUAL: pb.Compare.EQUAL,
    Relation.GREATER: pb.Compare.GREATER,
    Relation.LESS: pb.Compare.LESS,
}


class Keyspace:
    """The keys below one prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = limits.encode_prefix(prefix)

    def key(self, key: str) -> bytes:
        """``key`` as etcd knows it.

        Raises:
            InvalidRequestError: No store takes it.
        """
        return self._prefix + limits.encode_key(key)

    def bounds(self, prefix: str, start_after: str = "") -> tuple[bytes, bytes]:
        """The first key that starts with ``prefix`` and comes after ``start_after``; the first beyond them.

        Raises:
            InvalidRequestError: No store takes them.
        """
        encoded, after = limits.encode_prefix(prefix), limits.encode_prefix(start_after)
        # The first key after another is that with a zero behind it. No key is empty.
        first = encoded or b"\0"
        if start_after:
            first = max(first, after + b"\0")
        return self._prefix + first, self._prefix + (limits.prefix_end(encoded) or _NO_TEXT)

    def own(self, name: bytes) -> bytes:
        """A key of the client's own."""
        return self._prefix + _NO_TEXT + name

    def request_op(self, operation: Operation) -> pb.RequestOp:
        """A step of a transaction."""
        match operation:
            case Put(key=key, value=value, lease=lease):
                return pb.RequestOp(request_put=pb.PutRequest(key=self.key(key), value=value, lease=lease))
            case Delete(key=key):
                return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=self.key(key)))
            case DeletePrefix(prefix=prefix):
                first, end = self.bounds(prefix)
                return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=first, range_end=end))

    def compare(self, compare: Compare) -> pb.Compare:
        """A condition of a transaction."""
        created = compare.field is Field.CREATED
        return pb.Compare(
            key=self.key(compare.key),
            target=_TARGETS[compare.field],
            result=_RESULTS[compare.relation],
            create_revision=compare.revision if created else None,
            mod_revision=None if created else compare.revision,
        )

    def value(self, kv: pb.KeyValue) -> KeyValue:
        """What stands at a key."""
        return KeyValue(self._text(kv.key), kv.value, kv.create_revision, kv.mod_revision, kv.lease)

    def values(self, found: Iterable[pb.KeyValue]) -> tuple[KeyValue, ...]:
        """What stands at some keys."""
        return tuple(self.value(kv) for kv in found)

    def event(self, event: pb.Event) -> Event:
        """A change."""
        deleted = event.type == pb.Event.DELETE
        kind = EventKind.DELETE if deleted else EventKind.PUT
        # Where there was nothing, or it is forgotten, there is no message, or an empty one.
        previous = self.value(event.prev_kv) if event.prev_kv.mod_revision else None
        return Event(kind, self.value(event.kv), previous)

    def _text(self, key: bytes) -> str:
        # What others wrote below our prefix need not be text.
        return key[len(self._prefix) :].decode(errors="surrogateescape")
