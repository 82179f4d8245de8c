"""Whether an answer that began has stopped coming."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StallPolicy:
    """Constants of :func:`stall_limit_s`."""

    factor: float = 100.0
    """Of the usual time between two tokens: engines hold back tool calls until they are whole."""
    floor_s: float = 60.0
    hard_s: float = 300.0


def stall_limit_s(usual_gap_s: float, policy: StallPolicy) -> float:
    """The longest silence within an answer, from the usual time between tokens of the model on the node.

    ``usual_gap_s`` 0 means unknown: the hard limit holds, which is the upper bound in any case.
    """
    if usual_gap_s <= 0.0:
        return policy.hard_s
    return min(max(policy.factor * usual_gap_s, policy.floor_s), policy.hard_s)


def silence_s(now_s: float, heard_s: float, *, listening_since_s: float, awake_since_s: float = 0.0) -> float:
    """For how long the upstream has been silent while it could be heard. 0.2 µs.

    Time in which we did not read (a slow client) or did not run (suspended) is not its silence.

    Args:
        now_s: Now.
        heard_s: When its last byte came.
        listening_since_s: When reading was last resumed; inf while it is paused.
        awake_since_s: When this process last noticed a gap of its own.
    """
    return max(0.0, now_s - max(heard_s, listening_since_s, awake_since_s))
