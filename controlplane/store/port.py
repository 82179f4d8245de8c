"""The store's contract: etcd v3's revisions, transactions, watches and leases, without etcd's wire.

**Keys and values.** Keys are non-empty text of at most 1 KiB as UTF-8, ordered by those bytes; values are
bytes. All keys and values of one transaction are at most 1.5 MiB, with ``OPERATION_BYTES`` for each compare
and operation, which keeps it within etcd's request limit; at most 128 compares, operations and reads each.

**Revisions.** One counter for the whole store, 1 when it is empty, raised by exactly one by every transaction
that changes something and by nothing else: not by failed compares, not by deleting what is absent, not by
grants. All changes of a transaction carry its revision. Reads are linearizable: what was acknowledged to
anyone is seen by every later read.

**Compaction.** ``compact(r)`` forgets the history before ``r``: reads at a revision below ``r`` and watches
from one below ``r`` raise :class:`CompactedError`; values at ``r`` and everything from ``r`` on stay. A
store may compact by itself.

**Leases.** A key put with a lease is deleted when the lease ends; all keys of a lease go in one revision,
never early and at most a second late. Putting the key again moves it to the lease then named, or off any. A
lease that ended never comes back. When the store or its leader restarts, every lease has its full time again.

**Failures.** :class:`StoreUnavailableError`: nothing was done. :class:`UncertainError`, and a cancelled
call: it may or may not be done; read again to learn which. Everything else is the caller's mistake.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from swarmplane.errors import Code, InvalidRequestError, NotFoundError, SwarmError, UnavailableError

MAX_KEY_BYTES: Final = 1024
MAX_TRANSACTION_BYTES: Final = 1536 * 1024
OPERATION_BYTES: Final = 64
"""What a compare or an operation counts beside its key and value: more than its framing on etcd's wire."""
MAX_OPERATIONS: Final = 128
BOOKMARK_INTERVAL_S: Final = 10.0
"""A watch is never silent for longer."""


class CompactedError(SwarmError):
    """The revision asked for is forgotten: list again, watch from there. ``revision`` is the oldest kept."""

    default_code = Code.COMPACTED

    def __init__(self, revision: int) -> None:
        super().__init__(
            f"The store keeps its history from revision {revision} on; list again.", revision=str(revision)
        )
        self.revision = revision


class FutureRevisionError(InvalidRequestError):
    """The revision asked for does not exist yet: it was learnt from another store."""


class UncertainError(UnavailableError):
    """The outcome of a write is unknown; read again before writing again."""


class StoreUnavailableError(UnavailableError):
    """The store can't be used, and nothing was done; the message says what would help."""


class StoreReplacedError(UnavailableError):
    """The store lost acknowledged revisions, or another one answers in its place.

    Nothing learnt from it holds any longer. Every call raises it from then on: what a write did is unknown.
    Open the store again, and read everything again, once a person has looked.
    """


class LeaseNotFoundError(NotFoundError):
    """The lease was never granted, was revoked or ran out. Nothing was done."""

    def __init__(self, lease: int) -> None:
        super().__init__("The lease ran out, was revoked or never existed; grant a new one.")
        self.lease = lease


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as it stands at some revision. ``lease`` is 0 for a key that no lease ends."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


class EventKind(enum.Enum):
    """What happened to a key."""

    PUT = "put"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one key.

    Of a DELETE ``kv`` has the key and, as ``mod_revision``, when it was deleted; its other fields are empty.
    ``previous`` is what stood there before: None for a new key, and where compaction has forgotten it.
    """

    kind: EventKind
    kv: KeyValue
    previous: KeyValue | None = None


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """All changes of ``revision`` under the watched prefix, in the order in which they were made.

    Without events it is a bookmark: everything up to and including ``revision`` has been delivered.
    """

    events: tuple[Event, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """Set ``key``; under ``lease``, or, if that is 0, for good."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove ``key``, if it is there."""

    key: str


@dataclass(frozen=True, slots=True)
class DeletePrefix:
    """Remove all keys that start with ``prefix``; every key, if that is empty."""

    prefix: str


Operation = Put | Delete | DeletePrefix


class Field(enum.Enum):
    """What of a key is compared; both are 0 for an absent key."""

    CREATED = "create_revision"
    MODIFIED = "mod_revision"


