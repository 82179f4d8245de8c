"""What the documents say exists, exists."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grpc

from swarmplane import ports
from swarmplane.errors import Code
from tests.house.source import ROOT, documents, name, product_modules

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
REFERENCE = ROOT / "docs" / "reference"
PARITY_STATES = re.compile(r"yes|partly|no|planned( \(#\d+\))?")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _rows(path: Path) -> Iterator[list[str]]:
    """Cells of every row of every table below its heading line."""
    lines = _text(path).splitlines()
    for before, line in itertools.pairwise(lines):
        if line.startswith("|") and before.startswith("|") and not line.startswith("|-"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_links_lead_somewhere() -> None:
    broken = []
    for path in documents():
        for target in LINK.findall(_text(path)):
            where, _, _ = target.partition("#")
            if where and "://" not in where and not (path.parent / where).exists():
                broken.append(f"{name(path)}: {target}")
    assert not broken


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", _text(ROOT / "Makefile"), re.MULTILINE))
    named = {
        target
        for path in documents()
        for target in re.findall(r"(?:^    |`)make (?:[A-Z_]+=\S+ )*([a-z]+)", _text(path), re.MULTILINE)
    }
    assert {"demo", "test"} <= named
    assert named <= targets


def test_every_make_target_is_explained() -> None:
    makefile = _text(ROOT / "Makefile")
    phony = set(makefile.partition(".PHONY:")[2].splitlines()[0].split())
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert phony == explained


def test_the_licence_is_whole_and_the_one_that_is_declared() -> None:
    licence = _text(ROOT / "LICENSE")
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    project = tomllib.loads(_text(ROOT / "pyproject.toml"))["project"]
    assert project["license"] == "Apache-2.0"


def test_every_error_stands_in_the_reference() -> None:
    statuses = {status.value[0]: status.name for status in grpc.StatusCode}
    stated = {
        (row[1], row[0], row[2], row[3], row[4])
        for row in _rows(REFERENCE / "headers-and-errors.md")
        if row[0].isdigit()
    }
    true = {
        (
            f"`{code.slug}`",
            str(code.http_status),
            statuses[code.grpc_status],
            f"`{code.openai_type}`",
            "yes" if code.retryable else "no",
        )
        for code in Code
    }
    assert stated == true


def test_every_port_stands_in_the_reference() -> None:
    stated = {int(row[0]) for row in _rows(REFERENCE / "ports.md") if row[0].isdigit()}
    assert stated == {value for key, value in vars(ports).items() if key.endswith("_PORT")}


def test_every_call_stands_in_the_reference() -> None:
    stated = {
        (row[0].strip("`"), call)
        for row in _rows(REFERENCE / "grpc.md")
        if row[0].endswith("Service`")
        for call in re.findall(r"`(\w+)`", row[1])
    }
    declared = {
        (service, call)
        for path in (ROOT / "proto" / "swarmplane" / "v1").glob("*.proto")
        for service, body in re.findall(r"^service (\w+) \{(.*?)^\}", _text(path), re.MULTILINE | re.DOTALL)
        for call in re.findall(r"rpc (\w+)", body)
    }
    assert stated == declared


def test_every_metric_stands_in_the_reference() -> None:
    stated = set(re.findall(r"^\| `(swarmplane_\w+)` \|", _text(REFERENCE / "admin.md"), re.MULTILINE))
    exposed = {
        metric for path in product_modules() for metric in re.findall(r'"(swarmplane_[a-z_]+)"', _text(path))
    }
    assert stated == exposed


def test_parity_uses_states_that_mean_something() -> None:
    states = {row[1] for row in _rows(REFERENCE / "parity.md") if not row[0].startswith("capability")}
    assert [state for state in states if not PARITY_STATES.fullmatch(state)] == []


def test_decisions_are_numbered_listed_and_complete() -> None:
    folder = ROOT / "docs" / "adr"
    records = sorted(folder.glob("0*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    index = _text(folder / "index.md")
    for number, path in enumerate(records, 1):
        text = _text(path)
        assert text.startswith(f"# {number}. ")
        assert f"]({path.name})" in index
        for part in ("**Status:** ", "## Context", "## Decision", "## Consequences"):
            assert part in text, f"{path.name} has no {part}"


def test_locks_name_no_index_and_no_path() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        assert not re.search(r"^\s*-|://|@ |/", _text(path).partition("\n")[2], re.MULTILINE), name(path)
