"""The listener for metrics alone, over real HTTP on 127.0.0.1."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout

from sidecar.admin.metrics_listener import MetricsServer
from sidecar.admin.sources import Sources
from sidecar.routing.current import CurrentRoutes
from sidecar.telemetry.assembly import Telemetry
from sidecar.telemetry.policy import TelemetryPolicy
from swarmplane.clock import SystemClock
from swarmplane.ids import NodeId
from tests.fakes.records import fill


class Served:
    """A listener and what stands behind it."""

    def __init__(self) -> None:
        self.routes = CurrentRoutes(NodeId("me"), node_name="desk")
        self.telemetry = Telemetry(TelemetryPolicy(), identity={}, version="1")
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        sources = Sources(
            routes=self.routes,
            clock=SystemClock(),
            config=lambda: {"secret": "x"},
            version="0.1.0",
            joined=False,
            requests=list,
            control=dict,
            metrics=self.telemetry.families,
            set_log_level=lambda _level: None,
            settle=self.telemetry.catch_up,
        )
        self.server = MetricsServer(sources, self.socket)

    async def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        async with (
            ClientSession(timeout=ClientTimeout(10)) as client,
            client.request(method, self.url + path) as answer,
        ):
            return answer.status, await answer.text()


@pytest.fixture
async def served() -> Any:
    made = Served()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.server.run())
        async with asyncio.timeout(10):
            await made.server.serving.wait()
        yield made
        task.cancel()


async def test_metrics_count_what_ended_a_moment_ago(served: Served) -> None:
    record = served.telemetry.ring.claim()
    assert record is not None
    fill(record)
    status, text = await served.get("/metrics")
    assert status == 200
    assert (
        'swarmplane_requests_total{dialect="openai",model="tiny",node="desk",outcome="completed"} 1\n' in text
    )
    assert 'swarmplane_build_info{version="0.1.0"' in text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


async def test_health_and_readiness(served: Served) -> None:
    assert (await served.get("/healthz"))[0] == 200
    assert (await served.get("/readyz"))[0] == 200
    served.routes.set_draining(draining=True)
    assert await served.get("/readyz") == (503, '{"ready": false, "reasons": ["draining"]}\n')


@pytest.mark.parametrize("path", ["/config", "/routes", "/requests", "/", "/metrics/x"])
async def test_nothing_else_is_there(served: Served, path: str) -> None:
    assert (await served.get(path))[0] == 404


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_nothing_can_be_done_there(served: Served, path: str) -> None:
    assert (await served.get(path, "POST"))[0] == 405


async def test_drain_is_no_act_of_this_listener(served: Served) -> None:
    assert (await served.get("/drain", "POST"))[0] == 404
