"""What is measured: the mock backend itself, reference proxies before it, one sidecar, and two with a hop."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
INSTALL = {"nginx": "apt-get install -y nginx-light", "haproxy": "apt-get install -y haproxy"}
QUESTION = b'{"model":"m1","messages":[{"role":"user","content":"Hello?"}]}'
NGINX = """
worker_processes 1; daemon off; pid {root}/nginx.pid; error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 2m;
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;
  fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  upstream u {{ server 127.0.0.1:{backend}; keepalive 256; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{
    proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}
}}
"""
HAPROXY = """
global
  maxconn 8192
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  http-reuse always
  server s1 127.0.0.1:{backend}
"""


class UnavailableError(Exception):
    """This target can't be measured here; the message says why."""


@dataclass
class Target:
    """Something that answers on ``port``; ``pids`` are the roots of the proxy's process trees."""

    name: str
    port: int
    pids: tuple[int, ...]


@dataclass
class Started:
    """Processes of ours; they end with the block, by their own process ids."""

    scratch: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ends: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def run(self, name: str, *command: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        """Start ``command`` with its output in a file called ``name``."""
        log = self.ends.enter_context((self.scratch / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log if stdout is None else stdout,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.processes.append(process)
        return process

    def pipe(self, name: str, *command: str) -> str:
        """Start ``command`` and wait for the first line that it prints.

        Raises:
            UnavailableError: It ended before it printed one.
        """
        process = self.run(name, *command, stdout=subprocess.PIPE)
        line = process.stdout.readline().decode() if process.stdout is not None else ""
        if not line:
            raise UnavailableError(f"{name} did not start: {self.tail(name)}")
        return line

    def tail(self, name: str) -> str:
        """The last line that ``name`` printed."""
        lines = (self.scratch / f"{name}.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "no output"

    def end(self, pids: Sequence[int]) -> None:
        """End those of our processes that have one of ``pids``."""
        for process in self.processes:
            if process.pid in pids and process.poll() is None:
                process.terminate()
                process.wait(15)

    def stop(self) -> None:
        """End them all."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        self.ends.close()


@contextlib.contextmanager
def started() -> Iterator[Started]:
    """A place and a life for processes."""
    with tempfile.TemporaryDirectory(prefix="swarmplane-bench-", ignore_cleanup_errors=True) as scratch:
        one = Started(Path(scratch))
        try:
            yield one
        finally:
            one.stop()


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def mock(run: Started, name: str = "direct") -> Target:
    """The backend of all others."""
    process = run.run(name, sys.executable, str(HERE / "backend.py"), "0", stdout=subprocess.PIPE)
    if process.stdout is None:
        raise UnavailableError("no output")
    return Target(name, int(process.stdout.readline()), (process.pid,))


def nginx(run: Started, backend: int) -> Target:
    """One worker, connections kept alive."""
    port = free_port()
    config = run.scratch / "nginx.conf"
    config.write_text(NGINX.format(root=run.scratch, backend=backend, port=port))
    process = run.run("nginx", _program("nginx"), "-p", str(run.scratch), "-c", str(config))
    return answering(run, Target("nginx", port, (process.pid,)), process)


def haproxy(run: Started, backend: int) -> Target:
    """One thread, connections shared."""
    port = free_port()
    config = run.scratch / "haproxy.cfg"
    config.write_text(HAPROXY.format(backend=backend, port=port))
    process = run.run("haproxy", _program("haproxy"), "-f", str(config))
    return answering(run, Target("haproxy", port, (process.pid,)), process)


def sidecar(run: Started, *backends: int, name: str = "sidecar", flags: Sequence[str] = ()) -> Target:
    """A host that joined no swarm."""
    port, data_dir = free_port(), run.scratch / name
    process = run.run(
        name,
        *(sys.executable, "-m", "sidecar.main", "--data-dir", str(data_dir), "--log-level", "warning"),
        *("--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{free_port()}"),
        *(f for backend in backends for f in ("--backend", f"http://127.0.0.1:{backend}")),
        *("--no-discover", "--no-mdns", *flags),
    )
    return answering(run, Target(name, port, (process.pid,)), process)


def hop(run: Started, *, flags_a: Sequence[str], flags_b: Sequence[str]) -> Target:
    """A founder without models and a member that has its backends from its flags: all crosses mutual TLS."""
    a, b = run.scratch / "a", run.scratch / "b"
    ports = {flag: free_port() for flag in ("control", "join", "console")}
    founder = [f for flag, port in ports.items() for f in (f"--{flag}-listen", f"127.0.0.1:{port}")]
    entry = free_port()
    swarmctl = (sys.executable, "-m", "cli.main")
    run.run("hop-a", *swarmctl, "up", *_host(a, "bench-a", entry), *founder, *flags_a)
    pid_a = _runtime(run, "hop-a", a)
    made = subprocess.run(
        [*swarmctl, "token", "create", "--json", "--data-dir", str(a)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if made.returncode:
        raise UnavailableError(f"no join token: {made.stderr.strip()[-200:]}")
    token = run.scratch / "token"
    token.touch(0o600)
    token.write_text(json.loads(made.stdout)["token"])
    address = f"127.0.0.1:{ports['join']}"
    run.run(
        "hop-b",
        *(*swarmctl, "join", address, "--token-file", str(token), *_host(b, "bench-b", free_port())),
        *flags_b,
    )
    pid_b = _runtime(run, "hop-b", b)
    return answering(run, Target("hop", entry, (pid_a, pid_b)), None)


def _host(data_dir: Path, name: str, port: int) -> list[str]:
    listeners = {"listen": port, "admin-listen": free_port(), "peer-listen": free_port()}
    flags = [f for flag, one in listeners.items() for f in (f"--{flag}", f"127.0.0.1:{one}")]
    return ["--data-dir", str(data_dir), "--name", name, "--no-discover", "--no-mdns", *flags]


def _runtime(run: Started, name: str, data_dir: Path, within_s: float = 30) -> int:
    """Process id of the host's sidecar, once the host says that it runs."""
    process, ends_s = run.processes[-1], time.monotonic() + within_s
    while time.monotonic() < ends_s and process.poll() is None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return int(json.loads((data_dir / "runtime.json").read_text())["pids"]["sidecar"])
        time.sleep(0.1)
    raise UnavailableError(f"a host did not start: {run.tail(name)}")


def _program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if found is None:
        raise UnavailableError(f"not installed; {INSTALL[name]}")
    return found


def answering(
    run: Started,
    target: Target,
    process: subprocess.Popen[bytes] | None,
    within_s: float = 20,
    *,
    ask: bool = False,
) -> Target:
    """``target`` once the mock's model is listed through it; or, to ``ask``, once it answers a question.

    Raises:
        UnavailableError: It ended, or took too long.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    base, ends_s = f"http://127.0.0.1:{target.port}", time.monotonic() + within_s
    listing = urllib.request.Request(f"{base}/v1/models")
    question = urllib.request.Request(
        f"{base}/v1/chat/completions", QUESTION, {"content-type": "application/json"}
    )
    while time.monotonic() < ends_s:
        if process is not None and process.poll() is not None:
            raise UnavailableError(f"it ended: {run.tail(target.name)}")
        with (
            contextlib.suppress(OSError, ValueError),
            opener.open(question if ask else listing, timeout=2) as answer,
        ):
            found = json.load(answer)
            if ask or any(row["id"] == "m1" for row in found["data"]):
                return target
        time.sleep(0.1)
    raise UnavailableError("it did not serve the mock's model in time")
