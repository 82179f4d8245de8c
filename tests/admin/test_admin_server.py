"""The admin listener over real HTTP on 127.0.0.1."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from types import MappingProxyType
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout
from aiohttp.test_utils import TestClient, TestServer

from sidecar.admin.server import AdminServer
from sidecar.admin.sources import Sources
from sidecar.core.breaker import Signal
from sidecar.core.cost import TERMS, Ask
from sidecar.routing.current import CurrentRoutes
from swarmplane.client_keys import ClientKey
from swarmplane.clock import SystemClock
from swarmplane.errors import InvalidRequestError
from swarmplane.exposition import family
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId, SwarmId, endpoint_id
from swarmplane.inventory import Backend, BackendModel, Inventory
from swarmplane.routes import Endpoint, ModelRoute, NodeEntry, RouteTable, Version

ME, BEE = NodeId("me"), NodeId("bee")
THERE = Endpoint(endpoint_id(BEE, BackendName("srv"), "tiny"), BEE, BackendName("srv"), "tiny", slots=4)


class FixedClock(SystemClock):
    def __init__(self) -> None:
        self.now_s = lambda: 1000.0


class Parts:
    """A sidecar's parts, as far as the admin listener sees them."""

    def __init__(self) -> None:
        self.routes = CurrentRoutes(ME, node_name="desk")
        self.levels: list[str] = []
        self.examined = 0
        self.requests: list[dict[str, Any]] = [{"id": "r1", "model": "tiny", "age_s": 1.5}]
        self.control: dict[str, Any] = {"connected": True, "instance": "i1", "table_age_s": 2.5}

    def set_level(self, level: str) -> None:
        if level not in {"debug", "info"}:
            raise InvalidRequestError(f"{level!r} is no log level")
        self.levels.append(level)

    def sources(self) -> Sources:
        return Sources(
            routes=self.routes,
            clock=FixedClock(),
            config=lambda: {"drain_s": 60.0},
            version="0.1.0",
            joined=True,
            requests=lambda: self.requests,
            control=lambda: self.control,
            metrics=lambda: [family("swarmplane_cancelled_total", "counter", "Left.", 3)],
            set_log_level=self.set_level,
            examine=self.examine,
        )

    async def examine(self) -> dict[str, Any]:
        self.examined += 1
        row = {"id": "a.b", "state": "failed", "severity": "error", "title": "T", "detail": "<D>", "fix": "F"}
        return {"errors": 1, "warnings": 0, "unknown": 0, "items": [row]}


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
async def admin(parts: Parts) -> AsyncIterator[TestClient[Any, Any]]:
    with socket.socket() as unused:
        application = AdminServer(parts.sources(), unused).application()
        async with TestClient(TestServer(application), timeout=ClientTimeout(10)) as client:
            yield client


def fill(routes: CurrentRoutes) -> None:
    nodes = {BEE: NodeEntry(BEE, "hive", ("10.0.0.2:11403",), session=3)}
    models = {ModelName("tiny"): ModelRoute(ModelName("tiny"), (THERE,), revision=7)}
    routes.install(
        RouteTable(SwarmId("s"), Version(2, 7), MappingProxyType(models), MappingProxyType(nodes)), stale=True
    )
    routes.set_own(
        Inventory((Backend(BackendName("own"), "openai", models=(BackendModel("mine"),), slots=2),))
    )
    routes.begin(EndpointId("me/own/mine"), "me")
    routes.connect_failed(BEE, 1000.0, 0.0)


async def test_health_and_readiness(admin: TestClient[Any, Any], parts: Parts) -> None:
    assert (await admin.get("/healthz")).status == 200
    unready = await admin.get("/readyz")
    assert unready.status == 503
    assert "no route table" in (await unready.json())["reasons"][0]
    fill(parts.routes)
    assert await (await admin.get("/readyz")).json() == {"ready": True, "reasons": []}


async def test_draining_by_hand(admin: TestClient[Any, Any], parts: Parts) -> None:
    fill(parts.routes)
    drained = await admin.post("/drain")
    assert await drained.json() == {"draining": True, "in_flight": 1}
    assert parts.routes.view.draining
    assert (await admin.get("/readyz")).status == 503
    assert (await (await admin.post("/undrain")).json())["draining"] is False
    assert (await admin.get("/readyz")).status == 200


