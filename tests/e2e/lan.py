"""Machines on one network: namespaces on a bridge, and terminals inside them."""

from __future__ import annotations

import contextlib
import os
import pty
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.e2e.hosts import eventually

_NETWORK = "10.77.0"


def ip(*arguments: str) -> None:
    """Run ``ip``."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


def address_of(number: int) -> str:
    """Of the host with this number, from 1."""
    return f"{_NETWORK}.{number}"


def drop_multicast(hosts: Sequence[str]) -> None:
    """From now on the bridge of ``hosts`` passes on nothing that is sent to groups."""
    for number, name in enumerate(hosts, 1):
        tag = name.removeprefix(f"sw{number}")
        port = ("link", "set", f"p{number}{tag}", "type", "bridge_slave")
        ip("-n", f"sws{tag}", *port, "mcast_flood", "off")


@contextlib.contextmanager
def lan(count: int, *, multicast: bool = True) -> Iterator[tuple[str, ...]]:
    """``count`` hosts with an address each, on a bridge; the names of their namespaces.

    Without ``multicast`` the bridge drops what is sent to groups, as some wireless networks do.
    """
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need Linux, root and iproute2")
    tag = secrets.token_hex(3)
    switch, hosts = f"sws{tag}", tuple(f"sw{number}{tag}" for number in range(1, count + 1))
    made: list[str] = []
    try:
        for name in (switch, *hosts):
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"network namespaces can't be made here: {error.stderr.decode().strip()}")
            made.append(name)
        ip("-n", switch, "link", "add", "sw0", "type", "bridge", "mcast_snooping", "0")
        ip("-n", switch, "link", "set", "sw0", "up")
        for number, name in enumerate(hosts, 1):
            port = f"p{number}{tag}"
            ip("link", "add", "lan0", "netns", name, "type", "veth", "peer", "name", port, "netns", switch)
            ip("-n", switch, "link", "set", port, "master", "sw0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "address", "add", f"{address_of(number)}/24", "dev", "lan0")
            ip("-n", name, "link", "set", "lan0", "up")
            # Nobody is there: a default route is what a host in a house has.
            ip("-n", name, "route", "add", "default", "via", f"{_NETWORK}.254")
        if not multicast:
            drop_multicast(hosts)
        yield hosts
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=10)


def move(namespace: str, number: int) -> None:
    """Give the host another address, that of ``number``, and take the one that it had."""
    ip("-n", namespace, "address", "flush", "dev", "lan0")
    ip("-n", namespace, "address", "add", f"{address_of(number)}/24", "dev", "lan0")
    ip("-n", namespace, "route", "replace", "default", "via", f"{_NETWORK}.254")


class Terminal:
    """A command on a terminal of its own inside a namespace."""

    def __init__(self, namespace: str, line: str, home: Path, log: Path, **env: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._log = log
        self._output = log.open("wb")
        master, slave = pty.openpty()
        scripts = Path(sys.executable).parent
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, "sh", "-c", f"exec {line}"],
            stdin=slave,
            stdout=self._output,
            stderr=slave,
            start_new_session=True,
            env={
                "PATH": f"{scripts}:{os.environ['PATH']}",
                "HOME": str(home),
                "XDG_DATA_HOME": str(home / "data"),
                "XDG_CONFIG_HOME": str(home / "config"),
                "LANG": "C.UTF-8",
                **env,
            },
        )
        os.close(slave)
        os.set_blocking(master, False)
        self._master, self._text = master, ""
        self.started_s, self.ready_s = time.monotonic(), 0.0

    def text(self) -> str:
        """Everything shown so far."""
        with contextlib.suppress(BlockingIOError, OSError):
            while piece := os.read(self._master, 65_536):
                self._text += piece.decode(errors="replace")
        return self._text

    def close(self) -> None:
        """Interrupt, wait, and kill what is left."""
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children(recursive=True)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        for process in psutil.wait_procs(family, timeout=5)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(5)
        os.close(self._master)
        self._output.close()


def curl(namespace: str, path: str, body: str = "") -> str:
    """The answer of the host's own sidecar."""
    data = ["-H", "content-type: application/json", "-d", body] if body else []
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, "curl", "-sS", "--noproxy", "*", "-m", "20", *data,
         f"http://127.0.0.1:11400{path}"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return done.stdout


@contextlib.contextmanager
def on_terminal(namespace: str, line: str, home: Path, *, ready_s: float = 0.0) -> Iterator[Terminal]:
    """A command of a host, whose words go with what fails; ready within ``ready_s``, 0: not waited for."""
    terminal = Terminal(namespace, line, home, home.with_suffix(".log"))
    try:
        if ready_s:
            eventually("it is ready", lambda: "ready:" in terminal.text(), within_s=ready_s)
        yield terminal
    except BaseException as error:
        error.add_note(f"{home.name}: {terminal.text()[-3000:]}")
        raise
    finally:
        terminal.close()
