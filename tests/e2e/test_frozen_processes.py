"""A sidecar, then a backend, is frozen (SIGSTOP) beside an idle one: every request is answered in time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.e2e.hosts import Backend, Host, Swarm, eventually
from tests.e2e.storm import Kind, Shot, Storm

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

MODEL = "frozen-model"
FLOOR_S = 1.0
ENV = {"SWARMPLANE_UPSTREAM__FIRST_BYTE_FLOOR_S": f"{FLOOR_S:g}"}
QUICK = (Kind("delay_s=0.1"), Kind("delay_s=0.1; chunks=4; interval_s=0.01", stream=True))
LATE_S = 20.0
"""Far more than deadline and usual time, which are printed; far less than the limit without a deadline."""


@pytest.fixture
def backends() -> Iterator[list[Backend]]:
    found = [Backend(MODEL) for _ in range(2)]
    yield found
    for one in found:
        os.kill(one.pid, signal.SIGCONT)
        one.close()


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process that neither works nor ends; the kernel goes on to accept and acknowledge for it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def storm(entries: Sequence[Host], clients: int, seconds: float) -> list[Shot]:
    """Quick requests of two sorts."""
    one = Storm([host.ports["listen"] for host in entries], [MODEL], clients, QUICK)
    one.run(seconds)
    return one.shots


def judge(what: str, shots: Sequence[Shot], elsewhere: Callable[[Shot], bool]) -> None:
    times = sorted(shot.ended_s - shot.began_s for shot in shots)
    late = sum(one > FLOOR_S for one in times)
    half_s, worst_s = times[len(times) // 2], times[-1]
    print(f"{what}: {len(shots)}, half in {half_s:.2f} s, {late} late, worst {worst_s:.2f} s")  # noqa: T201
    failed = [str(shot) for shot in shots if not shot.fine]
    assert not failed, f"{len(failed)} failed: {failed[:4]}"
    assert all(elsewhere(shot) for shot in shots)
    assert worst_s < LATE_S
    assert late <= len(shots) / 4, "those that met the frozen one before it was known, and its probes"


def serves_again(entry: Host, node: str) -> bool:
    """Whether ``node`` is a candidate like any other, and answers who asks for it by name."""
    items = entry.get("/endpoints", admin=True)["items"]
    fine = [i for i in items if i["node"] == node and not i["excluded"] and not i["suspect"]]
    body = json.dumps({"model": MODEL, "messages": []}).encode()
    headers = {"content-type": "application/json", "x-swarm-node": node}
    asked = urllib.request.Request(f"{entry.url}/v1/chat/completions", body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), opener.open(asked, timeout=10) as answer:
        return bool(fine) and answer.headers["x-swarm-node"] == node
    return False


def test_nobody_waits_for_a_frozen_process(swarm: Swarm, backends: list[Backend]) -> None:
    a, b, c = (swarm.host(name) for name in "abc")
    a.up(env=ENV)
    b.join(a.token(), a, "--backend", backends[0].url, env=ENV)
    c.join(a.token(), a, "--backend", backends[1].url, env=ENV)
    for host in (a, b, c):
        eventually("all know both", lambda host=host: len(host.get("/endpoints", admin=True)["items"]) == 2)
    judge("before", storm([a, b], 8, 3.0), lambda _: True)

    with frozen(b.pid("sidecar")):
        judge("sidecar", storm([a, c], 16, 6.0), lambda shot: shot.node == "c")
    eventually("it serves again", lambda: serves_again(a, "b"))
    with frozen(backends[1].pid):
        judge("backend", storm([a, c], 16, 6.0), lambda shot: shot.node == "b")
    eventually("it serves again", lambda: serves_again(a, "c"))
