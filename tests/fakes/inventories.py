"""What nodes have, in few words."""

from __future__ import annotations

from swarmplane.ids import BackendName
from swarmplane.inventory import Backend, BackendModel, Inventory, ModelState


def inventory(*models: str, state: ModelState = ModelState.LOADED, healthy: bool = True) -> Inventory:
    """What a node with one backend has."""
    found = tuple(BackendModel(name, state=state, context_length=4096) for name in models)
    return Inventory((Backend(BackendName("engine"), "openai", healthy, models=found, slots=2),), 2**34, 8)
