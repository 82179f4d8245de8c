"""When a failed call is tried again, and when it is given up. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from swarmplane.errors import Code, SwarmError

ELSEWHERE: Final = frozenset({Code.UNAVAILABLE, Code.NOT_READY, Code.DRAINING})
"""Refusals of an instance, not of the swarm: another one, or the same one later, may answer."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to go on.

    Reads change nothing, and every mutation carries a ``request_id``, so both may be tried again.
    """

    timeout_s: float = 15.0
    """Longest time for one call with all its tries; each try has what is left of it."""
    rounds: int = 4
    """How often each address is tried."""
    base_s: float = 0.1
    """Longest wait after the first round; doubles with each."""
    cap_s: float = 2.0

    def delay_s(
        self, error: SwarmError, tries: int, addresses: int, left_s: float, draw: float
    ) -> float | None:
        """How long to wait before the next try; None: give up and raise ``error``.

        Other addresses are asked at once; once all have failed, with full jitter.

        Args:
            error: Of the last try.
            tries: Made so far, at least 1.
            addresses: How many there are, at least 1.
            left_s: Time left for this call.
            draw: Uniform, 0 to 1.
        """
        if error.code not in ELSEWHERE or tries >= self.rounds * addresses or left_s <= 0:
            return None
        done = tries // addresses
        if tries % addresses:
            return 0.0
        delay_s = min(self.base_s * 2.0 ** min(done - 1, 32), self.cap_s) * draw
        return delay_s if delay_s < left_s else None

    def pause_s(self, failures: int, draw: float) -> float:
        """How long a watch waits before it asks again after ``failures`` in a row, at least 1."""
        return min(self.base_s * 2.0 ** min(failures - 1, 32), self.cap_s) * draw


def stale_s(metadata: Iterable[tuple[str, str | bytes]] | None, key: str) -> float:
    """How old an answer is by its trailing ``metadata``: 0 where ``key`` is not in it."""
    for name, value in metadata or ():
        if name == key and isinstance(value, str):
            try:
                return max(0.0, float(value))
            except ValueError:
                return 0.0
    return 0.0
