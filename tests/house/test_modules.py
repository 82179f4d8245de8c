"""The rules of CONTRIBUTING.md that no linter knows, held on every module of ours."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.house.source import ROOT, name, product_modules, text_files, tree

MODULE_LINES = 400
CORE_LINES = 300
FUNCTION_LINES = 50
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "types", "misc"}
UNFINISHED = re.compile(r"\bTODO\b|\bFIXME\b|\bXXX\b|raise NotImplementedError")
ONE_MACHINE = re.compile(r"(?<![\w.])/(?:work|root|farm|home/\w+|Users/\w+)/|bash_jobs")
# What each would do instead of what it looks like: time.sleep stops the event loop, preexec_fn forks under
# gRPC's threads, SO_REUSEPORT loses connections in a hand-over and lets two hosts share a port.
BANNED = {"sleep": "time", "SO_REUSEPORT": "socket", "preexec_fn": "subprocess"}


def _lines(paths: Iterable[Path], pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name(path)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def test_a_module_is_short_enough_to_hold_one_idea() -> None:
    found = []
    for path in product_modules():
        limit = CORE_LINES if "core" in path.parts else MODULE_LINES
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > limit:
            found.append(f"{name(path)}: {lines} lines; at most {limit}")
    assert not found


def test_functions_are_short() -> None:
    found = []
    for path in product_modules():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    found.append(f"{name(path)}:{node.lineno}: {node.name} has {lines} lines")
    assert not found


def test_a_module_is_named_for_what_it_holds() -> None:
    vague = [name(path) for path in product_modules() if VAGUE & {path.stem, *path.relative_to(ROOT).parts}]
    assert not vague


def test_nothing_is_left_unfinished() -> None:
    assert not _lines(product_modules(), UNFINISHED)


def test_no_module_keeps_state() -> None:
    found = [
        f"{name(path)}:{node.lineno}"
        for path in product_modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Global)
    ]
    assert not found, "objects are built in main and handed down, never kept in a module"


def test_calls_that_were_measured_to_fail_are_not_made() -> None:
    found = []
    for path in product_modules():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if BANNED.get(node.attr) == node.value.id:
                    found.append(f"{name(path)}:{node.lineno}: {node.value.id}.{node.attr}")
            elif isinstance(node, ast.keyword) and node.arg in BANNED:
                found.append(f"{name(path)}:{node.value.lineno}: {node.arg}")
    assert not found


def test_no_path_of_one_machine_is_in_the_project() -> None:
    assert not _lines((path for path in text_files() if path != Path(__file__)), ONE_MACHINE)


def test_test_modules_have_names_of_their_own() -> None:
    counted = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [file for file, times in counted.items() if times > 1] == []


def test_no_test_asserts_the_obvious() -> None:
    found = [
        f"{name(path)}:{node.lineno}"
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant)
    ]
    assert not found
