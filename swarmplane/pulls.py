"""Models that are pulled because somebody asked for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarmplane.ids import BackendName, NodeId

RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class Pull:
    """One that runs, or is to be begun."""

    model: str
    """As it was asked for."""
    node: NodeId
    backend: BackendName
    eta_s: float = 0.0
    """Expected seconds until the model is there; 0: unknown."""


@dataclass(frozen=True, slots=True)
class PullReport:
    """How one goes, by the node that makes it."""

    model: str
    state: str = RUNNING
    completed_bytes: int = 0
    total_bytes: int = 0
    eta_s: float = 0.0
    reason: str = ""
    """Why it failed, for people; no addresses."""
