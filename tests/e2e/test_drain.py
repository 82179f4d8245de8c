"""Nodes that go while clients are served: nobody notices."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.hosts import Backend, Host, Swarm, eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

MODEL = "shared-model"


@pytest.fixture
def backends() -> Iterator[list[Backend]]:
    found = [Backend(MODEL) for _ in range(3)]
    yield found
    for one in found:
        one.close()


def ask(port: int, *, stream: bool) -> tuple[int, str, str]:
    """One request: status (0: none), the node that served, and the text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    fake = "chunks=20; interval_s=0.05" if stream else "delay_s=0.03"
    headers = {"content-type": "application/json", "x-fake": fake}
    body = json.dumps({"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]})
    try:
        connection.request("POST", "/v1/chat/completions", body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers.get("x-swarm-node", ""), answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, "", repr(error)
    finally:
        connection.close()


class Traffic:
    """What clients of some hosts saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int, str, bool]] = []
        """When it began, status, node, and whether the answer was whole."""
        self.failures: list[str] = []

    def client(self, host: Host, *, stream: bool, stop: threading.Event) -> None:
        while not stop.is_set():
            begun_s = time.monotonic()
            status, node, text = ask(host.ports["listen"], stream=stream)
            whole = text.rstrip().endswith("data: [DONE]") if stream else text.endswith("}")
            self.seen.append((begun_s, status, node, whole))
            if status != 200 or not whole or '"error"' in text:
                self.failures.append(f"{status} from {node or 'nobody'}: {text[-300:]}")

    def nodes_since(self, when_s: float) -> set[str]:
        return {node for begun_s, _, node, _ in tuple(self.seen) if begun_s >= when_s}


@contextmanager
def traffic(*hosts: Host) -> Iterator[Traffic]:
    """Three clients with plain requests and three with streams at each of ``hosts``."""
    found, stop = Traffic(), threading.Event()
    threads = [
        threading.Thread(target=found.client, args=(host,), kwargs={"stream": number % 2 == 0, "stop": stop})
        for host in hosts
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        stop.set()
        for thread in threads:
            thread.join(90)


def test_no_request_fails_while_a_node_drains_or_leaves(swarm: Swarm, backends: list[Backend]) -> None:
    a, b, c = swarm.host("a"), swarm.host("b"), swarm.host("c")
    a.up("--backend", backends[0].url)
    token = a.token("--uses", "2")
    b.join(token, a, "--backend", backends[1].url)
    c.join(token, a, "--backend", backends[2].url)
    for host in (a, b, c):
        eventually(
            f"{host.name} sees all three",
            lambda host=host: len(host.get("/endpoints", admin=True)["items"]) == 3,
        )
    with traffic(a, c) as clients:
        eventually("all three serve", lambda: clients.nodes_since(0.0) >= {"a", "b", "c"})
        done = a.json("node", "drain", "b")
        drained_s = time.monotonic()
        assert (done["schema"], done["state"]) == ("swarmctl.operation/v1", "done")
        assert not b.get("/requests", admin=True)["items"]
        count = len(clients.seen)
        eventually("the others go on", lambda: len(clients.seen) > count + 60)
        assert "b" not in clients.nodes_since(drained_s)

        a.json("node", "uncordon", "b")
        back_s = time.monotonic()
        eventually("B serves again", lambda: "b" in clients.nodes_since(back_s))

        b.signal(signal.SIGTERM)
        assert b.wait(60) == 0
        count = len(clients.seen)
        eventually("the others go on", lambda: len(clients.seen) > count + 60)
    assert not clients.failures, clients.failures[:3]


def test_a_drain_may_be_left_to_itself_and_the_admin_listener_drains_too(
    swarm: Swarm, backends: list[Backend]
) -> None:
    a, b = swarm.pair("--backend", backends[1].url, a_flags=("--backend", backends[0].url))
    for host in (a, b):
        eventually("both are seen", lambda host=host: len(host.get("/endpoints", admin=True)["items"]) == 2)
    begun = a.ctl("node", "drain", "b", "--no-wait")
    assert begun.returncode == 0
    assert begun.stdout.strip()
    eventually("B is told", lambda: _drains(b))
    a.json("node", "uncordon", "b")
    eventually("B takes requests again", lambda: not _drains(b))

    connection = http.client.HTTPConnection("127.0.0.1", b.ports["admin"], timeout=10)
    connection.request("POST", "/drain")
    assert json.loads(connection.getresponse().read())["draining"] is True
    assert {ask(a.ports["listen"], stream=False)[:2] for _ in range(5)} == {(200, "a")}
    connection.request("POST", "/undrain")
    assert json.loads(connection.getresponse().read())["draining"] is False
    connection.close()
    reloaded = b.json("config", "reload")
    assert reloaded == {"schema": "swarmctl.config-reload/v1", "applied": [], "restart_needed": []}


def _drains(host: Host) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", host.ports["admin"], timeout=10)
    try:
        connection.request("GET", "/readyz")
        return "draining" in json.loads(connection.getresponse().read())["reasons"]
    finally:
        connection.close()
