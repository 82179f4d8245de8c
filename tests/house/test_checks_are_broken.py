"""Every check of the doctor is broken by a test, which sees it fail with its fix: marked ``breaks``."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.doctor.checks import ALL
from tests.house.source import ROOT, name, tree

ELSEWHERE = {
    "network.permission": "macOS alone asks whether a program may reach the local network",
    "store.space": "two gigabytes would have to be written",
    "store.version": "an etcd that is too old would have to be installed",
}
"""What is not broken itself; there the check is told what that platform, or that server, answers."""


@dataclass(frozen=True)
class Mark:
    """``@pytest.mark.breaks(…)`` of one test."""

    test: str
    checks: tuple[str, ...]
    recorded: bool
    """What breaks is what a tool of the platform says, not the thing itself."""
    said: frozenset[str]
    """Strings in the test, without its marks."""


def _marks(path: Path) -> Iterator[Mark]:
    for function in ast.walk(tree(path)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        said = frozenset(
            one.value
            for statement in function.body
            for one in ast.walk(statement)
            if isinstance(one, ast.Constant) and isinstance(one.value, str)
        )
        for call in function.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.breaks":
                yield Mark(
                    f"{name(path)}::{function.name}", tuple(ast.literal_eval(one) for one in call.args),
                    any(one.arg == "recorded" for one in call.keywords), said,
                )  # fmt: skip


def _all() -> tuple[Mark, ...]:
    return tuple(mark for path in sorted((ROOT / "tests").rglob("test_*.py")) for mark in _marks(path))


def _by_check(marks: tuple[Mark, ...]) -> Mapping[str, list[Mark]]:
    found: dict[str, list[Mark]] = {}
    for mark in marks:
        for check in mark.checks:
            found.setdefault(check, []).append(mark)
    return found


def test_every_check_is_broken_by_a_test_and_every_mark_means_one() -> None:
    assert set(_by_check(_all())) == {check.id for check in ALL}


def test_a_test_that_breaks_a_check_looks_at_it_and_at_its_fix() -> None:
    for mark in _all():
        for check in mark.checks:
            assert check in mark.said, (mark.test, check)
        assert any(one == "fix" or "to mend it" in one for one in mark.said), mark.test


def test_what_is_not_broken_itself_is_told_by_the_platform_and_named_here() -> None:
    found = _by_check(_all())
    assert {check for check, marks in found.items() if all(one.recorded for one in marks)} == set(ELSEWHERE)
