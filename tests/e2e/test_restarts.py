"""A host that restarts, or whose sidecar dies, refuses no connection: the parent holds the listener."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.hosts import Backend, Host, Swarm, eventually

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform == "win32", reason="listeners cannot be handed down there"),
]

MODEL = "steady-model"


@pytest.fixture
def backend() -> Iterator[Backend]:
    one = Backend(MODEL)
    yield one
    one.close()


def ask(host: Host, *, fake: str = "", stream: bool = False) -> tuple[str, str]:
    """How one request on a connection of its own went, in a word, and its answer."""
    body = json.dumps({"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]})
    connection = http.client.HTTPConnection("127.0.0.1", host.ports["listen"], timeout=60)
    try:
        connection.connect()
    except OSError as error:
        return f"refused: {error!r}", ""
    try:
        headers = {"content-type": "application/json", "x-fake": fake}
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        return str(answer.status), answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__, ""
    finally:
        connection.close()


@contextmanager
def connecting(host: Host) -> Iterator[Counter[str]]:
    """Clients that connect anew for every request, until the end of the block."""
    found, stop = Counter[str](), threading.Event()

    def client() -> None:
        while not stop.is_set():
            found[ask(host)[0]] += 1
            time.sleep(0.005)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        stop.set()
        for thread in threads:
            thread.join(70)


def test_a_restart_loses_no_request_and_finishes_the_streams(swarm: Swarm, backend: Backend) -> None:
    host = swarm.host("a")
    host.up("--backend", backend.url)
    eventually("it serves", lambda: ask(host)[0] == "200")
    streamed: list[tuple[str, str]] = []
    stream = threading.Thread(
        target=lambda: streamed.append(ask(host, fake="chunks=30; interval_s=0.1", stream=True))
    )
    with connecting(host) as seen:
        stream.start()
        eventually("clients are served", lambda: seen["200"] > 20)
        before = host.runtime["pids"]
        done = host.ctl("restart", timeout_s=120)
        assert done.returncode == 0, done.stderr
        served = seen["200"]
        eventually("clients are served again", lambda: seen["200"] > served + 20)
    stream.join(60)
    after = host.runtime["pids"]
    assert set(before) == set(after) == {"sidecar", "controlplane"}
    assert not set(before.values()) & set(after.values())
    assert set(seen) == {"200"}, seen
    ((status, text),) = streamed
    assert (status, text.rstrip().endswith("data: [DONE]"), text.count("word")) == ("200", True, 30)


def test_a_sidecar_that_is_killed_refuses_no_connection(swarm: Swarm, backend: Backend) -> None:
    host = swarm.host("a")
    host.up("--backend", backend.url)
    eventually("it serves", lambda: ask(host)[0] == "200")
    with connecting(host) as seen:
        for _ in range(2):
            served, pid = seen["200"], host.pid("sidecar")
            eventually("clients are served", lambda served=served: seen["200"] > served + 20)
            os.kill(pid, signal.SIGKILL)
            eventually("it is back", lambda pid=pid: host.pid("sidecar") != pid)
        served = seen["200"]
        eventually("clients are served again", lambda: seen["200"] > served + 20)
    assert not [how for how in seen if how.startswith("refused")], seen
    # What the dead process had accepted ended with it: at most one request of each of the four clients.
    assert sum(count for how, count in seen.items() if how != "200") <= 8, seen


def test_a_sidecar_alone_serves_from_disk_and_says_that_it_is_stale(swarm: Swarm, backend: Backend) -> None:
    """B restarts while the only control plane is down: it serves from its disk, and marks it."""
    a, b = swarm.pair("--backend", backend.url)
    eventually("B has a table", lambda: b.get("/control", admin=True)["connected"])
    eventually("B serves", lambda: ask(b)[0] == "200")
    a.close()
    os.kill(b.pid("sidecar"), signal.SIGKILL)
    assert ask(b)[0] in {"200", "RemoteDisconnected", "ConnectionResetError"}
    connection = http.client.HTTPConnection("127.0.0.1", b.ports["listen"], timeout=60)
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["x-swarm-stale"]) == (200, "1")
    answer.read()
    connection.close()
    connection = http.client.HTTPConnection("127.0.0.1", b.ports["admin"], timeout=20)
    connection.request("GET", "/metrics")
    assert "\nswarmplane_route_stale 1\n" in connection.getresponse().read().decode()
    connection.close()
