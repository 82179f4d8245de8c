"""Tries every mutant of the embedded store: ``python -m tests.store.try_mutants`` (``make test-mutants``).

Each is put into a copy of the sources of its own. First the conformance suite runs on it, as on every store;
then, should it live, the tests of the embedded store alone. One that outlives both fails the run. Arguments
are parts of names: only mutants that have one of them are tried.
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
from typing import Final

from tests.mutants.copies import copy_sources
from tests.mutants.core import ROOT
from tests.store.mutants import MUTANTS, Mutant

COPIED: Final = (
    "controlplane",
    "swarmplane",
    "tests/store",
    "tests/fakes",
    "tests/conftest.py",
    "pyproject.toml",
)
CONFORMANCE: Final = ("test_store_keys.py", "test_store_leases.py", "test_store_watches.py")
EMBEDDED: Final = ("test_store_model.py", "test_embedded_store.py", "test_lease_times.py")
ONE_S: Final = 240.0
"""A mutant that hangs is caught too, but no test should need so long."""
WORKERS: Final = 2
MEMORY: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where there is one: no mutant is about what a disk does, and each has hundreds of commits synced."""


def mutated(mutant: Mutant) -> str:
    """The source with the bug."""
    source = (ROOT / "controlplane" / "store" / mutant.file).read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name!r} no longer fits controlplane/store/{mutant.file}")
    return source.replace(mutant.old, mutant.new)


def passes(directory: Path, files: Sequence[str]) -> bool:
    """Whether all tests do, on the embedded store."""
    tests = [f"tests/store/{file}" for file in files]
    options = ("-q", "-x", "-p", "no:cacheprovider", "--timeout=40", "--no-header", "--no-summary")
    try:
        done = subprocess.run(
            [sys.executable, "-B", "-m", "pytest", *options, "-k", "not etcd", *tests],
            cwd=directory,
            env=os.environ | {"PYTHONPATH": str(directory), "TMPDIR": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ONE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in {0, 1}:
        raise RuntimeError(done.stdout.decode(errors="replace")[-2000:])
    return done.returncode == 0


def caught_by(mutant: Mutant | None) -> str:
    """Which tests notice ``mutant``; empty: none. None is no bug at all."""
    with tempfile.TemporaryDirectory(prefix="mutant-", dir=MEMORY) as scratch:
        directory = Path(scratch)
        copy_sources(COPIED, directory)
        if mutant is not None:
            (directory / "controlplane" / "store" / mutant.file).write_text(mutated(mutant), encoding="utf-8")
        if not passes(directory, CONFORMANCE):
            return "conformance suite"
        return "" if passes(directory, EMBEDDED) else "tests of the embedded store"


def main(arguments: Sequence[str]) -> int:
    """The exit status: 1 if a mutant lives."""
    chosen = [one for one in MUTANTS if not arguments or any(part in one.name for part in arguments)]
    began_s = time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        if by := pool.submit(caught_by, None).result():
            sys.stdout.write(f"the {by} fails without any bug\n")
            return 1
        outcomes = list(zip(chosen, pool.map(_told, chosen), strict=True))
    living = [mutant.name for mutant, by in outcomes if not by]
    suite = sum(by == "conformance suite" for _, by in outcomes)
    sys.stdout.write(
        f"{len(chosen)} mutants: {suite} caught by the conformance suite, "
        f"{len(chosen) - suite - len(living)} by the tests of the embedded store, {len(living)} by nothing "
        f"({time.monotonic() - began_s:.0f} s)\n"
    )
    return 1 if living else 0


def _told(mutant: Mutant) -> str:
    by = caught_by(mutant)
    sys.stdout.write(f"{by or 'NOT CAUGHT':<28} {mutant.name}\n")
    sys.stdout.flush()
    return by


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
