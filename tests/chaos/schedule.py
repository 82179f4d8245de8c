"""What is done to whom and when, drawn from a seed. Pure: one seed is one schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

ETCD = ("e1", "e2", "e3")
INSTANCES = ("i1", "i2", "i3")
MODELS = {"alpha": ("s1", "s2", "s3"), "beta": ("s4", "s5", "s6")}
"""Which sidecars serve which model."""
SIDECARS = tuple(name for names in MODELS.values() for name in names)
ALL = (*ETCD, *INSTANCES, *SIDECARS)
BREATH_S = 4.0
"""From when something is let go until the next of its kind is taken: time to come back."""


class Kind(Enum):
    """What is done."""

    KILL = "kill"
    """Kill -9; started again afterwards."""
    FREEZE = "freeze"
    """SIGSTOP, and SIGCONT afterwards: sockets stay, nobody answers."""
    CUT = "cut"
    """No packet comes or goes, until afterwards."""


@dataclass(frozen=True)
class Fault:
    """One thing done to ``targets`` together, ``at_s`` after the start, for ``for_s``."""

    at_s: float
    for_s: float
    kind: Kind
    targets: tuple[str, ...]

    @property
    def ends_s(self) -> float:
        """When it is let go."""
        return self.at_s + self.for_s

    def __str__(self) -> str:
        return f"{self.at_s:6.1f} s: {self.kind.value} {' '.join(self.targets)} for {self.for_s:.1f} s"


@dataclass(frozen=True)
class Sort:
    """A card of the deck: so many of ``group`` at once, for a time between the two."""

    kind: Kind
    group: Sequence[str]
    many: int
    least_s: float
    most_s: float


def plan(seed: int, seconds: float, kinds: Sequence[Kind] = tuple(Kind)) -> tuple[Fault, ...]:
    """Faults within ``seconds``, in order, every one of them over by then.

    All sorts take part in each round through the deck: every kind on one etcd member, one instance, one
    sidecar; etcd without a majority; all instances at once; sidecars of both models at once, for longer than
    a lease. A target has one fault at a time and then ``BREATH_S``; beside an outage of all, one etcd member
    is taken at most; one sidecar of each model is always left alone.
    """
    random = Random(seed)
    deck: list[Sort] = []
    gap_s = min(4.0, seconds * 0.85 / len(_deck(kinds)))
    faults: list[Fault] = []
    at_s = 1.0
    while at_s < seconds - 2.0:
        if not deck:
            deck = _deck(kinds)
            random.shuffle(deck)
        sort = deck.pop()
        for_s = min(random.uniform(sort.least_s, sort.most_s), seconds - at_s)
        targets = _targets(random, sort, at_s, at_s + for_s, faults)
        if targets:
            faults.append(Fault(at_s, for_s, sort.kind, targets))
        else:
            deck.insert(0, sort)
        at_s += gap_s * random.uniform(0.5, 1.5)
    return tuple(faults)


def _deck(kinds: Sequence[Kind]) -> list[Sort]:
    deck = []
    for kind in kinds:
        deck += [
            Sort(kind, ETCD, 1, 2.0, 6.0),
            Sort(kind, INSTANCES, 1, 2.0, 10.0),
            Sort(kind, SIDECARS, 1, 2.0, 8.0),
            Sort(kind, SIDECARS, 1, 18.0, 32.0),
            Sort(kind, SIDECARS, 2, 15.0, 20.0),
        ]
    deck += [Sort(kinds[0], ETCD, 2, 3.0, 8.0), Sort(kinds[0], INSTANCES, 3, 4.0, 12.0)]
    return deck


def _targets(
    random: Random, sort: Sort, at_s: float, ends_s: float, faults: Sequence[Fault]
) -> tuple[str, ...]:
    """Whom it may be done to beside what is done already; empty: nobody now."""
    taken = {
        name
        for fault in faults
        for name in fault.targets
        if fault.at_s < ends_s + BREATH_S and at_s < fault.ends_s + BREATH_S
    }
    if sort.group is ETCD and taken & set(ETCD):
        return ()
    free = [name for name in sort.group if name not in taken]
    if len(free) < sort.many:
        return ()
    chosen = tuple(sorted(random.sample(free, sort.many)))
    for serving in MODELS.values():
        if set(serving) <= taken | set(chosen):
            return ()
    return chosen


def lines(faults: Sequence[Fault]) -> Iterator[str]:
    """For the log."""
    for fault in faults:
        yield str(fault)