async def test_documents(admin: TestClient[Any, Any], parts: Parts) -> None:
    fill(parts.routes)
    routes = await (await admin.get("/routes")).json()
    assert (routes["schema"], routes["version"], routes["stale"]) == ("sidecar.routes/v1", "2.7", True)
    assert [item["name"] for item in routes["items"]] == ["mine", "tiny"]
    assert routes["nodes"][0]["name"] == "hive"
    endpoints = (await (await admin.get("/endpoints")).json())["items"]
    mine, tiny = endpoints
    assert (mine["node"], mine["local"], mine["in_flight"], mine["slots"]) == ("desk", True, 1, 2)
    assert (mine["phase"], mine["cost"]["load"], mine["excluded"]) == ("admitting", 0.5, None)
    assert list(mine["cost"])[2:] == list(TERMS)
    assert mine["cost"]["total_s"] == pytest.approx(sum(mine["cost"][name] for name in TERMS), abs=0.001)
    assert (tiny["node"], tiny["phase"], tiny["ejections"]) == ("hive", "ejected", 1)
    assert set(mine) >= {"backend", "model", "queued", "ewma_ttft_s", "ewma_tokens_per_s"}
    assert (await (await admin.get("/control")).json())["instance"] == "i1"
    assert (await (await admin.get("/requests")).json())["items"] == parts.requests
    assert (await (await admin.get("/config")).json())["settings"] == {"drain_s": 60.0}


async def test_it_tells_how_many_keys_are_in_force(admin: TestClient[Any, Any], parts: Parts) -> None:
    assert (await (await admin.get("/routes")).json())["keys"] is None
    keys = tuple(ClientKey(f"k{n}", bytes(32), expires_at_s=over) for n, over in enumerate((0, 1, 1 << 40)))
    parts.routes.install(RouteTable(SwarmId("s"), Version(1, 1), keys=keys))
    assert (await (await admin.get("/routes")).json())["keys"] == 2
    parts.routes.install(RouteTable(SwarmId("s"), Version(1, 2)))
    assert (await (await admin.get("/routes")).json())["keys"] == 0


async def test_an_ejection_that_ended_probes_until_the_node_answers(
    admin: TestClient[Any, Any], parts: Parts
) -> None:
    fill(parts.routes)
    parts.routes.reached(BEE)
    parts.routes.eject(THERE.id, 999.0)
    tiny = (await (await admin.get("/endpoints")).json())["items"][1]
    assert tiny["phase"] == "probing"


def offer(routes: CurrentRoutes) -> None:
    """One model at this host and at five others, each in another state."""
    others = tuple(
        Endpoint(
            endpoint_id(NodeId(name), BackendName("srv"), "tiny"),
            NodeId(name),
            BackendName("srv"),
            "tiny",
            slots=4,
            ready=name != "cold",
            draining=name == "drains",
        )
        for name in ("cold", "drains", "fine", "full", "gone", "hurt")
    )
    models = {ModelName("tiny"): ModelRoute(ModelName("tiny"), others, ("small",), "least_cost", revision=7)}
    routes.install(RouteTable(SwarmId("s"), Version(2, 7), MappingProxyType(models)))
    routes.set_own(
        Inventory((Backend(BackendName("own"), "openai", models=(BackendModel("tiny"),), slots=2),))
    )
    routes.hold_full(EndpointId("full/srv/tiny"), 1002.0)
    routes.learn_gone(EndpointId("gone/srv/tiny"), 1000.0)
    for _ in range(5):
        routes.balancer.breakers.ended("hurt/srv/tiny", Signal.FAILED, 0, 999.5, 0.0)


async def test_explain_names_the_terms_of_candidates_and_why_others_are_left_out(
    admin: TestClient[Any, Any], parts: Parts
) -> None:
    offer(parts.routes)
    answer = await admin.get("/explain?model=small&prompt_tokens=100")
    document = await answer.json()
    assert (document["model"], document["strategy"], document["prompt_tokens"]) == ("tiny", "least_cost", 100)
    items = document["items"]
    assert {item["node_id"]: item["excluded"] for item in items} == {
        "me": None,
        "fine": None,
        "cold": "loading",
        "drains": "draining",
        "full": "full",
        "gone": "gone",
        "hurt": "ejected",
    }
    assert [item["place"] for item in items] == [1, 2, None, None, None, None, None]
    by_node = {item["node_id"]: item for item in items}
    assert (by_node["hurt"]["phase"], by_node["hurt"]["ejections"]) == ("ejected", 1)
    fine = by_node["fine"]["cost"]
    # Nothing is measured yet: a prefill of 1,000 tokens/s, 64 tokens for every request, 2 ms to a peer.
    assert (fine["latency"], fine["hop"]) == (0.164, 0.002)
    assert (by_node["me"]["cost"]["hop"], by_node["fine"]["ewma_ttft_s"]) == (0.0, None)
    assert document["last"] == {"strategy": "", "items": []}


