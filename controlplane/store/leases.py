"""When leases end: plain bookkeeping on a clock that counts suspend, without waiting or storing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_LONGEST_REST_S: Final = 1.0
_SHORTEST_REST_S: Final = 0.05
_TOLERATED_GAP_S: Final = 1.0


class LeaseTimes:
    """Which leases live, and until when.

    Whoever reaps asks :meth:`rest_s`, waits that long and takes :meth:`ended`. If it comes back more than a
    second late, because the machine slept or the loop was stuck, holders could not renew meanwhile: every
    lease gets that time on top (PROTOCOL section 2). Every method notices such a gap, so it does not matter
    who runs first after it.
    """

    def __init__(self, ttls: Mapping[int, float], now_s: float) -> None:
        """All of ``ttls`` (seconds by lease) start anew: nobody could renew while nobody listened."""
        self._ttls = dict(ttls)
        self._deadlines = {lease: now_s + ttl_s for lease, ttl_s in ttls.items()}
        self._ended: set[int] = set()
        self._due_s = now_s + _LONGEST_REST_S

    def grant(self, lease: int, ttl_s: float, now_s: float) -> None:
        """``lease`` lives from now on."""
        self._absorb_gap(now_s)
        self._ttls[lease] = ttl_s
        self._deadlines[lease] = now_s + ttl_s

    def renew(self, lease: int, now_s: float) -> bool:
        """Give ``lease`` its full time again; False if it has ended or never was."""
        self._absorb_gap(now_s)
        if self._deadlines.get(lease, now_s) <= now_s:
            return False
        self._deadlines[lease] = now_s + self._ttls[lease]
        return True

    def remaining_s(self, lease: int, now_s: float) -> float | None:
        """Seconds until ``lease`` ends; None if it has ended or never was."""
        self._absorb_gap(now_s)
        left_s = self._deadlines.get(lease, now_s) - now_s
        return left_s if left_s > 0 else None

    def end(self, lease: int) -> bool:
        """End ``lease`` now; whether it still lived. It is among :meth:`ended` until forgotten."""
        if self._deadlines.pop(lease, None) is None:
            return False
        self._ended.add(lease)
        return True

    def ended(self, now_s: float) -> tuple[int, ...]:
        """Leases whose time is over and that are not forgotten yet, whose keys are still to be deleted."""
        self._absorb_gap(now_s)
        for lease in [lease for lease, deadline_s in self._deadlines.items() if deadline_s <= now_s]:
            self.end(lease)
        return tuple(sorted(self._ended))

    def forget(self, lease: int) -> None:
        """``lease`` and its keys are gone from the store."""
        self._ttls.pop(lease, None)
        self._deadlines.pop(lease, None)
        self._ended.discard(lease)

    def rest_s(self, now_s: float) -> float:
        """How long to wait until :meth:`ended` is worth asking, between 50 ms and a second."""
        soonest_s = min(self._deadlines.values(), default=now_s + _LONGEST_REST_S)
        rest_s = min(max(soonest_s - now_s, _SHORTEST_REST_S), _LONGEST_REST_S)
        self._due_s = now_s + rest_s
        return rest_s

    def _absorb_gap(self, now_s: float) -> None:
        gap_s = now_s - self._due_s
        if gap_s > _TOLERATED_GAP_S:
            self._deadlines = {lease: at_s + gap_s for lease, at_s in self._deadlines.items()}
            self._due_s = now_s
