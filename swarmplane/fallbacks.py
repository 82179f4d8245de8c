"""Which models may answer for which others, as people allow it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarmplane.aliases import matches

CATEGORIES: Final = ("chat", "code", "reasoning", "vision", "embedding")
MOST_RULES: Final = 64
MOST_MODELS: Final = 8
"""In one chain."""


@dataclass(frozen=True, slots=True)
class FallbackRule:
    """Whom it is for, and who may answer. What is empty, or 0, fits everything."""

    models: tuple[str, ...]
    match: str = ""
    """The name asked for; a pattern."""
    category: str = ""
    from_bytes: int = 0
    below_bytes: int = 0

    def fits(self, asked: str, category: str, size_bytes: int) -> bool:
        """Whether it is for the name ``asked``. A size that is unknown (0) is within no bounds."""
        if self.match and not matches(self.match, asked):
            return False
        if self.category and self.category != category:
            return False
        if not (self.from_bytes or self.below_bytes):
            return True
        below = not self.below_bytes or size_bytes < self.below_bytes
        return bool(size_bytes) and size_bytes >= self.from_bytes and below


@dataclass(frozen=True, slots=True)
class FallbackPolicy:
    """What holds for a swarm: nothing, unless somebody set it."""

    rules: tuple[FallbackRule, ...] = ()
    substitute_loaded: bool = False
    """Whether a loaded model of the same category may answer for one that nobody has loaded."""
    auto_pull: tuple[str, ...] = ()
    """Names, or patterns of names, of models that are pulled when somebody asks."""

    def pulls(self, asked: str) -> bool:
        """Whether a model of this name may be pulled."""
        return any(matches(pattern, asked) for pattern in self.auto_pull)


NO_FALLBACKS: Final = FallbackPolicy()
