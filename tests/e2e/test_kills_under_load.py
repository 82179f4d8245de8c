"""A backend and a sidecar are killed under 64 clients: what runs elsewhere is not disturbed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.e2e.hosts import Backend, Host, Swarm, eventually
from tests.e2e.storm import Shot, Storm

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

MODELS = ("storm-one", "storm-two", "storm-three")
CLIENTS = 64
TYPED = {("api_error", "upstream_failed"), ("api_error", "upstream_timeout")}


@pytest.fixture
def backends() -> Iterator[list[Backend]]:
    found = [Backend(*MODELS) for _ in range(3)]
    yield found
    for one in found:
        one.close()


def all_serve(hosts: list[Host]) -> bool:
    """Whether every host knows three endpoints of every model."""
    for host in hosts:
        items = host.get("/endpoints", admin=True)["items"]
        if any(sum(item["model"] == model for item in items) < len(hosts) for model in MODELS):
            return False
    return True


@pytest.mark.parametrize("seconds", [12.0, pytest.param(30.0, marks=pytest.mark.storm)])
def test_only_streams_on_the_killed_processes_are_cut(
    swarm: Swarm, backends: list[Backend], seconds: float
) -> None:
    a, b, c = (swarm.host(name) for name in "abc")
    a.up("--backend", backends[0].url)
    b.join(a.token(), a, "--backend", backends[1].url)
    c.join(a.token(), a, "--backend", backends[2].url)
    eventually("all know all", lambda: all_serve([a, b, c]))

    killed_s: dict[str, float] = {}

    def kill(name: str, pid: int) -> None:
        killed_s[name] = time.monotonic()
        os.kill(pid, signal.SIGKILL)

    # The killed sidecar is a third one: nobody talks to it directly. It is started again after a second,
    # the backend is not.
    storm = Storm([a.ports["listen"], b.ports["listen"]], MODELS, CLIENTS)
    sidecar = c.pid("sidecar")
    storm.run(
        seconds,
        [
            (seconds * 0.3, lambda: kill("backend", backends[1].pid)),
            (seconds * 0.6, lambda: kill("sidecar", sidecar)),
        ],
    )

    shots = storm.shots
    print(f"{len(shots)} in {seconds:g} s; {storm.summary()}")  # noqa: T201
    failed = [str(shot) for shot in shots if not shot.fine and not shot.kind.stream]
    assert not failed, f"{len(failed)} plain requests failed: {failed[:5]}"

    dead_port = str(backends[1].port)

    def was_on(shot: Shot, name: str) -> bool:
        process = shot.backend == dead_port if name == "backend" else shot.node == "c"
        return process and shot.began_s <= killed_s[name] <= shot.ended_s

    cut = [shot for shot in shots if not shot.fine]
    for shot in cut:
        assert was_on(shot, "backend") or was_on(shot, "sidecar"), f"cut by nobody's death: {shot}"
        assert shot.status == 200, shot
        assert shot.whole, f"its chunks do not end: {shot}"
        assert (shot.error.get("type"), shot.error.get("code")) in TYPED, shot
        assert "[DONE]" not in shot.events, shot
    counts = {name: sum(was_on(shot, name) for shot in cut) for name in killed_s}
    print(f"cut: {counts}")  # noqa: T201
    assert all(counts.values()), "each death met streams, or nothing was shown"
    # The two that are left, and the third again, serve all the rest.
    assert {shot.node for shot in shots if shot.began_s > killed_s["sidecar"]} >= {"a"}
    for host in (a, b):
        eventually(
            "nothing is left in flight", lambda host=host: not host.get("/requests", admin=True)["items"]
        )
