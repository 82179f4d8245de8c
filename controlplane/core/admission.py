"""Which connecting sidecars come in now, which wait, and which come again later. Renewals wait for nobody.

An instance that takes in all that come at once does nothing else meanwhile: leases end, its own too, those
who lost theirs connect again, and it never ends. So few come in at a time; a line that is served before they
lose patience waits; and whoever finds it full is told when its turn will be, one turn after the other, so
that those who were sent away come back at the pace at which they are served.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

_NEW_WEIGHT = 0.1
"""What the last one counts in the mean."""


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """Figures of admission."""

    places: int = 24
    """So many come in at a time: each waits mostly, for the store and for its turn in the loop."""
    patience_s: float = 4.0
    """So long the line may be for whoever can't be told of it: it would go elsewhere, and begin anew."""
    told_patience_s: float = 60.0
    """So long it may be for whoever is told: its handshake, the dearest part, is not thrown away."""
    longest_s: float = 15.0
    """Nobody is sent away for longer."""
    spread: float = 0.25
    """Turns are told off by up to this share of the wait, later: clocks and networks differ anyway."""


class Answer(Enum):
    """What whoever arrives is told."""

    ENTER = "come in"
    WAIT = "there is a place soon"
    LATER = "come again"


@dataclass(frozen=True, slots=True)
class Line:
    """Who is being taken in, and who waits. Start with the default."""

    inside: int = 0
    waiting: int = 0
    each_s: float = 0.05
    """How long one has a place, on the average."""
    told_until_s: float = float("-inf")
    """Turns up to this moment are given to those who were sent away."""


def arrive(
    line: Line, now_s: float, policy: AdmissionPolicy, draw: float, *, told: bool = False
) -> tuple[Line, Answer, float]:
    """One more comes: the line then, the answer, and for LATER after how many seconds to come again.

    ``draw`` is uniform in [0, 1). ``told``: it can be told of the line while it waits.
    """
    if line.inside < policy.places and not line.waiting:
        return replace(line, inside=line.inside + 1), Answer.ENTER, 0.0
    turn_s = line.each_s / policy.places
    wait_s = (line.waiting + 1) * turn_s
    if wait_s <= (policy.told_patience_s if told else policy.patience_s):
        return replace(line, waiting=line.waiting + 1), Answer.WAIT, 0.0
    due_s = max(line.told_until_s, now_s + wait_s) + turn_s
    again_s = min(due_s - now_s, policy.longest_s)
    told_s = min(due_s, now_s + policy.longest_s)
    return replace(line, told_until_s=told_s), Answer.LATER, again_s * (1.0 + policy.spread * draw)


def enter(line: Line) -> Line:
    """One that waited comes in."""
    return replace(line, inside=line.inside + 1, waiting=line.waiting - 1)


def give_up(line: Line) -> Line:
    """One that waited went away."""
    return replace(line, waiting=line.waiting - 1)


def leave(line: Line, took_s: float) -> Line:
    """One that had a place for ``took_s`` is through, or went away."""
    each_s = line.each_s + _NEW_WEIGHT * (took_s - line.each_s)
    return replace(line, inside=line.inside - 1, each_s=each_s)


def crowded(line: Line, policy: AdmissionPolicy) -> bool:
    """Whether what can wait should: some wait to come in, or hold more than a third of the places."""
    return line.waiting > 0 or 3 * line.inside > policy.places


def admits(line: Line, policy: AdmissionPolicy) -> bool:
    """Whether the first of those who wait may come in."""
    return line.waiting > 0 and line.inside < policy.places
