"""Two machines on one network: the join line a founder prints, pasted alone, is enough."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from swarmplane import models
from tests.e2e.hosts import eventually

pytestmark = [pytest.mark.process, pytest.mark.root, pytest.mark.timeout(240)]

MODEL = "tiny-trained-q8"
ASK = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "What does the lion eat?"}]})


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


@contextlib.contextmanager
def _namespaces() -> Iterator[tuple[str, str]]:
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need Linux, root and iproute2")
    tag = secrets.token_hex(3)
    a, b = f"swa{tag}", f"swb{tag}"
    try:
        _ip("netns", "add", a)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces can't be made here: {error.stderr.decode().strip()}")
    try:
        _ip("netns", "add", b)
        _ip("link", "add", f"va{tag}", "netns", a, "type", "veth", "peer", "name", f"vb{tag}", "netns", b)
        for name, link, address, other in (
            (a, f"va{tag}", "10.77.0.1", "10.77.0.2"),
            (b, f"vb{tag}", "10.77.0.2", "10.77.0.1"),
        ):
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "address", "add", f"{address}/24", "dev", link)
            _ip("-n", name, "link", "set", link, "up")
            _ip("-n", name, "route", "add", "default", "via", other)
        yield a, b
    finally:
        for name in (a, b):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=10)


class _Terminal:
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


def _curl(namespace: str, path: str, body: str = "") -> str:
    data = ["-H", "content-type: application/json", "-d", body] if body else []
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, "curl", "-sS", "--noproxy", "*", "-m", "20", *data,
         f"http://127.0.0.1:11400{path}"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("proxied", [False, True], ids=["plain", "with-proxy-variables-set"])
def test_the_join_line_pasted_alone_joins_and_serves(tmp_path: Path, proxied: bool) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    dead = "http://10.77.0.99:3128"
    env = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"), dead)
    env = env if proxied else {}
    with _namespaces() as (a, b):
        founder = _Terminal(
            a, "swarmctl up --lan --no-discover --no-mdns --name a", tmp_path / "a", tmp_path / "a.log", **env
        )
        try:
            eventually("A is ready", lambda: "ready:" in founder.text(), within_s=60)
            line = eventually(
                "A printed a join line",
                lambda: re.search(
                    r"swarmctl join 10\.77\.0\.1\S* [^\r\n]*swp1\.[^\s]+[^\r\n]*", founder.text()
                ),
                within_s=10,
            ).group(0)
            member = _Terminal(
                b, line.strip(), tmp_path / "b", tmp_path / "b.log",
                SWARMPLANE_ENGINE__MODELS=str(models.path(MODEL)), **env,
            )  # fmt: skip
            try:
                eventually("B is ready", lambda: "ready:" in member.text(), within_s=60)
                answer = eventually(
                    "A serves B's model",
                    lambda: (text := _curl(a, "/v1/chat/completions", ASK)) and "meat" in text and text,
                    within_s=60,
                    every_s=0.5,
                )
                assert "The lion eats meat." in json.loads(answer)["choices"][0]["message"]["content"]
            except BaseException as error:
                error.add_note(f"A: {founder.text()[-3000:]}\nB: {member.text()[-3000:]}")
                raise
            finally:
                member.close()
        finally:
            founder.close()
