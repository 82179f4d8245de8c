"""Write the pinned lock files of ``requirements/``, or check that they are in step with pyproject.toml.

``python scripts/lock.py`` resolves with uv from whatever index the machine is configured for;
``--upgrade`` takes the newest versions that fit instead of keeping what is pinned. ``--check`` asks no
network: each file carries a digest of the requirements it was made from, and each requirement must be met
by a pin.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = "3.11"
DIGEST = "# made from: "


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock file: the project's own requirements plus ``extras``, within ``constraints``."""

    path: Path
    extras: tuple[str, ...]
    constraints: tuple[Path, ...] = ()

    def requirements(self, project: dict[str, object]) -> list[str]:
        """The requirements it answers, sorted."""
        wanted = list(_strings(project["dependencies"]))
        optional = project["optional-dependencies"]
        if not isinstance(optional, dict):
            raise TypeError("pyproject.toml: optional-dependencies is no table")
        for extra in self.extras:
            wanted += _strings(optional[extra])
        return sorted(wanted)


DEV = Lock(ROOT / "requirements" / "dev.txt", ("dev", "engine"))
DOCS = Lock(ROOT / "requirements" / "docs.txt", ("docs",), (DEV.path,))


def _strings(value: object) -> Iterator[str]:
    if not isinstance(value, list):
        raise TypeError("pyproject.toml: a list of requirements is expected")
    yield from map(str, value)


def _project() -> dict[str, object]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, object] = tomllib.loads(text)["project"]
    return project


def digest(requirements: list[str]) -> str:
    """What a lock file names as its source: 16 hexadecimal digits."""
    return hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:16]


def pins(text: str) -> dict[str, list[Version]]:
    """Pinned versions by canonical name; several where they differ by platform."""
    found: dict[str, list[Version]] = {}
    for line in text.splitlines():
        pinned = line.partition("#")[0].strip()
        if not pinned:
            continue
        requirement = Requirement(pinned)
        exact = [s.version for s in requirement.specifier if s.operator == "=="]
        if len(exact) != 1:
            raise ValueError(f"not an exact pin: {line}")
        found.setdefault(canonicalize_name(requirement.name), []).append(Version(exact[0]))
    return found


def problems(lock: Lock, project: dict[str, object]) -> Iterator[str]:
    """What is out of step, a sentence each; nothing when the lock may be used."""
    name = lock.path.relative_to(ROOT)
    if not lock.path.exists():
        yield f"{name} is missing"
        return
    text = lock.path.read_text(encoding="utf-8")
    wanted = lock.requirements(project)
    if f"{DIGEST}{digest(wanted)}" not in text.splitlines():
        yield f"{name} was made from other requirements than pyproject.toml has now"
    pinned = pins(text)
    for requirement in map(Requirement, wanted):
        versions = pinned.get(canonicalize_name(requirement.name), [])
        if not versions:
            yield f"{name} has no pin for {requirement.name}"
        for version in versions:
            if not requirement.specifier.contains(version, prereleases=True):
                wants = f"pyproject.toml wants {requirement.specifier}"
                yield f"{name} pins {requirement.name} {version}, {wants}"


def write(lock: Lock, project: dict[str, object], *, upgrade: bool) -> None:
    """Resolve and write one lock file. No index host and no path of this machine gets into it."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        sys.exit("uv is not installed: make lock installs it")
    command = [uv, "pip", "compile", "pyproject.toml", "--universal", "--python-version", OLDEST_PYTHON]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
    command += ["--output-file", str(lock.path.relative_to(ROOT))]
    for extra in lock.extras:
        command += ["--extra", extra]
    for constraint in lock.constraints:
        command += ["--constraint", str(constraint.relative_to(ROOT))]
    if upgrade:
        command.append("--upgrade")
    lock.path.parent.mkdir(exist_ok=True)
    subprocess.run(command, cwd=ROOT, check=True)
    head = f"# Pinned by scripts/lock.py; do not edit.\n{DIGEST}{digest(lock.requirements(project))}\n"
    lock.path.write_text(head + lock.path.read_text(encoding="utf-8"), encoding="utf-8")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if a lock is out of step")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    arguments = parser.parse_args()
    project = _project()
    if arguments.check:
        found = [problem for lock in (DEV, DOCS) for problem in problems(lock, project)]
        if found:
            sys.exit("\n".join([*found, "run: make lock"]))
        return
    for lock in (DEV, DOCS):
        write(lock, project, upgrade=arguments.upgrade)


if __name__ == "__main__":
    main()
