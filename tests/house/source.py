"""The project's files, as the checks of this folder read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("swarmplane", "controlplane", "sidecar", "cli")
FOLDERS = (*PACKAGES, "tests", "scripts", "bench", "docs", "deploy", "proto", "requirements", ".ci")
TEXT = {
    ".py",
    ".pyi",
    ".md",
    ".toml",
    ".yml",
    ".yaml",
    ".proto",
    ".txt",
    ".lua",
    ".cfg",
    ".conf",
    ".service",
    "",
}


@cache
def product_modules() -> tuple[Path, ...]:
    """Our own modules, without generated ones."""
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return tuple(sorted(path for path in found if "_pb2" not in path.name))


@cache
def text_files() -> tuple[Path, ...]:
    """Every text file of the project, without what is generated or belongs to one machine."""
    found = [path for path in ROOT.iterdir() if path.is_file() and path.name != "LICENSE"]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    return tuple(
        sorted(
            path
            for path in found
            if path.suffix in TEXT
            and "_pb2" not in path.name
            and not path.name.startswith(".coverage")
            and not {"__pycache__", "node_modules"} & set(path.parts)
        )
    )


def documents() -> Iterator[Path]:
    """Everything in Markdown."""
    return (path for path in text_files() if path.suffix == ".md")


def name(path: Path) -> str:
    """``path`` as a test's id: from the root, with slashes."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
