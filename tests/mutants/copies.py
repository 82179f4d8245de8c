"""Copies of the sources, into which bugs are put."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from tests.mutants.core import ROOT


def copy_sources(names: Iterable[str], directory: Path) -> Path:
    """``names``, from the repository's root, in ``directory``, without what was compiled."""
    for name in names:
        source, target = ROOT / name, directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return directory
