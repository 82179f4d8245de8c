"""The page for people: what it says, and that names cannot write it."""

from __future__ import annotations

import socket

from aiohttp.test_utils import TestClient, TestServer

from sidecar.admin import page as pages
from sidecar.admin.page import page
from sidecar.admin.server import AdminServer
from sidecar.admin.sources import Sources
from sidecar.routing.current import CurrentRoutes
from swarmplane.clock import SystemClock
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId, SwarmId
from swarmplane.routes import Endpoint, ModelRoute, NodeEntry, RouteTable, Version

EVIL = "<script>alert('m')</script>"


def routes(endpoints: int = 2) -> CurrentRoutes:
    nodes = [NodeId(f"n{number}") for number in range(endpoints)]
    found = tuple(
        Endpoint(EndpointId(f"{node}/b/m"), node, BackendName("b"), "m", draining=node == "n1", slots=4)
        for node in nodes
    )
    one = CurrentRoutes(NodeId("me"))
    models = {ModelName(EVIL): ModelRoute(ModelName(EVIL), found)}
    entries = {node: NodeEntry(node, f"{node} & co", ("h:1",)) for node in nodes}
    one.install(RouteTable(SwarmId("s"), Version(1, 1), models, entries))
    return one


def test_it_shows_costs_and_who_is_left_out() -> None:
    """Kills: names not escaped, excluded ones missing, terms missing."""
    text = page(routes(), 0.0)
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "n0 &amp; co" in text
    assert "draining" in text
    assert "<tr class=out>" in text
    for term in ("thermal", "memory_fit", "queue", "latency", "prefix", "hop"):
        assert f"<th>{term}</th>" in text


def test_it_is_bounded() -> None:
    text = page(routes(pages.MOST_ENDPOINTS + 3), 0.0)
    assert text.count("<tr") == pages.MOST_ENDPOINTS + 1
    assert "3 more endpoints" in text
    assert "No model is known yet" in page(CurrentRoutes(None), 0.0)


async def test_it_is_served_and_runs_nothing() -> None:
    sources = Sources(
        routes=routes(),
        clock=SystemClock(),
        config=dict,
        version="0",
        joined=True,
        requests=list,
        control=dict,
        metrics=list,
        set_log_level=print,
    )
    with socket.socket() as unused:
        async with TestClient(TestServer(AdminServer(sources, unused).application())) as client:
            answer = await client.get("/")
            assert answer.status == 200
            assert answer.content_type == "text/html"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "Whom this host would ask" in await answer.text()
            assert (await client.get("/", headers={"host": "evil.example"})).status == 403
