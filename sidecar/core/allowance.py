"""How much of a limit is left that refills evenly, as of so many requests a minute. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Allowance:
    """``left`` units at ``at_s``; below 0 where more was used than there was."""

    left: float
    at_s: float


def refilled(was: Allowance | None, limit: int, period_s: float, now_s: float) -> Allowance:
    """What is left at ``now_s`` of ``limit`` units per ``period_s``, never more than ``limit``. O(1).

    None: nothing was used yet.
    """
    if was is None:
        return Allowance(float(limit), now_s)
    passed_s = max(now_s - was.at_s, 0.0)
    return Allowance(min(was.left + passed_s * limit / period_s, float(limit)), now_s)


def used(has: Allowance, units: float) -> Allowance:
    """``has`` after ``units`` were used."""
    return replace(has, left=has.left - units)


def wait_s(has: Allowance, limit: int, period_s: float, units: float = 1.0) -> float:
    """Seconds until there are ``units``, which are at most ``limit``; 0: now."""
    missing = units - has.left
    return max(missing, 0.0) * period_s / limit
