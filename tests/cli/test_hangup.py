"""SIGHUP, a closed terminal, kill -9, and a long drain, as a person meets them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.hosts import SWARMCTL, Host, Swarm, eventually

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform == "win32", reason="hangups are POSIX"),
]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    swarm = Swarm(tmp_path)
    try:
        yield swarm.host("a")
    finally:
        swarm.close()


def test_a_hangup_reloads_and_a_killed_host_leaves_nothing_that_misleads(host: Host) -> None:
    host.up()
    before = host.runtime
    assert host.ctl("config", "set", "log.level=debug").returncode == 0
    host.signal(signal.SIGHUP)
    eventually("both read them again", lambda: host.log.read_text().count("settings.reloaded") == 2)
    eventually("it says so", lambda: "reload: swarm-sidecar, swarm-controlplane" in host.log.read_text())
    assert host.runtime == before
    assert host.get("/healthz")
    family = host.family()
    host.signal(signal.SIGKILL)
    host.wait()
    eventually("its processes end with it", lambda: not any(one.is_running() for one in family))
    assert (host.data_dir / "runtime.json").exists()
    status = host.ctl("status")
    assert status.returncode == 1
    assert f"run it: swarmctl up --data-dir {host.data_dir}" in status.stdout
    assert not (host.data_dir / "runtime.json").exists()


def test_closing_the_terminal_stops_a_host(host: Host) -> None:
    import pty

    ours, theirs = pty.openpty()
    # As a shell does: a session leader whose terminal is closed passes the hangup on.
    process = subprocess.Popen(
        [sys.executable, "-c", LEADER, *SWARMCTL, "up", *host.flags(founder=True)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        eventually("it is ready", (host.data_dir / "runtime.json").exists, within_s=60)
        pid = host.runtime["pid"]
        os.close(ours)
        ours = -1
        assert process.wait(60) == 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            pytest.fail("it goes on without a terminal")
        assert not (host.data_dir / "runtime.json").exists()
    finally:
        if ours >= 0:
            os.close(ours)
        process.kill()
        process.wait(10)


LEADER = """
import fcntl, signal, subprocess, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, lambda *_: child.send_signal(signal.SIGHUP))
child = subprocess.Popen(sys.argv[1:])
sys.exit(child.wait())
"""
