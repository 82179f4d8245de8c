"""What holds for a whole swarm, as sidecars get it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from swarmplane.client_keys import ClientKey
from swarmplane.fallbacks import NO_FALLBACKS, FallbackPolicy
from swarmplane.ids import SubjectId
from swarmplane.pulls import Pull
from swarmplane.routes import Version

STRATEGIES: Final = frozenset(
    {
        "least_cost",
        "local_spillover",
        "local_first",
        "least_load",
        "round_robin",
        "latency",
        "batch_shard",
        "failover",
    }
)
"""How requests may be balanced."""
CONTEXT_PROTECTIONS: Final = frozenset({"strip", "warn", "passthrough"})


@dataclass(frozen=True, slots=True)
class Policy:
    """Replaced whole."""

    version: Version = field(default_factory=Version)
    """The store's at the last change."""
    denied: frozenset[SubjectId] = frozenset()
    """Subjects whose certificates are refused whatever their dates."""
    default_strategy: str = "least_cost"
    """Balancing strategy where a model names none."""
    fallbacks: FallbackPolicy = NO_FALLBACKS
    pulls: tuple[Pull, ...] = ()
    """Models that are being pulled now."""
    keys: tuple[ClientKey, ...] = ()
    """API keys of clients, by id; those in force."""
    default_context: str = ""
    """What is done about requests that make a server load a model again with another context, where the model
    says nothing: one of :data:`CONTEXT_PROTECTIONS`; empty: ``strip``."""
    open: bool = False
    """Whether nodes enrol without a token."""
