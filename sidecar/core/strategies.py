"""The order in which candidates are asked: strategies as pure functions of candidates and one random draw."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from operator import attrgetter
from types import MappingProxyType
from typing import Final

from sidecar.core.candidate import Candidate

NEAR_RATIO: Final = 1.1
"""Costs within this ratio of the lowest are equal: equal knowledge must not herd (PROTOCOL section 4)."""
DRAWN: Final = 16
DEFAULT_STRATEGY: Final = "local_spillover"


def least_load(candidates: Sequence[Candidate], draw: float) -> tuple[Candidate, ...]:
    """Least loaded first; near ties stand in random order, taken from ``draw`` in [0, 1).

    Above 16 only the first one is drawn: the others follow by load, equals by id. O(n log n), 50 µs for 100.
    """
    rows = sorted([(c.load, c.endpoint.id, c) for c in candidates], key=_by_load)
    costs = [row[0] for row in rows]
    ordered: list[Candidate] = []
    picks = len(rows) if len(rows) <= DRAWN else 1
    for _ in range(picks):
        tied = bisect_right(costs, costs[0] * NEAR_RATIO)
        # One draw serves every pick: the integer part chooses, the fraction goes on as the next draw.
        scaled = draw * tied
        chosen = min(int(scaled), tied - 1)
        draw = scaled - chosen
        del costs[chosen]
        ordered.append(rows.pop(chosen)[2])
    return (*ordered, *(row[2] for row in rows))


def _by_load(row: tuple[float, str, Candidate]) -> tuple[float, str]:
    return row[0], row[1]


def local_spillover(candidates: Sequence[Candidate], draw: float) -> tuple[Candidate, ...]:
    """This host while it has room, then whoever has, then the full ones; each group least loaded first.

    A suspected host is not at home: with its cost it comes after all others with room.
    """
    home: list[Candidate] = []
    away: list[Candidate] = []
    full: list[Candidate] = []
    for candidate in candidates:
        if not candidate.has_room:
            full.append(candidate)
        elif candidate.local and not candidate.suspect:
            home.append(candidate)
        else:
            away.append(candidate)
    ordered: list[Candidate] = []
    for group in (home, away, full):
        ordered += least_load(group, draw) if len(group) > 1 else group
    return tuple(ordered)


def local_first(candidates: Sequence[Candidate], draw: float) -> tuple[Candidate, ...]:
    """This host, full or not, then the others; each group least loaded first."""
    home = [c for c in candidates if c.local]
    away = [c for c in candidates if not c.local]
    return least_load(home, draw) + least_load(away, draw)


def front_by_load(candidates: Sequence[Candidate], strategy: str) -> Sequence[Candidate]:
    """Those that :func:`order` by one of :data:`BY_LOAD` puts first, each as likely as the others.

    It follows from the candidates alone, of which there is one at least: 0.1 µs for each of them.
    """
    front: Sequence[Candidate] = candidates
    if strategy == "local_spillover":
        front = [c for c in candidates if c.has_room and c.local and not c.suspect]
        front = front or [c for c in candidates if c.has_room] or candidates
    elif strategy == "local_first":
        front = [c for c in candidates if c.local] or candidates
    limit = min(map(_load_of, front)) * NEAR_RATIO
    return [c for c in front if c.load <= limit]


_load_of: Final = attrgetter("load")


def drawn(front: Sequence[Candidate], draw: float) -> tuple[Candidate, float]:
    """One of the ``front``, and the ``draw`` for the others.

    Which of near ties a ``draw`` means depends on their order; how likely each is does not.
    """
    scaled = draw * len(front)
    chosen = min(int(scaled), len(front) - 1)
    return front[chosen], scaled - chosen


def by_load(candidates: Sequence[Candidate], strategy: str, draw: float) -> Iterator[Candidate]:
    """All ``candidates`` as likely as :func:`order` gives them, ordered when they are needed."""
    if candidates:
        first, draw = drawn(front_by_load(candidates, strategy), draw)
        yield first
        yield from order([c for c in candidates if c is not first], strategy, draw)


def round_robin(candidates: Sequence[Candidate], turn: int) -> tuple[Candidate, ...]:
    """In the order of their ids, each turn beginning one further; suspects come last."""
    trusted = _by_id(c for c in candidates if not c.suspect)
    suspects = _by_id(c for c in candidates if c.suspect)
    return _turned(trusted, turn) + _turned(suspects, turn)


def batch_shard(candidates: Sequence[Candidate], shard: int, batch: str) -> tuple[Candidate, ...]:
    """The ``shard``-th of them, counted round by id; without an index (-1) rendezvous hashing of ``batch``.

    Suspects keep their places: whoever holds a part of the batch goes on holding it.
    """
    if shard >= 0:
        return _turned(_by_id(candidates), shard)
    key = blake2b(batch.encode(errors="surrogatepass")).digest()
    return tuple(
        sorted(candidates, key=lambda c: blake2b(c.endpoint.id.encode(), digest_size=8, key=key).digest())
    )


def failover(candidates: Sequence[Candidate], preferred: Sequence[str]) -> tuple[Candidate, ...]:
    """Always the same one while it lives: ``preferred`` nodes (names or ids), then this host, then by id.

    Suspects come last.
    """
    ranks = {node: rank for rank, node in reversed(list(enumerate(preferred)))}
    last = len(ranks)

    def key(c: Candidate) -> tuple[bool, int, bool, str]:
        rank = min(ranks.get(c.node_name, last), ranks.get(c.endpoint.node, last))
        return c.suspect, rank, not c.local, c.endpoint.id

    return tuple(sorted(candidates, key=key))


def _by_id(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    return tuple(sorted(candidates, key=lambda c: c.endpoint.id))


def _turned(candidates: tuple[Candidate, ...], turn: int) -> tuple[Candidate, ...]:
    first = turn % len(candidates) if candidates else 0
    return candidates[first:] + candidates[:first]


BY_LOAD: Final[Mapping[str, Callable[[Sequence[Candidate], float], tuple[Candidate, ...]]]] = (
    MappingProxyType(
        {
            "local_spillover": local_spillover,
            "local_first": local_first,
            "least_load": least_load,
            # Where nothing is measured, load is all there is to tell them apart: see choosing.Chooser.
            "least_cost": least_load,
            "latency": least_load,
        }
    )
)
STRATEGIES: Final = frozenset({*BY_LOAD, "round_robin", "batch_shard", "failover"})


def effective(*wanted: str) -> str:
    """The first known strategy of ``wanted``: the request's, the model's, the swarm's; else the default.

    Empty and unknown names are passed over: a policy of a newer version must not stop an older sidecar.
    """
    for strategy in wanted:
        if strategy in STRATEGIES:
            return strategy
    return DEFAULT_STRATEGY


def order(
    candidates: Sequence[Candidate],
    strategy: str,
    draw: float,
    *,
    turn: int = 0,
    shard: int = -1,
    batch: str = "",
    preferred: Sequence[str] = (),
) -> tuple[Candidate, ...]:
    """All ``candidates``, the one to ask first in front. An unknown ``strategy`` means the default one.

    Args:
        candidates: May be empty; their order does not matter.
        strategy: Its name, as in ``x-swarm-strategy``.
        draw: Uniform in [0, 1).
        turn: For ``round_robin``: counts up with every request.
        shard: For ``batch_shard``: the request's index in its batch; -1 where it has none.
        batch: For ``batch_shard``: the batch's name, where there is no index.
        preferred: For ``failover``: node names or ids, best first.
    """
    if len(candidates) < 2:  # noqa: PLR2004
        return tuple(candidates)
    if strategy == "round_robin":
        return round_robin(candidates, turn)
    if strategy == "batch_shard" and (shard >= 0 or batch):
        return batch_shard(candidates, shard, batch)
    if strategy == "failover":
        return failover(candidates, preferred)
    # A shard of no batch is a request like any other.
    fallback = least_load if strategy == "batch_shard" else local_spillover
    return BY_LOAD.get(strategy, fallback)(candidates, draw)
