"""A machine on which programs stand where a test says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class FakePlaces:
    """Implements :class:`sidecar.engines.programs.Places`."""

    path: dict[str, Path] = field(default_factory=dict)
    packages: dict[str, Path] = field(default_factory=dict)
    programs: set[Path] = field(default_factory=set)

    def on_path(self, name: str) -> Path | None:
        return self.path.get(name.removesuffix(".exe"))

    def package_directory(self, module: str) -> Path | None:
        return self.packages.get(module)

    def executable(self, path: Path) -> bool:
        return path in self.programs
