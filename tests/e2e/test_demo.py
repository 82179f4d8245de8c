"""The README's first command."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.hosts import SWARMCTL, eventually, swarmctl

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


def test_the_demo_answers_once_through_a_from_b() -> None:
    done = swarmctl("demo", "--once", "--json", timeout_s=150)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "swarmctl.demo/v1"
    assert document["answer"].strip() == "The lion eats meat."
    assert document["node"] != document["asked"], "served by another node than the one that was asked"


@contextlib.contextmanager
def _taking_ctrl_c() -> Iterator[None]:
    """Processes started within it heed SIGINT: whoever runs tests in the background may have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_demo_keeps_running_until_interrupted_and_leaves_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output, _taking_ctrl_c():
        demo = subprocess.Popen(
            [*SWARMCTL, "demo"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            start_new_session=True,
        )
    try:
        eventually("the demo answered", lambda: "The lion eats meat." in log.read_text(), within_s=120)
        assert "What does the lion eat?" in log.read_text()
        family = psutil.Process(demo.pid).children(recursive=True)
        assert demo.poll() is None
        assert family
        demo.send_signal(signal.SIGINT)
        demo.wait(40)
        _, alive = psutil.wait_procs(family, timeout=5)
        assert not alive
        assert [path for path in tmp_path.iterdir() if path != log] == []
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL) if sys.platform != "win32" else demo.kill()
            demo.wait(5)
