"""CI runs what failed once more, alone; that hides nothing but a moment's bad luck."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="CI runs the targets of the Makefile")

FINE = "def test_fine(): pass\n"
FLAKY = """
import os
def test_flaky():
    # Its worker says whether others run beside it.
    assert "PYTEST_XDIST_WORKER" not in os.environ
"""
BROKEN = "def test_broken(): assert 1 == 2\n"
CRASHING = "import os\ndef test_crashing(): os._exit(3)\n"


def _flaky(tests: int) -> str:
    """A module of so many that pass only alone."""
    return "".join(FLAKY.replace("flaky", f"flaky_{n}") for n in range(tests))


def _group(root: Path, **modules: str) -> tuple[int, str, str]:
    """Status of a group of tests in ``modules``, what it said, and which passed only alone."""
    for name, text in modules.items():
        (root / f"test_{name}.py").write_text(text)
    (root / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    (root / "core.py").write_text("def half(n):\n    if n:\n        return 1\n    return 2\n")
    pytest_here = f"{sys.executable} -m pytest -p xdist -p pytest_cov -n 1 --cov=core"
    (root / "Makefile").write_text(f"group:\n\t@{pytest_here} --cov-fail-under=$(LEAST) $(TEST_ARGS)\n")
    dropped = ("MAKE", "PYTEST_", "COV_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # to start in a second
    least = "100" if "core" in modules else "0"
    alone = root / "alone"
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "test_group.py"), "--alone", str(alone), "group"],
        cwd=root,
        env={**env, "LEAST": least, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, alone.read_text() if alone.exists() else ""


def test_what_passes_alone_is_named_and_does_not_fail_ci(tmp_path: Path) -> None:
    status, said, alone = _group(tmp_path, fine=FINE, flaky=_flaky(6))
    assert status == 0, said
    assert "passed only when run alone:\n  test_flaky.py::test_flaky_0\n" in said
    assert alone.splitlines() == [f"group: test_flaky.py::test_flaky_{n}" for n in range(6)]


def test_what_fails_again_fails_ci_whatever_else_passes_then(tmp_path: Path) -> None:
    status, said, alone = _group(tmp_path, flaky=FLAKY, broken=BROKEN)
    assert status == 1, said
    assert "failed when run alone, too" in said
    assert alone == ""


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        (
            {"flaky": FLAKY, "unreadable": "import nothing_of_that_name\n"},
            "not collected: test_unreadable.py",
        ),
        ({"flaky": FLAKY, "crashing": CRASHING}, "crash"),
        ({"flaky": FLAKY, "core": "from core import half\ndef test_half(): half(0)\n"}, "overage"),
        ({"many": _flaky(7)}, "7 tests failed"),
    ],
    ids=["collection", "crash", "coverage", "many"],
)
def test_what_is_no_failed_test_gets_no_second_chance(
    tmp_path: Path, modules: dict[str, str], reason: str
) -> None:
    status, said, alone = _group(tmp_path, **modules)
    assert status == 1, said
    told = said[said.index("no second chance: ") :]
    assert reason in told
    assert alone == ""
