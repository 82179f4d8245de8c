"""Mutants of the cores are ones that can be tried: ``make test-mutants`` does, this sees that they fit."""

from __future__ import annotations

import ast

from tests.mutants.core import ROOT
from tests.mutants.try_cores import CORES, MUTANTS

VALUES_ALONE = {
    "sidecar/core/residents.py",
    "sidecar/core/shown.py",
    "sidecar/dialects/answer.py",
    "sidecar/dialects/failures.py",
    "sidecar/dialects/surfaces.py",
}
"""Modules that decide nothing."""
AREAS = ("sidecar/core", "sidecar/dialects", "controlplane/core")


def test_every_mutant_fits_its_core_and_changes_it() -> None:
    for mutant in MUTANTS:
        assert mutant.old != mutant.new, mutant.name
        ast.parse(mutant.source())
        assert all((ROOT / test).is_file() for test in mutant.tests), mutant.tests


def test_every_core_has_some_and_each_is_another() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for area in AREAS
        for path in (ROOT / area).glob("*.py")
        if path.name != "__init__.py"
    }
    assert {core.file for core in CORES} == found - VALUES_ALONE
    assert all(len(core.mutants) >= 2 for core in CORES)
    assert len({(mutant.file, mutant.name) for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
