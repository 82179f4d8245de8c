"""Which node pulls a model that somebody asked for, and whether any does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from swarmplane.ids import BackendName, NodeId
from swarmplane.inventory import Inventory, ModelState
from swarmplane.pulls import FAILED, RUNNING

MOST_RUNNING: Final = 4
"""Pulls of a swarm at a time."""
MOST_KEPT: Final = 64
"""Pulls that are remembered; of others that ended nothing is known any more."""
SILENT_S: Final = 600.0
"""A pull of which so long nothing was heard is begun again; backends are silent while they check it."""
AGAIN_S: Final = 60.0
"""One that failed is not begun again for so long: whoever asks is told no."""
_PULLS: Final = "ollama"


@dataclass(frozen=True, slots=True)
class Place:
    """A node that is connected, takes requests and understands to pull."""

    node: NodeId
    inventory: Inventory
    pulls: int = 0
    """Of those that run."""


def best_place(places: Iterable[Place]) -> tuple[NodeId, BackendName] | None:
    """Where a model of unknown size fits best: few pulls, then much memory that no loaded model takes.

    Only backends that can pull count; of one node the first. None: there is none.
    """
    found = []
    for place in places:
        backend = next((b for b in place.inventory.backends if b.kind == _PULLS and b.healthy), None)
        if backend is not None:
            found.append((place.pulls, -_free_bytes(place.inventory), place.node, backend.name))
    return min(found)[2:] if found else None


def _free_bytes(inventory: Inventory) -> int:
    loaded = (
        model.size_bytes
        for backend in inventory.backends
        for model in backend.models
        if model.state is ModelState.LOADED
    )
    return inventory.memory_bytes - sum(loaded)


def may_begin(state: str, silent_s: float, *, there: bool) -> bool:
    """Whether a model whose last pull is in ``state`` and was silent for ``silent_s`` is pulled again.

    ``there``: whether the node that pulled it is.
    """
    if state == RUNNING:
        return not there or silent_s >= SILENT_S
    return state != FAILED or silent_s >= AGAIN_S
