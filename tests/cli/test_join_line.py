"""The line for the next machine: shown to terminals alone, its token used again while it is good."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarmplane.advertise import this_machine
from tests.e2e.hosts import SWARMCTL, eventually, swarmctl

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform == "win32", reason="pseudo terminals are POSIX"),
    pytest.mark.skipif(not this_machine(), reason="this machine has no address but loopback"),
]
LISTEN = [
    word
    for kind in ("", "admin-", "control-", "join-", "console-", "peer-")
    for word in (f"--{kind}listen", "127.0.0.1:0" if kind in {"", "admin-", "console-"} else "0.0.0.0:0")
]


class Terminal:
    """``swarmctl up --lan`` with a terminal for its words."""

    def __init__(self, data_dir: Path, *flags: str) -> None:
        self._data_dir = data_dir
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        self._text = ""
        self._process = subprocess.Popen(
            [*SWARMCTL, "up", "--lan", "--data-dir", str(data_dir), *LISTEN, *flags],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave,
        )  # fmt: skip
        os.close(slave)

    def read(self) -> str:
        with contextlib.suppress(BlockingIOError, OSError):
            while piece := os.read(self._master, 65_536):
                self._text += piece.decode(errors="replace")
        return self._text

    def line(self) -> str:
        """What follows `swarmctl join`."""
        found = eventually(
            "a join line", lambda: re.search(r"swarmctl join (\S+ --token \S+)", self.read()), within_s=60
        )
        return str(found[1])

    def close(self) -> None:
        self._process.terminate()
        eventually("it ended", lambda: (self.read(), self._process.poll() is not None)[1])
        os.close(self._master)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def one(*flags: str) -> Terminal:
        opened.append(Terminal(tmp_path, *flags))
        return opened[-1]

    yield one
    for each in opened:
        with contextlib.suppress(OSError):
            each.close()


def test_the_line_is_shown_used_again_and_replaced(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    first = terminal()
    line = first.line()
    address, _, token = line.partition(" --token ")
    assert address.rpartition(":")[0].strip("[]") == this_machine()[0]
    items = swarmctl("token", "list", data_dir=tmp_path).stdout
    assert token.split(".")[1] in items
    first.close()
    second = terminal("--advertise", "box.example")
    again = second.line()
    assert again.endswith(token), "the same token"
    assert again.startswith("box.example:")
    assert swarmctl("token", "revoke", token.split(".")[1], data_dir=tmp_path).returncode == 0
    second.close()
    third = terminal("--advertise", "localhost").line()
    assert not third.endswith(token), "a revoked token is of no use"
    joined = swarmctl("join", *third.split(), "--enroll-only", data_dir=tmp_path / "b")
    assert joined.returncode == 0, joined.stderr
