"""Run a target of the Makefile that runs pytest; what fails is run once more, alone, before it counts.

``python scripts/test_group.py [--alone FILE] TARGET [TEST_ARGS]``

A machine that is too busy for a moment fails a test now and then. Such tests pass when nothing runs beside
them; they are printed, and appended to ``FILE``, so that somebody mends them. What fails again fails the
group, and so does whatever is no test that failed: a module that can't be collected, a worker that crashed,
coverage that is missing, more failures than chance explains.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

MOST_ALONE: Final = 6
"""More failed tests than these are no bad luck."""
NO_CHANCE: Final = re.compile(
    r"^(INTERNALERROR|!+ .*(Interrupted|KeyboardInterrupt|stopping)|FAIL Required test|.*Coverage failure:)"
    r"|replacing crashed worker|crashed while running|crashed and worker restarting disabled",
    re.MULTILINE,
)
"""What pytest and its plugins say when something else went wrong than tests."""
PASSED: Final = re.compile(r"^=* ?(\d+) passed(?:, \d+ deselected)? in ", re.MULTILINE)
ALONE: Final = ("--last-failed", "--last-failed-no-failures=none", "-n", "0", "--no-cov")


def main() -> int:
    """Exit status: 0 where each test passed, beside others or alone."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--alone", type=Path, metavar="FILE", help="names of tests that passed only alone")
    parser.add_argument("target")
    parser.add_argument("test_args", nargs="?", default="")
    given = parser.parse_args()
    cache = Path(".pytest_cache") / f"group-{given.target}"
    shutil.rmtree(cache, ignore_errors=True)
    arguments = (given.test_args, "-o", f"cache_dir={cache.as_posix()}")

    status, said = _make(given.target, *arguments)
    if not status:
        return 0
    failed = _failed(cache)
    if reason := _no_chance(said, failed):
        print(f"\n{given.target}: failed; no second chance: {reason}", flush=True)
        return 1
    print(f"\n{given.target}: {len(failed)} failed; once more, alone:", *failed, sep="\n  ", flush=True)
    status, said = _make(given.target, *arguments, *ALONE)
    passed = PASSED.findall(said)
    if status or not passed or int(passed[-1]) != len(failed):
        print(f"\n{given.target}: failed when run alone, too", flush=True)
        return 1
    print("\npassed only when run alone:", *failed, sep="\n  ", flush=True)
    if given.alone is not None:
        with given.alone.open("a", encoding="utf-8") as names:
            names.writelines(f"{given.target}: {name}\n" for name in failed)
    return 0


def _make(target: str, *test_args: str) -> tuple[int, str]:
    """Status of ``make`` and what it said, which is shown as it comes."""
    lines = []
    with subprocess.Popen(
        ["make", target, f"TEST_ARGS={' '.join(test_args)}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return running.returncode, "".join(lines)


def _failed(cache: Path) -> list[str]:
    """What pytest noted as failed: tests, and modules that could not be collected."""
    try:
        return sorted(json.loads((cache / "v" / "cache" / "lastfailed").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return []


def _no_chance(said: str, failed: list[str]) -> str:
    """Why running ``failed`` once more would hide something; empty: it would not."""
    if found := NO_CHANCE.search(said):
        return found.group().strip()
    if modules := [name for name in failed if "::" not in name]:
        return f"not collected: {', '.join(modules)}"
    if not failed:
        return "no test failed"
    return f"{len(failed)} tests failed" if len(failed) > MOST_ALONE else ""


if __name__ == "__main__":
    sys.exit(main())
