"""The list of mutants is one that can be tried: ``make test-mutants`` does, this only sees that it fits."""

from __future__ import annotations

import ast

import pytest

from tests.store.mutants import MUTANTS, Mutant
from tests.store.try_mutants import mutated


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_source_and_changes_it(mutant: Mutant) -> None:
    assert mutant.old != mutant.new
    ast.parse(mutated(mutant))


def test_there_are_enough_and_each_is_another() -> None:
    assert len(MUTANTS) >= 14
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
