"""Of which endpoints a sidecar hears the load, where there are too many to tell everybody of all. Pure.

Few endpoints in all: everybody hears of all. More: each hears of the models that its clients use, and of a
model with very many endpoints only a stable subset, its aperture (DESIGN section 10; the idea of Finagle's
deterministic apertures). Endpoints and sidecars stand on one ring by the hash of their ids; an aperture is
the run of endpoints that follows the sidecar. One endpoint more or less moves an aperture by at most one, and
every instance finds the same, without being told.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

from swarmplane.ids import EndpointId, ModelName, NodeId

SIZE: Final = 32
"""Endpoints in an aperture."""
WHOLE: Final = 64
"""A model with no more endpoints is heard of whole; so is a swarm."""


class Apertures:
    """The rings of all models. :meth:`replace` costs O(n log n) of endpoints, :meth:`heard` O(models)."""

    def __init__(self) -> None:
        self.version = 0
        """Counts up whenever an answer of :meth:`heard` may differ."""
        self._models: dict[ModelName, tuple[EndpointId, ...]] = {}
        self._rings: dict[ModelName, tuple[tuple[int, EndpointId], ...]] = {}
        self._count = 0

    def replace(self, models: Mapping[ModelName, Iterable[EndpointId]]) -> None:
        """These are all endpoints of all models now."""
        found = {model: tuple(endpoints) for model, endpoints in models.items()}
        if found == self._models:
            return
        self.version += 1
        before, self._models = self._models, found
        self._count = sum(map(len, found.values()))
        self._rings = {
            model: self._rings[model] if before.get(model) == endpoints else _ring(endpoints)
            for model, endpoints in found.items()
        }

    def heard(self, node: NodeId, uses: Iterable[ModelName] | None) -> frozenset[EndpointId] | None:
        """Endpoints whose load ``node`` is told; None: of all, also of those that are not in a table yet.

        Args:
            node: Whom.
            uses: Models that its clients asked for lately; None: it does not say, so each may be meant.
        """
        if self._count <= WHOLE:
            return None
        models = self._rings if uses is None else [model for model in uses if model in self._rings]
        return frozenset(endpoint for model in models for endpoint in _run(self._rings[model], node))


def _ring(endpoints: Iterable[EndpointId]) -> tuple[tuple[int, EndpointId], ...]:
    return tuple(sorted((_place(endpoint), endpoint) for endpoint in endpoints))


def _run(ring: tuple[tuple[int, EndpointId], ...], node: NodeId) -> Iterable[EndpointId]:
    if len(ring) <= WHOLE:
        return (endpoint for _, endpoint in ring)
    start = bisect_left(ring, (_place(node), EndpointId("")))
    run = ring[start : start + SIZE]
    return (endpoint for _, endpoint in (*run, *ring[: SIZE - len(run)]))


def _place(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
