"""Random picks from one draw: among near ties, of two samples, and of what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final

from sidecar.core.candidate import ASSUMED_SLOTS, Candidate

NEAR_SHARE: Final = 0.1
NEAR_S: Final = 0.02
"""Costs within 10 % or 20 ms of the lowest are equal: equal knowledge must not herd (PROTOCOL section 4)."""
IDLE_WEIGHT: Final = 4
_LEAST_S: Final = 0.001
_STIRRED: Final = 9_301.0


def spread(draw: float) -> float:
    """Another number in [0, 1) from a ``draw`` that was used already: its lower digits."""
    stirred = draw * _STIRRED
    return stirred - int(stirred)


def weight(candidate: Candidate) -> int:
    """Free slots, so that ties are shared by capacity; an idle one counts more, a full one still a little."""
    ahead = candidate.in_flight + candidate.queued
    slots = candidate.slots or ASSUMED_SLOTS
    return max(slots - ahead, 1) if ahead else slots * IDLE_WEIGHT


def pick(costs: Sequence[float], weigh: Callable[[int], float], draw: float) -> tuple[int, float]:
    """The place of a random one of those near the lowest cost, and what is left of ``draw``.

    Weighted by ``weigh`` of the place and by the inverse fourth power of the cost: 20 ms are no tie to
    endpoints which answer in five. Costs may be negative.
    """
    lowest = min(costs)
    limit = lowest + max(abs(lowest) * NEAR_SHARE, NEAR_S)
    base = max(abs(lowest), _LEAST_S)
    places: list[int] = []
    sums: list[float] = []
    total = 0.0
    for place, value in enumerate(costs):
        if value <= limit:
            closeness = base / (base + value - lowest)
            total += weigh(place) * closeness**4
            places.append(place)
            sums.append(total)
    if len(places) == 1:
        return places[0], draw
    aim = draw * total
    for place, upper in zip(places, sums, strict=True):
        if aim < upper:
            return place, spread(draw)
    return places[-1], spread(draw)


def two_of(count: int, draw: float) -> tuple[int, int]:
    """Two different places below ``count``, which is at least 2; every pair is equally likely."""
    pair = min(int(draw * count * (count - 1)), count * (count - 1) - 1)
    first, step = divmod(pair, count - 1)
    return first, (first + 1 + step) % count


def lowest_first(candidates: list[Candidate], draw: float) -> list[Candidate]:
    """Least loaded first, equals in an order that ``draw`` turns. O(n log n)."""
    if not candidates:
        return candidates
    turn = int(draw * len(candidates))
    return sorted(candidates[turn:] + candidates[:turn], key=attrgetter("load"))


def with_room(some: list[Candidate], candidates: Sequence[Candidate], draw: float) -> list[Candidate]:
    """``some``, and two with a free slot where they have none: nobody waits beside one that was not drawn."""
    if any(c.has_room and not c.suspect for c in some):
        return some
    roomy = [c for c in candidates if c.has_room and not c.suspect]
    return some + ([roomy[place] for place in two_of(len(roomy), draw)] if len(roomy) > 1 else roomy)
