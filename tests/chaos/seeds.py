"""Seeds whose runs once failed; `make chaos` runs them again. A line: seed, seconds, kinds, # what failed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("failed_seeds.txt")


@dataclass(frozen=True)
class Kept:
    """One run that failed."""

    seed: int
    seconds: float
    kinds: str


def parse(text: str) -> list[Kept]:
    """The runs of a list."""
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words:
            seed, seconds, kinds = words
            found.append(Kept(int(seed), float(seconds), kinds))
    return found


def line(run: Kept, why: str) -> str:
    """For the list."""
    return f"{run.seed} {run.seconds:g} {run.kinds}  # {' '.join(why.split())[:150]}\n"


def keep(run: Kept, why: str, path: Path = FILE) -> None:
    """Add it, unless it is there."""
    text = path.read_text() if path.exists() else ""
    if run not in parse(text):
        path.write_text(text + line(run, why))
