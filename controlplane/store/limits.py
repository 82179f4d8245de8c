"""What the contract allows in a call, checked before any store is asked: alike for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from controlplane.store.port import (
    MAX_KEY_BYTES,
    MAX_OPERATIONS,
    MAX_TRANSACTION_BYTES,
    OPERATION_BYTES,
    Compare,
    Delete,
    DeletePrefix,
    Operation,
    Put,
)
from swarmplane.errors import Code, InvalidRequestError

MAX_TTL_S: Final = 10 * 365 * 86_400.0


def encode_key(key: str) -> bytes:
    """``key`` as it is stored and ordered.

    Raises:
        InvalidRequestError: It is empty, over ``MAX_KEY_BYTES`` or not encodable.
    """
    encoded = encode_prefix(key)
    if not encoded:
        raise InvalidRequestError("A key of the store can't be empty.")
    return encoded


def encode_prefix(prefix: str) -> bytes:
    """``prefix`` as it is stored and ordered; it may be empty.

    Raises:
        InvalidRequestError: It is over ``MAX_KEY_BYTES`` or not encodable.
    """
    try:
        encoded = prefix.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError("A key of the store must be text that UTF-8 can hold.") from error
    if len(encoded) > MAX_KEY_BYTES:
        raise InvalidRequestError(
            f"A key of the store has at most {MAX_KEY_BYTES} bytes; this one has {len(encoded)}.",
            code=Code.REQUEST_TOO_LARGE,
        )
    return encoded


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key after all that start with ``prefix``; None if there is no such key."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def check_transaction(
    compares: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[str]
) -> None:
    """Refuse what no store takes.

    Raises:
        InvalidRequestError: See :meth:`controlplane.store.port.Store.transact`.
    """
    longest = max(len(compares), len(then), len(otherwise))
    if longest > MAX_OPERATIONS:
        raise InvalidRequestError(
            f"A transaction has at most {MAX_OPERATIONS} compares, operations and reads each; this one has "
            f"{longest}. Split it.",
            code=Code.REQUEST_TOO_LARGE,
        )
    keys = [compare.key for compare in compares] + [*otherwise]
    total = sum(len(encode_key(key)) + OPERATION_BYTES for key in keys)
    total += sum(_bytes_of(operation) for operation in then)
    if total > MAX_TRANSACTION_BYTES:
        raise InvalidRequestError(
            f"A transaction holds at most {MAX_TRANSACTION_BYTES} bytes; this one has {total}.",
            code=Code.REQUEST_TOO_LARGE,
        )
    _check_overlaps(then)


def check_ttl(ttl_s: float) -> None:
    """Refuse a time that no lease can have.

    Raises:
        InvalidRequestError: It is not above 0, or over ``MAX_TTL_S``.
    """
    if not (math.isfinite(ttl_s) and 0 < ttl_s <= MAX_TTL_S):
        raise InvalidRequestError(
            f"A lease lives for more than 0 and at most {MAX_TTL_S:.0f} seconds, not {ttl_s}."
        )


def _bytes_of(operation: Operation) -> int:
    match operation:
        case Put(key=key, value=value):
            return len(encode_key(key)) + len(value) + OPERATION_BYTES
        case Delete(key=key):
            return len(encode_key(key)) + OPERATION_BYTES
        case DeletePrefix(prefix=prefix):
            return len(encode_prefix(prefix)) + OPERATION_BYTES


def _check_overlaps(then: Iterable[Operation]) -> None:
    # As etcd: each put key once and under no delete, whatever the order; deletes may overlap.
    operations = list(then)
    put = [operation.key for operation in operations if isinstance(operation, Put)]
    deleted = {operation.key for operation in operations if isinstance(operation, Delete)}
    prefixes = tuple(operation.prefix for operation in operations if isinstance(operation, DeletePrefix))
    seen: set[str] = set()
    for key in put:
        if key in seen or key in deleted or key.startswith(prefixes):
            raise InvalidRequestError(
                "A transaction can change a key once: one is put twice, or both put and deleted."
            )
        seen.add(key)
