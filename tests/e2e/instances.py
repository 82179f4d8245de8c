"""Control planes as processes of their own, beside each other on one etcd."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hosts import SWARMCTL, eventually, free_ports, swarmctl


class Instance:
    """``swarm-controlplane`` on a data directory and ports of its own."""

    def __init__(self, root: Path, name: str, etcd: Sequence[str]) -> None:
        self.data_dir = root / name
        self.log = root / f"{name}.log"
        self.ports = dict(zip(("control", "join", "console"), free_ports(3), strict=True))
        self._etcd = ",".join(etcd)
        self._flags: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def etcd(self) -> list[str]:
        """The flag that names the cluster."""
        return ["--etcd", self._etcd]

    def start(self, *flags: str, wait: bool = True) -> None:
        """Start it, with ``flags`` or those of the last time, and wait until it serves."""
        self._flags = flags or self._flags
        listening = [f"--{kind}-listen=127.0.0.1:{port}" for kind, port in self.ports.items()]
        where = ["--data-dir", str(self.data_dir)]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "controlplane.main", *where, *listening, *self.etcd, *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | {"GRPC_VERBOSITY": "ERROR"},
            )
        if wait:
            eventually(f"{self.data_dir.name} serves", self._ready, within_s=60)

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"it ended with {self._process.returncode}:\n{self.log.read_text()[-3000:]}")
        return self.facts.get("pid") == self._process.pid

    @property
    def facts(self) -> dict[str, Any]:
        """What the ready file says."""
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self.data_dir / "run" / "controlplane.json").read_text())
            return found
        return {}

    @property
    def id(self) -> str:
        """Of this life."""
        return str(self.facts["instance_id"])

    @property
    def join_address(self) -> str:
        return f"127.0.0.1:{self.ports['join']}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ctl(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """``swarmctl`` as the admin of this instance's host."""
        return swarmctl(*arguments, data_dir=self.data_dir, timeout_s=timeout_s)

    def json(self, *arguments: str) -> Any:
        """The document that it prints; fails with its words if it fails."""
        done = self.ctl(*arguments, "--json")
        assert done.returncode == 0, f"swarmctl {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def token(self, *arguments: str) -> str:
        """A new join token."""
        return str(self.json("token", "create", *arguments)["token"])

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def ended(self, within_s: float = 30) -> int:
        """Exit status."""
        assert self._process is not None
        return self._process.wait(within_s)

    def close(self) -> None:
        """Stop it, however it is."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.ended(15)
        self.kill()


class Elections:
    """What ``swarmctl election watch`` prints, with the moment at which it was read."""

    def __init__(self, data_dir: Path) -> None:
        self._process = subprocess.Popen(
            [*SWARMCTL, "election", "watch", "--json", "--data-dir", str(data_dir)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[tuple[float, dict[str, Any]]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.holder(other_than="")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            document = json.loads(line)
            if document["kind"] == "changed":
                self._lines.put((time.monotonic(), document["election"]))

    def holder(self, *, other_than: str, within_s: float = 40) -> tuple[float, dict[str, Any]]:
        """The next election with a holder, and when it was told."""
        while True:
            try:
                at_s, election = self._lines.get(timeout=within_s)
            except queue.Empty:
                pytest.fail("nobody was elected")
            if election["holder"] not in {"", other_than}:
                return at_s, election

    def close(self) -> None:
        self._process.kill()
        self._process.wait(5)
        self._reader.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def elections(data_dir: Path) -> Iterator[Elections]:
    """Watch from now on."""
    watch = Elections(data_dir)
    try:
        yield watch
    finally:
        watch.close()
