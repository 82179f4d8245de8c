"""Whether an answer that began has stopped coming."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LEAST_BEATS: Final = 5
"""An answer that was heard at fewer looks tells nothing about its pace."""
_SHARE: Final = 0.2
"""Of the newest answer in what is usual."""


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


class Pace:
    """How often an answer comes, seen by looking now and then instead of at every piece. 0.2 µs a look.

    Looks are further apart than tokens of a fast model: its gap is then taken for longer than it is, never
    for shorter.
    """

    __slots__ = ("_beats", "_first_s", "_last_s")

    def __init__(self, heard_s: float) -> None:
        self._first_s = self._last_s = heard_s
        self._beats = 0

    def look(self, heard_s: float) -> None:
        """The last piece that came, came at ``heard_s``."""
        if heard_s > self._last_s:
            self._last_s = heard_s
            self._beats += 1

    @property
    def gap_s(self) -> float:
        """Usual time between two pieces; 0: too few came to say."""
        return (self._last_s - self._first_s) / self._beats if self._beats >= LEAST_BEATS else 0.0


class Gaps:
    """The usual gap of every endpoint that streamed an answer; an endpoint is one model on one node."""

    __slots__ = ("_usual_s",)

    def __init__(self) -> None:
        self._usual_s: dict[str, float] = {}

    def of(self, endpoint: str) -> float:
        """Its usual gap in seconds; 0: unknown."""
        return self._usual_s.get(endpoint, 0.0)

    def learn(self, endpoint: str, gap_s: float) -> None:
        """An answer of ``endpoint`` came whole with this gap; 0 teaches nothing."""
        if gap_s > 0.0:
            usual_s = self._usual_s.get(endpoint, gap_s)
            self._usual_s[endpoint] = usual_s + (gap_s - usual_s) * _SHARE

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Forget the endpoints that are not ``wanted``."""
        self._usual_s = {key: gap_s for key, gap_s in self._usual_s.items() if wanted(key)}
