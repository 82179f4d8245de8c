"""What holds for a whole swarm, as sidecars get it."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarmplane.ids import SubjectId
from swarmplane.routes import Version


@dataclass(frozen=True, slots=True)
class Policy:
    """Replaced whole."""

    version: Version = field(default_factory=Version)
    """The store's at the last change."""
    denied: frozenset[SubjectId] = frozenset()
    """Subjects whose certificates are refused whatever their dates."""
    default_strategy: str = "least_cost"
    """Balancing strategy where a model names none."""
