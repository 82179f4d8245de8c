"""What a mutant of a pure core is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class CoreMutant:
    """One bug in one core."""

    name: str
    file: str
    """From the repository's root."""
    old: str
    """Stands there once."""
    new: str
    tests: tuple[str, ...]
    """Of the core, from the repository's root."""

    def source(self, root: Path = ROOT) -> str:
        """The core with the bug.

        Raises:
            ValueError: The core has changed, so that the bug has no place any more.
        """
        found = (root / self.file).read_text(encoding="utf-8")
        if found.count(self.old) != 1:
            raise ValueError(f"{self.name!r} no longer fits {self.file}")
        return found.replace(self.old, self.new)


class Core:
    """A core, its tests (names below ``tests/core_…``, or ``tests/dialects``), and its mutants.

    A mutant is (name, old text, new text).
    """

    def __init__(self, file: str, tests: tuple[str, ...], *mutants: tuple[str, str, str]) -> None:
        side, area, _ = file.split("/")
        folder = f"tests/core_{side}" if area == "core" else f"tests/{area}"
        paths = tuple(f"{folder}/{name}.py" for name in tests)
        self.file = file
        self.mutants = tuple(CoreMutant(name, file, old, new, paths) for name, old, new in mutants)
