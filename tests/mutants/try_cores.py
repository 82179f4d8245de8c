"""Tries the mutants of the pure cores: ``python -m tests.mutants.try_cores`` (part of ``make test-mutants``).

Each is put into a copy of the sources, and the tests of its core alone run on it: a bug that they do not
notice fails the run. Arguments are parts of files or names: only mutants that have one of them are tried. The
lists beside the tests name more in words; this is the part that is tried every time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from tests.mutants.controlplane_cores import CONTROLPLANE
from tests.mutants.copies import copy_sources
from tests.mutants.core import CoreMutant
from tests.mutants.dialect_answers import DIALECT_ANSWERS
from tests.mutants.dialect_requests import DIALECT_REQUESTS
from tests.mutants.sidecar_cores import SIDECAR

CORES: Final = (*SIDECAR, *DIALECT_REQUESTS, *DIALECT_ANSWERS, *CONTROLPLANE)
MUTANTS: Final = tuple(mutant for core in CORES for mutant in core.mutants)
COPIED: Final = (
    "controlplane",
    "sidecar",
    "swarmplane",
    "tests/core_controlplane",
    "tests/core_sidecar",
    "tests/dialects",
    "tests/fakes",
    "tests/conftest.py",
    "pyproject.toml",
)
ONE_S: Final = 120.0
"""A mutant that hangs is caught too, but no core's tests need so long."""
WORKERS: Final = min(os.cpu_count() or 1, 8)
_FAILED: Final = 1
_PLUGINS: Final = ("no:cacheprovider", "pytest_asyncio.plugin", "pytest_timeout")
"""Those that ``pyproject.toml`` sets something of; to load all that are installed takes most of the time."""
_OPTIONS: Final = ("-q", "-x", "--tb=no", "--no-header", "--no-summary", *(f"-p{name}" for name in _PLUGINS))


def passes(directory: Path, tests: Sequence[str]) -> bool:
    """Whether ``tests`` do, in the copy at ``directory``.

    Raises:
        RuntimeError: They could not be run.
    """
    # Which example is the smallest does not matter here, so that none is looked for.
    env = os.environ | {
        "PYTHONPATH": str(directory),
        "HYPOTHESIS_PROFILE": "mutants",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-B", "-m", "pytest", *_OPTIONS, *tests],
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ONE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    text = done.stdout.decode(errors="replace")
    if done.returncode not in {0, _FAILED} and "error" not in text.lower():
        raise RuntimeError(text[-2000:])
    return done.returncode == 0


def lives(mutant: CoreMutant, directory: Path) -> bool:
    """Whether the tests of its core let it pass; the copy is as before when this returns."""
    file = directory / mutant.file
    before = file.read_bytes()
    file.write_text(mutant.source(), encoding="utf-8")
    try:
        return passes(directory, mutant.tests)
    finally:
        file.write_bytes(before)


def main(arguments: Sequence[str]) -> int:
    """The exit status: 1 if a mutant lives, or if tests fail without any."""
    chosen = [
        one for one in MUTANTS if not arguments or any(a in f"{one.file} {one.name}" for a in arguments)
    ]
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch, ThreadPoolExecutor(WORKERS) as pool:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(WORKERS):
            copies.put(copy_sources(COPIED, Path(scratch) / str(number)))

        def tried(mutant: CoreMutant) -> bool:
            directory = copies.get()
            try:
                found = lives(mutant, directory)
            finally:
                copies.put(directory)
            if found:
                sys.stdout.write(f"NOT CAUGHT {mutant.file}: {mutant.name}\n")
                sys.stdout.flush()
            return found

        first = copies.get()
        if not passes(first, sorted({test for mutant in chosen for test in mutant.tests})):
            sys.stdout.write("the tests of the cores fail without any bug\n")
            return 1
        copies.put(first)
        living = sum(pool.map(tried, chosen))
    sys.stdout.write(
        f"{len(chosen)} mutants of {len({one.file for one in chosen})} cores: {len(chosen) - living} caught, "
        f"{living} not ({time.monotonic() - began_s:.0f} s)\n"
    )
    return 1 if living else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
