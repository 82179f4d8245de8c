"""``swarmctl explain`` against a real admin listener."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.admin.server import AdminServer
from sidecar.admin.sources import Sources
from sidecar.core.cost import TERMS, Ask
from sidecar.routing.current import CurrentRoutes
from swarmplane.clock import SystemClock
from swarmplane.datadir import DataDir
from swarmplane.ids import BackendName, NodeId, SwarmId, endpoint_id
from swarmplane.inventory import Backend, BackendModel, Inventory
from swarmplane.routes import Endpoint, ModelRoute, NodeEntry, RouteTable, Version
from swarmplane.runtime import Runtime, write_runtime
from tests.cli.conftest import Done

BEE = NodeId("bee")


def two_nodes() -> CurrentRoutes:
    """``tiny`` at this host, and at a node that is draining."""
    routes = CurrentRoutes(NodeId("me"), node_name="desk")
    there = Endpoint(
        endpoint_id(BEE, BackendName("srv"), "tiny"), BEE, BackendName("srv"), "tiny", draining=True
    )
    models = {"tiny": ModelRoute("tiny", (there,), strategy="least_cost")}  # type: ignore[arg-type]
    nodes = {BEE: NodeEntry(BEE, "hive", ("10.0.0.2:11403",), session=3)}
    routes.install(RouteTable(SwarmId("s"), Version(2, 7), models, nodes))  # type: ignore[arg-type]
    routes.set_own(
        Inventory((Backend(BackendName("own"), "openai", models=(BackendModel("tiny"),), slots=2),))
    )
    clock = SystemClock()
    candidates = routes.resolve("tiny", clock.now_s()).candidates
    routes.balancer.choose(candidates, Ask("tiny"), strategy="least_cost", draw=0.0, now_s=clock.now_s())
    return routes


@pytest.fixture
def host(tmp_path: Path) -> Iterator[None]:
    """A host that runs in ``tmp_path``, as far as its admin listener goes."""
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    port = bound.getsockname()[1]
    sources = Sources(
        routes=two_nodes(),
        clock=SystemClock(),
        config=dict,
        version="0",
        joined=True,
        requests=list,
        control=dict,
        metrics=list,
        set_log_level=print,
    )
    loop, ready = asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        server = AdminServer(sources, bound)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(server.run())
            await server.serving.wait()
            ready.set()
            await stop.wait()
            running.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(20)
        urls = {"admin": f"http://127.0.0.1:{port}"}
        write_runtime(DataDir(tmp_path), Runtime(1, "me", "desk", "s", urls=urls))
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


@pytest.mark.usefixtures("host")
def test_it_shows_candidates_with_their_terms_and_why_others_are_left_out(
    swarmctl: Callable[..., Done],
) -> None:
    done = swarmctl("explain", "tiny", "--prompt-tokens", "936")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "tiny, 936 prompt tokens: least_cost"
    assert lines[2].split() == ["PLACE", "NODE", "BACKEND", "COST", "S", "TERMS", "PHASE", "LOAD", "EXCLUDED"]
    assert lines[3].split() == ["1", "desk", "own", "1.000", "latency=1.000", "admitting", "0/2", "-"]
    assert lines[4].split()[-1] == "draining"
    assert lines[6] == "the last request (least_cost) saw"
    assert lines[7].split() == ["me/own/tiny", "0.064", "latency=0.064"]


@pytest.mark.usefixtures("host")
def test_its_document(swarmctl: Callable[..., Done]) -> None:
    document = json.loads(swarmctl("explain", "tiny", "--json").out)
    assert document["schema"] == "swarmctl.explain/v1"
    mine, hive = document["items"]
    assert (mine["name"], mine["id"], mine["place"], mine["excluded"]) == ("me/own/tiny",) * 2 + (1, None)
    assert (hive["node"], hive["place"], hive["excluded"]) == ("hive", None, "draining")
    assert set(mine["cost"]) == {"load", "total_s", *TERMS}


@pytest.mark.usefixtures("host")
def test_a_model_that_nobody_knows(swarmctl: Callable[..., Done]) -> None:
    done = swarmctl("explain", "nobody")
    assert (done.status, done.out) == (1, "")
    assert "nobody" in done.err


def test_a_host_that_does_not_run(swarmctl: Callable[..., Done]) -> None:
    done = swarmctl("explain", "tiny")
    assert (done.status, done.out) == (75, "")
    assert "swarmctl up" in done.err
