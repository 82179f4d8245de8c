"""The order in which candidates are asked: strategies as pure functions of candidates and one random draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sidecar.core.candidate import ASSUMED_SLOTS, Candidate

SUSPECT_COST: Final = 4.0
"""What suspicion adds, in full sets of slots: a suspect is asked when the others are that far behind."""
NEAR_RATIO: Final = 1.1
"""Costs within this ratio of the lowest are equal: equal knowledge must not herd (PROTOCOL section 4)."""
DEFAULT_STRATEGY: Final = "local_spillover"


def load_cost(candidate: Candidate) -> float:
    """Requests at the endpoint for each of its slots, suspicion included. Never negative."""
    waiting = candidate.in_flight + candidate.queued
    return waiting / (candidate.slots or ASSUMED_SLOTS) + (SUSPECT_COST if candidate.suspect else 0.0)


def least_load(candidates: Sequence[Candidate], draw: float) -> tuple[Candidate, ...]:
    """Least loaded first; near ties stand in random order, taken from ``draw`` in [0, 1)."""
    left = sorted(candidates, key=lambda c: (load_cost(c), c.endpoint.id))
    ordered: list[Candidate] = []
    while left:
        limit = load_cost(left[0]) * NEAR_RATIO
        tied = next((i for i, c in enumerate(left) if load_cost(c) > limit), len(left))
        # One draw serves every pick: the integer part chooses, the fraction goes on as the next draw.
        scaled = draw * tied
        chosen = min(int(scaled), tied - 1)
        draw = scaled - chosen
        ordered.append(left.pop(chosen))
    return tuple(ordered)


def local_spillover(candidates: Sequence[Candidate], draw: float) -> tuple[Candidate, ...]:
    """This host while it has room, then whoever has, then the full ones; each group least loaded first.

    A suspected host is not at home: with its cost it comes after all others with room.
    """

    def group(candidate: Candidate) -> int:
        if not candidate.has_room:
            return 2
        return 0 if candidate.local and not candidate.suspect else 1

    groups: list[list[Candidate]] = [[], [], []]
    for candidate in candidates:
        groups[group(candidate)].append(candidate)
    return tuple(c for members in groups for c in least_load(members, draw))


STRATEGIES: Final[Mapping[str, Callable[[Sequence[Candidate], float], tuple[Candidate, ...]]]] = (
    MappingProxyType({"local_spillover": local_spillover, "least_load": least_load})
)


def is_known(strategy: str) -> bool:
    """Whether this version has the strategy; :func:`order` uses the default for others."""
    return strategy in STRATEGIES


def order(candidates: Sequence[Candidate], strategy: str, draw: float) -> tuple[Candidate, ...]:
    """All ``candidates``, the one to ask first in front. An unknown ``strategy`` means the default one.

    Args:
        candidates: May be empty; their order does not matter.
        strategy: Its name, as in ``x-swarm-strategy``.
        draw: Uniform in [0, 1).
    """
    if len(candidates) < 2:  # noqa: PLR2004
        return tuple(candidates)
    return STRATEGIES.get(strategy, local_spillover)(candidates, draw)
