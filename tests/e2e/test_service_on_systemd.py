"""``swarmctl service`` on a real systemd: the manager of one user, in a mount namespace of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.hosts import SWARMCTL, eventually, free_ports

pytestmark = [pytest.mark.process, pytest.mark.root, pytest.mark.timeout(180)]

_MANAGER = "/usr/lib/systemd/systemd"
# systemd wants a machine that it has booted, and control groups that it may change.
_BEGIN = f"""
mount -t tmpfs none /run && mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR" || exit 77
chmod 700 "$XDG_RUNTIME_DIR"
mount -t cgroup -o none,name=swarmplane none /sys/fs/cgroup/systemd || exit 77
exec {_MANAGER} --user --log-target=console
"""


class Machine:
    """A user whose services systemd manages."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.home.mkdir()
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self._env = {**kept, "HOME": str(self.home), "XDG_RUNTIME_DIR": "/run/user/test"}
        self._log = (root / "systemd.log").open("wb")
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _BEGIN],
            env=self._env, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command of this user."""
        return subprocess.run(
            ["nsenter", "--mount", f"--target={self.process.pid}", "--wdns=/", *command],
            env=self._env, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``swarmctl``."""
        return self.run(*SWARMCTL, *arguments)

    def status(self) -> dict[str, object]:
        """Of the service."""
        done = self.ctl("service", "status", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def shown(self, name: str) -> str:
        """A property of the unit, as systemd has it."""
        return self.run("systemctl", "--user", "show", "-p", name, "--value", "swarmplane").stdout.strip()

    def close(self) -> None:
        """End the manager, which ends its services."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self._log.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    if sys.platform != "linux" or os.geteuid() != 0 or not Path(_MANAGER).exists():
        pytest.skip("a manager of services needs Linux, root and systemd")
    if not (shutil.which("unshare") and shutil.which("nsenter") and Path("/sys/fs/cgroup/systemd").is_dir()):
        pytest.skip("systemd can't be given control groups of its own here")
    one = Machine(tmp_path)
    try:
        eventually("systemd runs or can't", lambda: one.process.poll() is not None or _up(one), within_s=20)
        if one.process.poll() is not None:
            pytest.skip(f"systemd does not run here (status {one.process.returncode})")
        yield one
    finally:
        one.close()


def _up(machine: Machine) -> bool:
    return machine.run("systemctl", "--user", "is-system-running").stdout.strip() in {"running", "degraded"}


def test_a_host_is_a_service_from_install_to_uninstall(machine: Machine) -> None:
    ports = [f"127.0.0.1:{port}" for port in free_ports(6)]
    kinds = ("listen", "control-listen", "join-listen", "admin-listen", "peer-listen", "console-listen")
    flags = [text for kind, port in zip(kinds, ports, strict=True) for text in (f"--{kind}", port)]
    install = ("service", "install", "--user", "--name", "box", "--no-discover", "--no-mdns")
    done = machine.ctl(*install, *flags)
    assert done.returncode == 0, done.stderr
    # Notified: installed means that clients are served.
    assert machine.ctl("status").returncode == 0
    first = machine.status()
    assert (first["installed"], first["enabled"], first["active"]) == (True, True, True)
    config = machine.home / ".config" / "swarmplane" / "config.toml"
    assert tomllib.loads(config.read_text())["client"]["listen"] == [ports[0]]

    again = machine.ctl("service", "install", "--user")
    assert again.stdout.startswith("unchanged")
    assert machine.status()["pid"] == first["pid"]

    # Killed, it comes back; asked to stop, it does not.
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(str(first["pid"])), signal.SIGKILL)
    eventually(
        "it runs again", lambda: machine.status()["pid"] not in {0, first["pid"]}, within_s=60, every_s=1
    )
    eventually("it serves again", lambda: machine.shown("ActiveState") == "active", within_s=60, every_s=0.5)
    assert machine.shown("NRestarts") == "1"
    assert machine.run("systemctl", "--user", "stop", "swarmplane").returncode == 0
    assert (machine.shown("Result"), machine.shown("ExecMainStatus")) == ("success", "0")
    assert machine.status()["pid"] == 0

    assert machine.run("systemctl", "--user", "start", "swarmplane").returncode == 0
    removed = machine.ctl("service", "uninstall")
    assert removed.returncode == 0, removed.stderr
    last = machine.status()
    assert (last["installed"], last["pid"]) == (False, 0)
    assert "access" not in tomllib.loads(config.read_text()).get("log", {})
    assert not list((machine.home / ".config" / "systemd" / "user").rglob("*.service"))
