"""Cores draw nothing, though they share the types of names with a module that does."""

from __future__ import annotations

import ast

from tests.house.source import ROOT, name, tree


def test_cores_make_no_random_names() -> None:
    found = [
        f"{name(path)}:{node.lineno}"
        for component in ("controlplane", "sidecar")
        for path in (ROOT / component / "core").rglob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.alias) and node.name == "random_id"
    ]
    assert not found
