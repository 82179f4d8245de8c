"""A small histogram of positive numbers from which quantiles are read; old samples fade."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from math import isfinite, log
from typing import Final

SMALLEST: Final = 1e-7
"""Upper end of the first bucket."""
GROWTH: Final = 1.2
"""Each bucket is this much wider than the one before; a quantile errs by less than this ratio."""
BUCKETS: Final = 128
"""Enough up to a thousand; larger numbers stand in the last one."""
KEPT: Final = 256
"""Weight of all samples at most: with more, every sample counts half, so that the last few hundred decide."""

_SCALE: Final = 1.0 / log(GROWTH)
_SHIFT: Final = -log(SMALLEST) * _SCALE

SketchState = tuple[tuple[int, float, float], ...]
"""Bucket, weight and sum of each bucket that holds anything: plain values to keep on disk."""


class Sketch:
    """Quantiles in fixed memory (about 2.5 KB). Adding is O(1), 0.6 µs; reading O(buckets), 3 µs.

    A quantile is the mean of its bucket, so that samples which hardly differ are given back as they are.
    """

    __slots__ = ("_sums", "_weights", "total")

    def __init__(self) -> None:
        self._weights = [0.0] * BUCKETS
        self._sums = [0.0] * BUCKETS
        self.total = 0.0
        """Weight of all samples; the number of them until the first halving."""

    def add(self, value: float) -> None:
        """Count ``value``, which is finite; anything below the smallest bucket counts as zero would."""
        bucket = 0
        if value > SMALLEST:
            bucket = min(int(log(value) * _SCALE + _SHIFT) + 1, BUCKETS - 1)
        self._weights[bucket] += 1.0
        self._sums[bucket] += value
        self.total += 1.0
        if self.total >= KEPT:
            self.fade(0.5)

    def fade(self, share: float) -> None:
        """Let every sample count only ``share`` of what it did; 0 forgets them."""
        self._weights = [weight * share for weight in self._weights]
        self._sums = [total * share for total in self._sums]
        self.total *= share

    def quantile(self, share: float) -> float:
        """The value that ``share`` of the samples do not exceed, roughly; 0 where there are none."""
        return self.quantiles(share)[0]

    def quantiles(self, *shares: float) -> list[float]:
        """:meth:`quantile` of each, read together."""
        if not self.total:
            return [0.0] * len(shares)
        weights, sums = self._weights, self._sums
        below = list(accumulate(weights))
        found = []
        for share in shares:
            bucket = bisect_left(below, share * below[-1])
            # Rounding may leave a share of 1 a hair above the sum: then the last bucket that holds anything.
            while not weights[bucket]:
                bucket += 1
            found.append(sums[bucket] / weights[bucket])
        return found

    def export(self) -> SketchState:
        """Plain values for :meth:`restored`."""
        return tuple(
            (bucket, weight, total)
            for bucket, (weight, total) in enumerate(zip(self._weights, self._sums, strict=True))
            if weight
        )

    @classmethod
    def restored(cls, state: Iterable[tuple[int, float, float]]) -> Sketch:
        """The sketch that was exported; buckets that make no sense are left out."""
        sketch = cls()
        for bucket, weight, total in state:
            if 0 <= bucket < BUCKETS and 0.0 < weight <= KEPT and isfinite(total) and total >= 0.0:
                sketch._weights[bucket] += weight
                sketch._sums[bucket] += total
        sketch.total = sum(sketch._weights)
        return sketch
