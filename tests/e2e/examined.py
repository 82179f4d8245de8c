"""What ``swarmctl doctor`` finds on machines that tests break: in namespaces, with tools of theirs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from tests.e2e.hosts import SWARMCTL, Host

MOUNTS = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare"),
    reason="mount namespaces need Linux, root and unshare",
)


def rows(*before: str, data_dir: Path, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the doctor finds, by check, run behind the words ``before``."""
    done = subprocess.run(
        [*before, *SWARMCTL, "doctor", "--json", "--data-dir", str(data_dir)],
        capture_output=True, text=True, timeout=90, check=False, env={**os.environ, **(env or {})},
    )  # fmt: skip
    assert done.stdout, done.stderr
    return _by_check(done.returncode, done.stdout)


def rows_of(host: Host) -> dict[str, Any]:
    """The same of a host that this process can examine: nothing is started for it."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = main(["doctor", "--json", "--data-dir", str(host.data_dir)])
    return _by_check(status, output.getvalue())


def _by_check(status: int, text: str) -> dict[str, Any]:
    document = json.loads(text)
    assert status == (1 if document["errors"] else 0)
    return {row["id"]: row for row in document["items"]}


def failing(found: Mapping[str, Any]) -> set[str]:
    """Checks that fail, but for that of the Python that runs the tests; each says how to mend it."""
    ill = {name: row for name, row in found.items() if row["ok"] is False and name != "machine.python"}
    assert all(row["fix"] for row in ill.values())
    return set(ill)


def where(*commands: str) -> tuple[str, ...]:
    """Words before a command, which runs where ``commands`` of a shell have changed what is mounted."""
    return ("unshare", "-m", "sh", "-ec", f'{"; ".join(commands)}; exec "$@"', "sh")


def tool(directory: Path, name: str, script: str) -> None:
    """A program of the platform, as far as it is asked: a script of a shell."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def before_path(directory: Path) -> dict[str, str]:
    """An environment in which programs of ``directory`` are found first."""
    return {"PATH": f"{directory}:{os.environ['PATH']}"}