async def test_explain_shows_what_the_last_request_saw(admin: TestClient[Any, Any], parts: Parts) -> None:
    offer(parts.routes)
    routes = parts.routes
    candidates = routes.resolve("tiny", 1000.0).candidates
    routes.balancer.choose(candidates, Ask("tiny", 7), strategy="least_cost", draw=0.0, now_s=1000.0)
    last = (await (await admin.get("/explain?model=tiny")).json())["last"]
    assert last["strategy"] == "least_cost"
    assert [one["name"] for one in last["items"]] == ["me/own/tiny", "fine/srv/tiny"]
    assert last["items"][0]["cost"]["latency"] == 0.071


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("model=nobody", 404, "model_not_found"),
        ("", 404, "model_not_found"),
        ("model=tiny&prompt_tokens=many", 400, "invalid_request"),
    ],
)
async def test_explain_refuses(
    admin: TestClient[Any, Any], parts: Parts, query: str, status: int, code: str
) -> None:
    offer(parts.routes)
    answer = await admin.get(f"/explain?{query}")
    assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)


METRICS = """\
# HELP swarmplane_build_info Always 1; the labels say which software this is.
# TYPE swarmplane_build_info gauge
swarmplane_build_info{version="0.1.0",python="PYTHON"} 1
# HELP swarmplane_cancelled_total Left.
# TYPE swarmplane_cancelled_total counter
swarmplane_cancelled_total 3
# HELP swarmplane_endpoint_in_flight Requests an endpoint serves now.
# TYPE swarmplane_endpoint_in_flight gauge
swarmplane_endpoint_in_flight{node="desk",backend="own",model="mine"} 1
swarmplane_endpoint_in_flight{node="hive",backend="srv",model="tiny"} 0
# HELP swarmplane_endpoint_phase 1 for the phase an endpoint is in: admitting, ejected or probing.
# TYPE swarmplane_endpoint_phase gauge
swarmplane_endpoint_phase{node="desk",backend="own",model="mine",phase="admitting"} 1
swarmplane_endpoint_phase{node="desk",backend="own",model="mine",phase="ejected"} 0
swarmplane_endpoint_phase{node="desk",backend="own",model="mine",phase="probing"} 0
swarmplane_endpoint_phase{node="hive",backend="srv",model="tiny",phase="admitting"} 0
swarmplane_endpoint_phase{node="hive",backend="srv",model="tiny",phase="ejected"} 1
swarmplane_endpoint_phase{node="hive",backend="srv",model="tiny",phase="probing"} 0
# HELP swarmplane_queue_depth Requests that wait for a slot of this host's endpoints.
# TYPE swarmplane_queue_depth gauge
swarmplane_queue_depth{node="desk",backend="own",model="mine"} 0
# HELP swarmplane_route_version Revision of the route table in use; the label is the store's generation.
# TYPE swarmplane_route_version gauge
swarmplane_route_version{generation="2"} 7
# HELP swarmplane_route_stale 1 while the table in use comes from disk and no instance has confirmed it.
# TYPE swarmplane_route_stale gauge
swarmplane_route_stale 1
# HELP swarmplane_control_connected 1 while a control-plane instance answers this sidecar's stream.
# TYPE swarmplane_control_connected gauge
swarmplane_control_connected 1
# HELP swarmplane_route_age_seconds Seconds since an instance last sent or confirmed the route table.
# TYPE swarmplane_route_age_seconds gauge
# UNIT swarmplane_route_age_seconds seconds
swarmplane_route_age_seconds 2.5
"""


