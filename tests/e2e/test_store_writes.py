"""How often etcd is written: for a membership change, for requests, and while nothing happens."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hosts import Backend, Swarm, eventually
from tests.e2e.instances import Instance
from tests.e2e.load import Load
from tests.e2e.store_counts import messages, revision
from tests.e2e.test_failures import post
from tests.store.etcd_server import WITHOUT, Etcd, etcd_binary, running

FLEET = Path(__file__).parents[2] / "bench" / "fleet.py"
NODES = 100
STEADY_S = 10.0
MODEL = "counted"

pytestmark = [
    pytest.mark.process,
    pytest.mark.etcd_cluster,
    pytest.mark.timeout(240),
    pytest.mark.skipif(etcd_binary() is None, reason=WITHOUT),
]


class Fleet:
    """``bench/fleet.py``: simulated sidecars on real streams, in a process of its own."""

    def __init__(self, instance: Instance, nodes: int) -> None:
        token = instance.token("--uses", str(nodes))
        self._process = subprocess.Popen(
            [sys.executable, str(FLEET), str(nodes), instance.join_address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ask(token)

    def ask(self, line: str) -> dict[str, Any]:
        """One command, and its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it at once: to the instance, all its sidecars die."""
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def etcd() -> Iterator[Etcd]:
    with running(1) as etcd:
        yield etcd


@pytest.fixture
def instance(tmp_path: Path, etcd: Etcd) -> Iterator[Instance]:
    instance = Instance(tmp_path, "only", etcd.endpoints)
    instance.start()
    yield instance
    instance.close()


def settled(etcd: Etcd, *, quiet_s: float = 2.0) -> int:
    """The revision, once nothing was written for ``quiet_s``."""
    found, since_s = revision(etcd), time.monotonic()

    def quiet() -> bool:
        nonlocal found, since_s
        now = revision(etcd)
        if now != found:
            found, since_s = now, time.monotonic()
        return time.monotonic() - since_s >= quiet_s

    eventually("the store is quiet", quiet, within_s=60, every_s=0.2)
    return found


def test_a_hundred_nodes_that_say_their_load_write_next_to_nothing(etcd: Etcd, instance: Instance) -> None:
    fleet = Fleet(instance, NODES)
    try:
        before = revision(etcd)
        assert fleet.ask("connect")["up"] == NODES
        _tell("writes of a hundred that connect", settled(etcd) - before)
        before, renewals = revision(etcd), messages(etcd, "LeaseKeepAlive")
        got = fleet.ask(f"settle {STEADY_S}")
        written = revision(etcd) - before
        renewed = messages(etcd, "LeaseKeepAlive") - renewals
        _tell("writes a second in steady state", written / STEADY_S)
        _tell("lease renewals a second in steady state", renewed / STEADY_S)
    finally:
        fleet.close()
    assert got["digests"] > 0, "they did say their load"
    assert written <= STEADY_S
    # The controller's once a second, the instance's and that of all its nodes less often.
    assert renewed <= 2 * STEADY_S * 1.5


def test_a_membership_change_is_few_writes_and_a_request_is_none(
    etcd: Etcd, instance: Instance, swarm: Swarm, tmp_path: Path
) -> None:
    backend, host = Backend(MODEL), swarm.host("one")
    path = tmp_path / "one.token"
    path.write_text(instance.token())
    flags = ["join", instance.join_address, "--token-file", str(path), "--backend", backend.url]
    empty = settled(etcd)
    try:
        host.start(flags, founder=False)
        eventually("it serves", lambda: post(host, MODEL)[0] == 200)
        before = settled(etcd)
        _tell("writes of a host that joins for the first time", before - empty)
        with Load(host, MODEL, pause_s=0.0) as load:
            time.sleep(3)
        assert len(load.answers) > 100
        assert revision(etcd) == before, f"{len(load.answers)} requests wrote to the store"

        host.close()
        left = settled(etcd)
        _tell("writes of a host that leaves", left - before)
        host.start(["up"], founder=False)
        eventually("it serves", lambda: post(host, MODEL)[0] == 200)
        back = settled(etcd)
        _tell("writes of a host that is back", back - left)
        host.ctl("leave")
    finally:
        host.close()
        backend.close()
    # Its membership with all that it has, and the route of its one model; enrolment is one of its own.
    assert before - empty <= 3
    assert left - before <= 2
    assert back - left <= 2


def _tell(what: str, number: float) -> None:
    """For who runs it with -s: nothing is asserted of a machine's speed."""
    sys.stdout.write(f"{what}: {number:.2f}\n")
