"""What a server of Ollama's kind shows of a model beyond the list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

Fact = str | int | float | bool
_NOTHING: Final[Mapping[str, Fact]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Shown:
    """Follows from the model's digest, so it is asked once. Empty, or 0: not told."""

    capabilities: tuple[str, ...] = ()
    trained_context: int = 0
    template: str = ""
    parameters: str = ""
    """One a line, as ``stop "<end>"``."""
    system: str = ""
    license: str = ""
    facts: Mapping[str, Fact] = field(default_factory=lambda: _NOTHING)
    """Of its file: single values by their names there, as ``llama.block_count``."""
