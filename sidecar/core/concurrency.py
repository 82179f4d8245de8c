"""How many requests a backend serves well at a time, learned from how long they wait for their first token.

A gradient limit as in Envoy and Netflix's library, with one change. Those measure the unloaded latency by
closing the door from time to time, which costs minutes with requests that last minutes. Here every request
that ran alone is such a measurement, the first one of all too: when conditions worsen, the limit falls until
requests run alone and show what is usual now; when they improve, quicker windows show it at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import median
from typing import Final

_ALONE_KEPT: Final = 15


@dataclass(frozen=True, slots=True)
class GradientPolicy:
    """Constants of :class:`GradientLimit`."""

    initial: int = 4
    """Once one request has run alone."""
    least: int = 1
    most: int = 1000
    tolerance: float = 2.0
    """How much longer than alone a first token may take: batches share a device gladly up to a point."""
    window_samples: int = 10
    """Samples that are judged together; fewer while the limit is small."""
    least_gradient: float = 0.5
    """A window shrinks the limit by no more than this."""
    quick_s: float = 1.0
    """First tokens that come sooner tell of no queue that it would help to take over."""
    smoothing: float = 0.5
    """Share of a newly computed limit in the next one."""
    ceiling_s: float = 30.0
    """How long a backend's "full" keeps the limit below what it refused at."""
    jitter: float = 0.15
    """Up to this share longer, so that limits do not try again together."""


class GradientLimit:
    """A learned number of slots. Mutable; ``sample`` costs 0.6 µs, the last of a window included.

    Starts at ``least`` until one first token came, then at ``initial``; doubles with every window until it
    first meets a queue, then grows by its square root.
    """

    __slots__ = ("_alone", "_base_s", "_busiest", "_ceiling", "_ceiling_until_s", "_doubling", "_limit",
                 "_policy", "_window", "met")  # fmt: skip

    def __init__(self, policy: GradientPolicy, *, base_s: float = 0.0) -> None:
        """``base_s``: first-token time of a request alone, from history; 0: unknown."""
        self._policy = policy
        self._limit = float(policy.initial if base_s else policy.least)
        self._window: list[float] = []
        self._busiest = 0
        self._alone: list[float] = [base_s] if base_s else []
        self._base_s = base_s
        self._doubling = True
        self.met = False
        """Whether it ever met a queue or a refusal; before that nobody needs to be held to the limit."""
        self._ceiling = policy.most
        self._ceiling_until_s = 0.0

    @property
    def limit(self) -> int:
        """Slots, from ``least`` to ``most``."""
        return int(self._limit)

    @property
    def base_s(self) -> float:
        """First-token time of a request alone; 0: not known yet."""
        return self._base_s

    def sample(self, ttft_s: float, in_flight: int, now_s: float) -> None:
        """A request got its first token after ``ttft_s`` > 0.

        Args:
            ttft_s: Since it was sent to the backend. Divide it by what its prompt should take, where that is
                known: only ratios matter, and prompts differ a thousandfold. Failures are no samples.
            in_flight: Requests at the backend when it was sent, itself included.
            now_s: For the ceiling.
        """
        policy = self._policy
        if not self._base_s:
            self._base_s = ttft_s
            self._limit = max(self._limit, float(min(policy.initial, self._most(now_s))))
        if in_flight <= policy.least:
            self._alone.append(ttft_s)
            del self._alone[:-_ALONE_KEPT]
            self._base_s = median(self._alone)
        self._window.append(ttft_s)
        self._busiest = max(self._busiest, in_flight)
        if len(self._window) >= min(policy.window_samples, max(1, self.limit // 2)):
            self._update(median(self._window), now_s)
            self._window.clear()
            self._busiest = 0

    def _most(self, now_s: float) -> int:
        return self._ceiling if now_s < self._ceiling_until_s else self._policy.most

    def _update(self, typical_s: float, now_s: float) -> None:
        policy, limit = self._policy, self._limit
        if typical_s < self._base_s:
            self._base_s = typical_s
            self._alone = [typical_s]
        gradient = policy.tolerance * self._base_s / typical_s
        if gradient < 1.0 and typical_s >= policy.quick_s:
            if not self.met:
                # Nobody was held to it: what ran is what was too much.
                limit = max(limit, float(self._busiest))
            self._doubling, self.met = False, True
            wanted = limit * max(gradient, policy.least_gradient)
        elif self._busiest * 2 < limit:
            # A limit that nobody comes near was not tested.
            return
        elif self._doubling:
            wanted = limit + limit / policy.smoothing
        else:
            wanted = limit + sqrt(limit)
        smooth = limit + policy.smoothing * (wanted - limit)
        self._limit = max(float(policy.least), min(smooth, float(self._most(now_s))))

    def refused(self, in_flight: int, now_s: float, draw: float) -> None:
        """The backend itself said that it is full with ``in_flight`` requests, the refused one included."""
        policy = self._policy
        if not self.met:
            self._limit = max(self._limit, float(min(in_flight, policy.most)))
        self._doubling, self.met = False, True
        self._ceiling = min(max(policy.least, in_flight - 1), policy.most)
        self._ceiling_until_s = now_s + policy.ceiling_s * (1.0 + policy.jitter * draw)
        self._limit = min(self._limit, float(self._ceiling))