class Relation(enum.Enum):
    """How the key's own figure must stand to the one given."""

    EQUAL = "="
    GREATER = ">"
    LESS = "<"


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction. Use :func:`created`, :func:`modified` and :func:`absent`."""

    key: str
    field: Field
    revision: int
    relation: Relation = Relation.EQUAL

    def holds(self, kv: KeyValue | None) -> bool:
        """Whether ``kv``, what stands at the key, meets the condition."""
        actual = 0
        if kv is not None:
            actual = kv.create_revision if self.field is Field.CREATED else kv.mod_revision
        match self.relation:
            case Relation.EQUAL:
                return actual == self.revision
            case Relation.GREATER:
                return actual > self.revision
            case Relation.LESS:
                return actual < self.revision


def created(key: str, revision: int, relation: Relation = Relation.EQUAL) -> Compare:
    """The key was created at ``revision`` and not deleted since."""
    return Compare(key, Field.CREATED, revision, relation)


def modified(key: str, revision: int, relation: Relation = Relation.EQUAL) -> Compare:
    """The key was last put at ``revision``."""
    return Compare(key, Field.MODIFIED, revision, relation)


def absent(key: str) -> Compare:
    """There is no such key."""
    return Compare(key, Field.CREATED, 0)


@dataclass(frozen=True, slots=True)
class TxnResult:
    """How a transaction ended.

    ``revision`` is the one it made; the store's own where it changed nothing. ``reads`` are what stood at the
    keys of ``otherwise``, in their order, when a compare failed; empty when all held.
    """

    succeeded: bool
    revision: int
    reads: tuple[KeyValue | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Range:
    """Keys in byte order, all read at ``revision``; ``more`` if the limit left some out.

    Watching from ``revision + 1`` misses nothing and repeats nothing.
    """

    items: tuple[KeyValue, ...]
    revision: int
    more: bool


class Store(Protocol):
    """See the module. Any method may raise :class:`StoreUnavailableError`; writes also UncertainError."""

    async def get(self, key: str) -> KeyValue | None:
        """What stands at ``key``."""
        ...

    async def get_with_revision(self, key: str) -> tuple[KeyValue | None, int]:
        """What stands at ``key``, and the store's revision at which that was read."""
        ...

    async def range(self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0) -> Range:
        """Keys that start with ``prefix`` and come after ``start_after``; at most ``limit`` unless that is 0.

        ``revision`` reads the past, so that the pages of a list belong together; 0 reads the present.

        Raises:
            CompactedError: ``revision`` is forgotten.
            FutureRevisionError: ``revision`` is above the store's own.
        """
        ...

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Operation], *, otherwise: Sequence[str] = ()
    ) -> TxnResult:
        """Do all of ``then`` if all ``compares`` hold, else read the keys ``otherwise``; one atomic step.

        Raises:
            InvalidRequestError: Too many operations, too many bytes, an impossible key, or a key that is put
                twice or both put and deleted. Code REQUEST_TOO_LARGE where size is the reason.
            LeaseNotFoundError: A put, in a transaction whose compares hold, names a lease that is gone.
        """
        ...

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Set ``key`` and return the revision; raises what :meth:`transact` raises."""
        ...

    async def delete(self, key: str) -> bool:
        """Remove ``key``; whether it was there."""
        ...

    def watch(
        self, prefix: str, *, start_revision: int = 0
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        """Every change under ``prefix`` from ``start_revision`` on, past and to come; 0 is from entering on.

        Batches come in the order of revisions, none twice, none left out, none before it is durable, and a
        bookmark at least every ``BOOKMARK_INTERVAL_S``. A revision above the store's own waits for it. A slow
        reader costs no memory: what it has not taken is read from the history again, and if that has been
        compacted, it gets CompactedError. An iterator serves one task.

        Raises:
            CompactedError: On entering or while iterating: list again.
            StoreUnavailableError: On entering or while iterating, also when the store is closed meanwhile.
        """
        ...

    async def grant(self, ttl_s: float) -> int:
        """A new lease that ends ``ttl_s`` after the last sign of life; the store may round it up to a second.

        Raises:
            InvalidRequestError: ``ttl_s`` is not above 0 or is over ten years.
        """
        ...

    async def keep_alive(self, lease: int) -> bool:
        """Give ``lease`` its full time again; False if it has ended."""
        ...

    async def revoke(self, lease: int) -> None:
        """End ``lease`` and delete its keys in one revision.

        Raises:
            LeaseNotFoundError: It has ended before.
        """
        ...

    async def lease_remaining(self, lease: int) -> float | None:
        """Seconds until ``lease`` ends; None if it has ended."""
        ...

    async def compact(self, revision: int) -> None:
        """Forget the history before ``revision``.

        Raises:
            CompactedError: It was compacted there or further before.
            FutureRevisionError: ``revision`` is above the store's own.
        """
        ...

    async def revision(self) -> int:
        """The store's revision."""
        ...
