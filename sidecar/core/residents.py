"""What it means that a model is loaded, where that has a context of its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that is loaded now. 0: unknown."""

    context: int = 0
    """Tokens it is loaded with; another number loads it anew."""
    expires_at_s: int = 0
    """Unix seconds when it is unloaded unless it is used; 0: never, too."""
    vram_bytes: int = 0
