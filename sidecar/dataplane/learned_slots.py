"""Slots that neither an operator, nor an engine, nor a backend names: learned from first tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidecar.core.concurrency import GradientLimit, GradientPolicy
from swarmplane.ids import EndpointId

_POLICY: Final = GradientPolicy()
_SCALE_TOKENS: Final = 256.0
"""A prompt of so many tokens is granted twice the time of an empty one, and so on."""
_BYTES_PER_TOKEN: Final = 4.0


class LearnedSlots:
    """One limit for each endpoint that was ever sampled. Lives on the event loop.

    One request per endpoint and tick is a sample: what a request costs besides is a look into
    :attr:`wanted`.
    """

    __slots__ = ("_limits", "_unknown", "wanted")

    def __init__(self) -> None:
        self.wanted: set[EndpointId] = set()
        """Endpoints of which a sample is welcome now; who takes one takes the id out."""
        self._unknown: frozenset[EndpointId] = frozenset()
        self._limits: dict[EndpointId, GradientLimit] = {}

    def know(self, unknown: Iterable[EndpointId], *, learn: bool) -> None:
        """These endpoints are without slots that anybody names.

        ``learn``: all of them are sampled; else those only that said themselves that they are full.
        """
        named = frozenset(unknown)
        self._limits = {key: limit for key, limit in self._limits.items() if key in named}
        self._unknown = named if learn else frozenset(self._limits)
        self.wanted &= self._unknown

    def refill(self) -> None:
        """Another tick: one more sample of each."""
        if len(self.wanted) != len(self._unknown):
            self.wanted = set(self._unknown)

    def limit(self, endpoint: EndpointId) -> int:
        """Its slots; 0: it was never seen to be full, so that nobody has to wait."""
        known = self._limits.get(endpoint)
        return known.limit if known is not None and known.met else 0

    def sample(
        self, endpoint: EndpointId, took_s: float, *, in_flight: int, size_bytes: int, now_s: float
    ) -> bool:
        """A first token came: whether its limit changed by that.

        Args:
            endpoint: One that was :attr:`wanted`.
            took_s: Since the request was sent to the backend.
            in_flight: Requests there when it was sent, itself included.
            size_bytes: Of its body, for longer prompts take longer.
            now_s: Monotonic time.
        """
        if endpoint not in self._unknown:
            return False
        before = self.limit(endpoint)
        known = self._limits.get(endpoint)
        if known is None:
            known = self._limits[endpoint] = GradientLimit(_POLICY)
        scale = 1.0 + size_bytes / _BYTES_PER_TOKEN / _SCALE_TOKENS
        known.sample(max(took_s, 1e-6) / scale, in_flight, now_s)
        return self.limit(endpoint) != before

    def refused(self, endpoint: EndpointId, in_flight: int, now_s: float, draw: float) -> None:
        """The backend said that it is full, and not for how long, with so many requests."""
        known = self._limits.get(endpoint)
        if known is None:
            known = self._limits[endpoint] = GradientLimit(_POLICY)
            self._unknown |= {endpoint}
        known.refused(in_flight, now_s, draw)
