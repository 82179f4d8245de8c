"""Which models clients of this node ask for: in a large swarm it is told of the load of these."""

from __future__ import annotations

from typing import Final

from swarmplane.ids import ModelName

USED_S: Final = 60.0
"""So long after a request its model counts as used."""


class Uses:
    """Costs one dictionary write a request."""

    def __init__(self) -> None:
        self.at_s: dict[ModelName, float] = {}
        """When each was asked for last, where there was a choice. Written on the path of requests."""
        self.wanted: set[str] = set()
        """Models that nobody has and that may be pulled: to be told to the control plane."""

    def note(self, model: ModelName, now_s: float) -> None:
        """A client asked for ``model``, and there was a choice."""
        self.at_s[model] = now_s

    def lately(self, now_s: float) -> frozenset[ModelName]:
        """Those of the last minute."""
        self.at_s = {name: at_s for name, at_s in self.at_s.items() if now_s - at_s < USED_S}
        return frozenset(self.at_s)
