"""Whole hosts as a user runs them: ``swarmctl up`` and ``swarmctl join`` in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

READY_S = 60.0
SWARMCTL = (sys.executable, "-m", "cli.main")


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; all held at once, so that they differ.

    Below those that systems give to outgoing connections: one of these would be taken before a host binds it.
    """
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            one = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                port = random.randrange(20_000, 32_000)
                one.bind(("127.0.0.1", port))
                found.append(port)
    return found


def eventually(what: str, check: Any, *, within_s: float = 30.0, every_s: float = 0.05) -> Any:
    """The first true answer of ``check``; fails naming ``what`` after ``within_s``."""
    ends_s = time.monotonic() + within_s
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > ends_s:
            pytest.fail(f"not within {within_s:g} s: {what}")
        time.sleep(every_s)


def swarmctl(
    *arguments: str, data_dir: Path | None = None, env: Mapping[str, str] | None = None, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    where = () if data_dir is None else ("--data-dir", str(data_dir))
    return subprocess.run(
        [*SWARMCTL, *arguments, *where],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **(env or {})},
        check=False,
        stdin=subprocess.DEVNULL,
    )


class Host:
    """One machine of a swarm: a data directory and, while it runs, ``swarmctl up`` on it."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.data_dir = root / name
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.ports = dict(
            zip(("listen", "control", "join", "admin", "peer", "console"), free_ports(6), strict=True)
        )
        self.log = root / f"{name}.log"
        self.looks_at: Sequence[int] | None = None
        """Ports where it looks for backends; None: it does not look."""
        self._process: subprocess.Popen[bytes] | None = None

    def flags(self, *, founder: bool) -> list[str]:
        """Loopback listeners on this host's own ports."""
        kinds = ["listen", "admin", "peer", *(["control", "join", "console"] if founder else [])]
        flags = ["--data-dir", str(self.data_dir), "--name", self.name, "--no-mdns"]
        if self.looks_at is None:
            flags.append("--no-discover")
        for kind in kinds:
            flag = "--listen" if kind == "listen" else f"--{kind}-listen"
            flags += [flag, f"127.0.0.1:{self.ports[kind]}"]
        return flags

    def start(
        self, command: Sequence[str], *flags: str, founder: bool, env: Mapping[str, str] | None = None
    ) -> None:
        """Start and wait until the host says it is ready."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*SWARMCTL, *command, *self.flags(founder=founder), *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self._search(), **(env or {})},
            )
        eventually(f"{self.name} is ready", self._ready, within_s=READY_S)

    def _search(self) -> Mapping[str, str]:
        """What the environment says of looking for backends."""
        if self.looks_at is None:
            return {}
        ports = json.dumps(list(self.looks_at))
        return {"SWARMPLANE_DISCOVERY__BACKENDS": "true", "SWARMPLANE_DISCOVERY__PORTS": ports}

    def up(self, *flags: str, env: Mapping[str, str] | None = None) -> None:
        """Found a swarm."""
        self.start(["up"], *flags, founder=True, env=env)

    def join(self, token: str, founder: Host, *flags: str, env: Mapping[str, str] | None = None) -> None:
        """Join the swarm of ``founder``."""
        path = self.data_dir.parent / f"{self.name}.token"
        path.write_text(token)
        path.chmod(0o600)
        address = f"127.0.0.1:{founder.ports['join']}"
        self.start(["join", address, "--token-file", str(path)], *flags, founder=False, env=env)

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"{self.name} ended with {self._process.returncode}:\n{self.log.read_text()[-4000:]}")
        with contextlib.suppress(OSError, ValueError):
            return bool(self.runtime["urls"]["client"])
        return False

    @property
    def runtime(self) -> Any:
        """``runtime.json``."""
        return json.loads((self.data_dir / "runtime.json").read_text())

    @property
    def url(self) -> str:
        """Client URL."""
        return f"http://127.0.0.1:{self.ports['listen']}"

    def get(self, path: str, *, admin: bool = False, timeout_s: float = 10) -> Any:
        """JSON of a GET."""
        port = self.ports["admin" if admin else "listen"]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=timeout_s) as answer:
            return json.load(answer)

    def models(self) -> set[str]:
        """Ids that ``/v1/models`` lists; empty while nobody answers."""
        with contextlib.suppress(OSError, ValueError):
            return {entry["id"] for entry in self.get("/v1/models")["data"]}
        return set()

    def ctl(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """``swarmctl`` on this host's data directory."""
        return swarmctl(*arguments, data_dir=self.data_dir, **more)

    def json(self, *arguments: str) -> Any:
        """The document that ``swarmctl … --json`` prints; fails with its words if it fails."""
        done = self.ctl(*arguments, "--json")
        assert done.returncode == 0, f"swarmctl {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def token(self, *arguments: str) -> str:
        """A new join token."""
        return str(self.json("token", "create", *arguments)["token"])

    def pid(self, role: str) -> int:
        """Process id of ``sidecar`` or ``controlplane``, as ``runtime.json`` has it."""
        return int(self.runtime["pids"][role])

    def family(self) -> list[psutil.Process]:
        """Every process below ``swarmctl up``."""
        if self._process is None:
            return []
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def signal(self, number: signal.Signals) -> None:
        """Signal ``swarmctl up`` itself."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, within_s: float = 30) -> int:
        """Exit status of ``swarmctl up``."""
        assert self._process is not None
        return self._process.wait(within_s)

    def close(self) -> None:
        """Stop everything this host started; what does not stop in time is killed."""
        if self._process is None:
            return
        family = self.family()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process = None


class Swarm:
    """Hosts that end with the test."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._hosts: list[Host] = []

    def host(self, name: str) -> Host:
        """A host that does not run yet."""
        host = Host(self._root, name)
        self._hosts.append(host)
        return host

    def pair(self, *b_flags: str, a_flags: Sequence[str] = ()) -> tuple[Host, Host]:
        """A founder without models and a member with ``b_flags``."""
        a, b = self.host("a"), self.host("b")
        a.up(*a_flags)
        b.join(a.token(), a, *b_flags)
        return a, b

    def close(self) -> None:
        """Stop all, members first."""
        for host in reversed(self._hosts):
            host.close()


class Backend:
    """The fault-injecting backend in a process of its own: what happens to it is seen from outside.

    ``kind`` is one of :mod:`tests.fakes.kinds`; empty: the simple shapes.
    """

    def __init__(self, *models: str, kind: str = "", port: int = 0) -> None:
        named = [part for model in models for part in ("--model", model)]
        program = ["tests.fakes.kinds", "--kind", kind] if kind else ["tests.fakes.backend"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", *program, "--port", str(port), *named],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, orders: Mapping[str, Any]) -> None:
        """Orders for what comes, as :meth:`tests.fakes.backend.FakeBackend.told` reads them."""
        request = urllib.request.Request(f"{self.url}/fake", json.dumps(orders).encode(), method="POST")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()

    def requests(self) -> list[dict[str, Any]]:
        """What arrived for inference, as it arrived."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/fake", timeout=10) as answer:
            return [r for r in json.load(answer)["requests"] if r["method"] == "POST"]

    def close(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.wait(5)
        assert self._process.stdout is not None
        self._process.stdout.close()