async def test_metrics_are_exactly_these(
    admin: TestClient[Any, Any], parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.python_version", lambda: "PYTHON")
    fill(parts.routes)
    answer = await admin.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert await answer.text() == METRICS


async def test_no_age_before_a_table_came_and_many_endpoints_are_added_up(
    admin: TestClient[Any, Any], parts: Parts
) -> None:
    parts.control = {"connected": False, "table_age_s": None}
    models = tuple(BackendModel(f"m{i:04}") for i in range(503))
    parts.routes.set_own(Inventory((Backend(BackendName("own"), "openai", models=models),)))
    for i in (500, 502):
        parts.routes.begin(EndpointId(f"me/own/m{i:04}"), "me")
    text = await (await admin.get("/metrics")).text()
    assert "route_age" not in text
    assert "swarmplane_control_connected 0" in text
    assert 'swarmplane_endpoint_in_flight{node="other",backend="other",model="other"} 2' in text
    assert "m0500" not in text


async def test_log_level(admin: TestClient[Any, Any], parts: Parts) -> None:
    assert (await admin.post("/logging?level=debug")).status == 200
    assert (await admin.post("/logging", json={"level": "info"})).status == 200
    assert parts.levels == ["debug", "info"]
    for body in ("", "[]", '{"level": 7}', "{"):
        assert (await admin.post("/logging", data=body)).status == 400
    wrong = await admin.post("/logging?level=loud")
    assert (wrong.status, (await wrong.json())["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/routes", {"Host": "evil.example"}, 403),
        ("GET", "/routes", {"Host": "evil.example:11402"}, 403),
        ("GET", "/routes", {"Host": "localhost:11402"}, 200),
        ("GET", "/routes", {"Host": "[::1]:11402"}, 200),
        ("GET", "/routes", {"Host": "127.0.0.1.evil.example"}, 403),
        ("GET", "/routes", {"Host": "a:b:c"}, 403),
        ("POST", "/drain", {"Origin": "http://evil.example"}, 403),
        ("POST", "/drain", {"Origin": "null"}, 403),
        ("POST", "/drain", {"Origin": "http://localhost:3000"}, 200),
        ("POST", "/drain", {"Origin": "http://localhost.evil.example"}, 403),
        ("POST", "/drain", {"Origin": "http://127.0.0.1:1"}, 200),
        ("GET", "/config", {"Origin": "https://evil.example"}, 403),
        ("POST", "/drain", {"X-Forwarded-For": "127.0.0.1"}, 403),
        ("POST", "/drain", {"Forwarded": "for=127.0.0.1"}, 403),
        ("GET", "/drain", {}, 405),
        ("POST", "/routes", {}, 405),
        ("GET", "/traces", {}, 200),
        ("POST", "/traces", {}, 405),
        ("GET", "/traces?limit=-1", {}, 400),
        ("GET", "/", {}, 200),
        ("GET", "/nothing", {}, 404),
    ],
)
async def test_who_may_do_what(
    admin: TestClient[Any, Any], parts: Parts, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = await admin.request(method, path, headers=headers)
    assert answer.status == status
    if status >= 400:
        assert (await answer.json())["error"]["message"]
        assert not parts.routes.view.draining
    if status == 405:
        assert answer.headers["Allow"]


async def test_a_foreign_page_starts_no_examination(admin: TestClient[Any, Any], parts: Parts) -> None:
    """Kills: examining on a GET, which any page's <img> can send without an Origin."""
    image = {"Accept": "image/avif,image/*,*/*;q=0.8", "Referer": "https://evil.example/"}
    shown = await admin.get("/doctor", headers=image)
    assert (shown.status, parts.examined) == (200, 0)
    assert "<form method=post action=/doctor>" in await shown.text()
    for origin in ("https://evil.example", "null"):
        assert (await admin.post("/doctor", headers={"Origin": origin})).status == 403
    assert parts.examined == 0
    own = {"Origin": str(admin.make_url("/")).rstrip("/"), "Accept": "text/html"}
    assert "<td>T: &lt;D&gt;</td>" in await (await admin.post("/doctor", headers=own)).text()
    assert (await (await admin.post("/doctor")).json())["errors"] == 1
    assert parts.examined == 2


async def test_it_serves_on_the_socket_it_was_given_until_cancelled(parts: Parts) -> None:
    import asyncio

    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    port = bound.getsockname()[1]
    server = AdminServer(parts.sources(), bound)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(server.run())
        await server.serving.wait()
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert answer.status == 200
        running.cancel()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
