"""Acts that take longer than a call."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """Where such an act stands."""

    id: str
    kind: str
    """``drain``, ``load``, ``pull``…"""
    subject: str
    """Id of the thing acted on."""
    state: str = "running"
    """running, done, failed or cancelled."""
    progress: float = 0.0
    """0 to 1."""
    eta_s: float = 0.0
    """0 where unknown."""
    code: str = ""
    """Reason slug when failed."""
    message: str = ""
    revision: int = 0
