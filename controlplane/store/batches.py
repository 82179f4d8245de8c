"""Many changes in as few transactions as hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")
MOST_TOGETHER: Final = 100
"""Leaves room for conditions of the caller's and of ours in a transaction's number of operations."""
MOST_BYTES: Final = 1024 * 1024
"""And in its size."""


def batches(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """``items`` in their order, as many at a time as one transaction holds; none alone is too large for one.

    ``size`` says how many bytes an item takes.
    """
    batch: list[T] = []
    total = 0
    for item in items:
        more = size(item)
        if batch and (len(batch) >= MOST_TOGETHER or total + more > MOST_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += more
    if batch:
        yield batch
