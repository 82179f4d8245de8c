"""Whether what clients saw of registers could have been one after another (Wing and Gong, with memory). Pure.

A history is linearizable if each operation can be given one moment between its call and its return so that,
in the order of these moments, every answer is right. Keys are independent of each other, so each is
searched alone. An operation whose outcome is unknown may have happened at any time after its call, or never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf

STEPS = 2_000_000
"""So many states are looked at before the search is given up as undecided."""


class Act(Enum):
    """What was asked of a register; None stands for a register without a value."""

    GET = "get"
    PUT = "put"
    SWAP = "swap"
    """Put ``value`` if ``expected`` stands there."""
    DELETE = "delete"


@dataclass(frozen=True)
class Operation:
    """One call as its client saw it.

    ``answer``: of GET the value, of SWAP and DELETE whether it was done; not used where ``certain`` is False.
    """

    client: str
    key: str
    act: Act
    called_s: float
    returned_s: float
    value: str | None = None
    expected: str | None = None
    answer: str | bool | None = None
    certain: bool = True
    revision: int = 0
    """Of a write that was acknowledged."""

    @property
    def ends_s(self) -> float:
        """Until when it may have happened."""
        return self.returned_s if self.certain else inf

    def __str__(self) -> str:
        shown = {Act.PUT: self.value, Act.SWAP: f"{self.expected}->{self.value}"}.get(self.act, "")
        answer = self.answer if self.certain else "?"
        return (
            f"{self.client} {self.act.value}({self.key} {shown}) = {answer} "
            f"[{self.called_s:.3f}, {self.returned_s:.3f}]"
        )


def after(operation: Operation, state: str | None) -> tuple[bool, str | None]:
    """Whether ``operation`` may have been answered as it was in ``state``, and the state it leaves."""
    match operation.act:
        case Act.GET:
            return operation.answer == state, state
        case Act.PUT:
            return True, operation.value
        case Act.SWAP:
            done = state == operation.expected
            right = not operation.certain or operation.answer is done
            return right, operation.value if done else state
        case Act.DELETE:
            right = not operation.certain or operation.answer is (state is not None)
            return right, None


@dataclass(frozen=True)
class Verdict:
    """Of one key."""

    key: str
    ok: bool
    """Also if undecided."""
    decided: bool = True
    stuck: tuple[Operation, ...] = ()
    """Where the longest attempt could not go on: none of these could be next."""


def check(history: Iterable[Operation], initial: Mapping[str, str] | None = None) -> list[Verdict]:
    """One verdict per key."""
    keys: dict[str, list[Operation]] = {}
    for operation in history:
        # A read that was not answered says nothing.
        if operation.certain or operation.act is not Act.GET:
            keys.setdefault(operation.key, []).append(operation)
    return [_check(key, operations, (initial or {}).get(key)) for key, operations in sorted(keys.items())]


def _check(key: str, history: Sequence[Operation], state: str | None) -> Verdict:
    """Depth first over (which operations are placed, what stands there).

    All certain operations must be placed; one may be next if it was called before any unplaced certain one
    returned.
    """
    ordered = sorted(history, key=lambda one: one.called_s)
    goal = sum(1 << n for n, one in enumerate(ordered) if one.certain)
    seen: set[tuple[int, str | None]] = set()
    waiting: list[tuple[int, str | None, int]] = [(0, state, 0)]
    furthest, stuck = -1, ()
    while waiting:
        placed, state, first = waiting.pop()
        if placed & goal == goal:
            return Verdict(key, ok=True)
        if len(seen) > STEPS:
            return Verdict(key, ok=True, decided=False)
        while placed >> first & 1:
            first += 1
        candidates = _next(ordered, placed, first)
        count = (placed & goal).bit_count()
        if count > furthest:
            furthest, stuck = count, tuple(ordered[n] for n in candidates)
        for n in reversed(candidates):
            right, left = after(ordered[n], state)
            found = (placed | 1 << n, left)
            if right and found not in seen:
                seen.add(found)
                waiting.append((*found, first))
    return Verdict(key, ok=False, stuck=stuck)


def _next(ordered: Sequence[Operation], placed: int, first: int) -> list[int]:
    """Those that may come next: called before the earliest end of what is not placed."""
    ends_s = inf
    found: list[int] = []
    for n in range(first, len(ordered)):
        one = ordered[n]
        if one.called_s > ends_s:
            break
        if not placed >> n & 1:
            found.append(n)
            ends_s = min(ends_s, one.ends_s)
    # Certain ones first: unknown ones are placed only where they are needed.
    return sorted((n for n in found if ordered[n].called_s <= ends_s), key=lambda n: not ordered[n].certain)


def out_of_order(history: Iterable[Operation]) -> list[tuple[Operation, Operation]]:
    """Writes that were over before another, of whatever key, was called, and yet have no lower revision."""
    writes = [one for one in history if one.certain and one.revision]
    called = sorted(writes, key=lambda one: one.called_s)
    returned = sorted(writes, key=lambda one: one.returned_s)
    found: list[tuple[Operation, Operation]] = []
    highest: Operation | None = None
    n = 0
    for one in called:
        while n < len(returned) and returned[n].returned_s < one.called_s:
            if highest is None or returned[n].revision > highest.revision:
                highest = returned[n]
            n += 1
        if highest is not None and highest.revision >= one.revision:
            found.append((highest, one))
    return found
