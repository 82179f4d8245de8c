"""What a host answers itself, and whom it lets in."""

from __future__ import annotations

import socket
from importlib.metadata import version

import pytest

from sidecar.dataplane.access import Access
from sidecar.dataplane.listener import client_listener
from swarmplane.inventory import ModelState
from swarmplane.routes import ModelRoute, RouteTable, Version
from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import (
    CHAT,
    QUICK,
    SWARM,
    Client,
    Node,
    Served,
    TestSwarm,
    client,
    running_node,
)


async def test_models_are_listed(swarm: TestSwarm, backend: FakeBackend) -> None:
    async with (
        running_node("a", {"x": Served(backend, model="org/local")}, swarm=swarm) as a,
        running_node("b", {"y": Served(backend, model="m1")}, swarm=swarm),
        client(a) as http,
    ):
        swarm.connect(aliases=[("gpt-4", "m1")])
        document = (await http.get("/v1/models")).json
        assert document["object"] == "list"
        assert {entry["id"]: entry["swarm"]["nodes"] for entry in document["data"]} == {
            "m1": ["b"],
            "org/local": ["a"],
        }
        entry = (await http.get("/v1/models/org/local")).json
        assert (entry["id"], entry["object"], entry["owned_by"]) == ("org/local", "model", "swarm")
        assert entry["swarm"] == {"nodes": ["a"], "loaded": True, "context_length": 4096, "aliases": []}
        assert (await http.get("/v1/models/org%2Flocal")).json["id"] == "org/local"
        assert (await http.get("/v1/models/gpt-4")).json["id"] == "m1"
        assert (await http.get("/v1/models?x=1")).status == 200
        missing = await http.get("/v1/models/nope")
        assert (missing.status, missing.code) == (404, "model_not_found")


async def test_a_model_that_nobody_has_now_is_still_known(swarm: TestSwarm) -> None:
    async with running_node("a", swarm=swarm) as a, client(a) as http:
        a.routes.install(RouteTable(SWARM, Version(1, 1), {"lost": ModelRoute("lost")}), stale=True)  # type: ignore[dict-item,arg-type]
        entry = (await http.get("/v1/models/lost")).json
        assert entry["swarm"]["nodes"] == []
        assert entry["swarm"]["loaded"] is False
        answer = await http.ask({**CHAT, "model": "lost"})
        assert (answer.status, answer.code) == (503, "no_replica")
        assert answer.json["swarm"] == {"state": "absent", "eta_s": None}
        assert answer.headers["x-swarm-stale"] == "1"


async def test_an_unknown_model_lists_what_there_is(backend: FakeBackend) -> None:
    served = {f"b{n}": Served(backend, model=f"model-{n:02}") for n in range(30)}
    async with running_node(served=served) as node, client(node) as http:
        answer = await http.ask({**CHAT, "model": "nope"})
        assert (answer.status, answer.code) == (404, "model_not_found")
        message = answer.json["error"]["message"]
        assert "model-24" in message
        assert "model-25" not in message
        assert "5 more" in message
        assert answer.json["error"]["type"] == "invalid_request_error"
        for name in ("claude-sonnet-4", "gpt-4o"):
            message = (await http.ask({**CHAT, "model": name})).json["error"]["message"]
            assert f"swarmctl alias set {name}" in message
        anthropic = await http.ask({**CHAT, "model": "nope"}, "/v1/messages?beta=true")
        assert anthropic.json["type"] == "error"
        assert anthropic.json["error"]["type"] == "not_found_error"


async def test_health(http: Client, node: Node) -> None:
    assert (await http.get("/healthz")).json["status"] == "ok"
    assert (await http.get("/readyz")).status == 200
    known = (await http.get("/.well-known/swarmplane")).json
    assert known == {"swarm": None, "node": "solo", "gateway": False, "version": version("swarmplane")}
    head = await http.get("/healthz", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) > 0
    assert (await http.get("/v1/models", method="HEAD")).status == 200
    node.routes.set_draining(draining=True)


async def test_readiness_needs_a_table_or_a_backend(swarm: TestSwarm) -> None:
    async with running_node("a", swarm=swarm) as a, client(a) as http:
        assert (await http.get("/readyz")).status == 503
        swarm.connect()
        ready = await http.get("/readyz")
        assert (ready.status, ready.json["route_version"]) == (200, "1.1")
        known = (await http.get("/.well-known/swarmplane")).json
        assert known["swarm"] == SWARM
        assert (known["node_id"], known["open"], known["gateway"]) == ("aid", False, False)
        assert known["fingerprint"] == swarm.authority.fingerprint
        assert "key" not in str(known).casefold().replace("keys", "")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/chat/completions", 405, "POST"),
        ("POST", "/v1/models", 405, "GET, HEAD"),
        ("GET", "/nothing", 404, None),
        ("GET", "/v2/x", 404, None),
        ("GET", "/v1/modelsx", 405, "POST"),
        ("OPTIONS", "/healthz", 405, "GET, HEAD"),
    ],
)
async def test_methods_and_paths(
    http: Client, method: str, path: str, status: int, allow: str | None
) -> None:
    answer = await http.get(path, method=method)
    assert answer.status == status
    assert answer.headers.get("allow") == allow
    assert answer.json["error"]["message"]


async def test_a_loading_model_is_listed_as_not_loaded(backend: FakeBackend) -> None:
    served = {"one": Served(backend, state=ModelState.LOADING)}
    async with running_node(served=served) as node, client(node) as http:
        (entry,) = (await http.get("/v1/models")).json["data"]
        assert entry["swarm"]["loaded"] is False


@pytest.mark.parametrize(
    ("host", "admitted"),
    [
        ("localhost", True),
        ("localhost:11400", True),
        ("127.0.0.1:11400", True),
        ("[::1]:11400", True),
        ("192.168.1.5", True),
        ("mac.local", True),
        ("host.docker.internal:80", True),
        (socket.gethostname(), True),
        ("mine.example", True),
        ("LOCALHOST.", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        (":80", False),
        ("a b", False),
        ("localhost:99999", False),
    ],
)
def test_hosts_on_loopback(host: str, admitted: bool) -> None:
    access = Access(loopback=True, hosts=("mine.example",))
    assert access.admits_host(host.encode()) is admitted
    assert access.admits_host(host.encode()) is admitted, "and again, remembered"


def test_any_host_beyond_loopback() -> None:
    access = Access(loopback=False)
    assert access.admits_host(b"anything.example")
    assert not access.admits_host(b"")


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [
        ("http://localhost", True),
        ("http://localhost:3000", True),
        ("https://127.0.0.1:8443", True),
        ("http://[::1]:80", True),
        ("app://obsidian.md", True),
        ("tauri://localhost", True),
        ("file://", True),
        ("vscode-webview://abc", True),
        ("https://mine.example", True),
        ("https://evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://192.168.1.5", False),
        ("null", False),
        ("", False),
        ("chrome-extension://abc", False),
    ],
)
def test_origins(origin: str, admitted: bool) -> None:
    assert Access(loopback=True, origins=("https://mine.example",)).admits_origin(origin.encode()) is admitted


@pytest.mark.parametrize(
    ("source", "admitted"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("192.168.0.9", True),
        ("172.20.0.1", True),
        ("100.64.0.1", True),
        ("169.254.1.1", True),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        ("::ffff:192.168.0.9", True),
        ("8.8.8.8", False),
        ("100.128.0.1", False),
        ("2606:4700::1", False),
        ("::ffff:8.8.8.8", False),
        ("not-an-address", False),
    ],
)
def test_sources_on_a_lan(source: str, admitted: bool) -> None:
    assert Access(loopback=False, sources=True).admits_source(source) is admitted
    assert Access(loopback=False).admits_source(source)


def test_a_listener_is_as_strict_as_its_bind() -> None:
    loopback, lan, named = (
        client_listener(host, QUICK).access for host in ("127.0.0.1", "0.0.0.0", "192.168.1.1")
    )
    assert not loopback.admits_host(b"evil.example")
    assert lan.admits_host(b"evil.example")
    assert not lan.admits_source("8.8.8.8")
    assert named.admits_source("8.8.8.8"), "an address named on purpose is open to whom it reaches"


async def test_a_foreign_page_gets_403_before_any_act(http: Client, backend: FakeBackend) -> None:
    for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
        answer = await http.ask(CHAT, **headers)
        assert (answer.status, answer.code) == (403, "forbidden")
    assert not backend.asked
    assert (await http.ask(CHAT, origin="http://localhost:3000")).status == 200


async def test_ollama_origins_are_honoured(backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_ORIGINS", "https://page.example, https://other.example")
    async with running_node(served={"one": Served(backend)}) as node, client(node) as http:
        assert (await http.ask(CHAT, origin="https://page.example")).status == 200
        assert (await http.ask(CHAT, origin="https://evil.example")).status == 403


async def test_bad_timeouts_are_refused(http: Client) -> None:
    for value in ("x", "-1", "0", "nan", "inf", "1e9"):
        answer = await http.ask(CHAT, x_swarm_timeout_s=value)
        assert (answer.status, answer.code) == (400, "invalid_request")


async def test_errors_name_the_parameter(http: Client) -> None:
    answer = await http.ask({"messages": []})
    assert answer.json["error"]["param"] == "model"


async def test_a_page_that_may_act_may_read_the_answer(http: Client) -> None:
    page = "http://localhost:3000"
    preflight = await http.get(
        "/v1/chat/completions",
        method="OPTIONS",
        origin=page,
        access_control_request_method="POST",
        access_control_request_headers="authorization,content-type",
    )
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == page
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    for answer in (
        await http.ask(CHAT, origin=page),
        await http.ask({"model": "nope"}, origin=page),
        await http.get("/v1/models", origin=page),
    ):
        assert answer.headers["access-control-allow-origin"] == page
        assert answer.headers["vary"] == "origin"
    assert "access-control-allow-origin" not in (await http.ask(CHAT)).headers
    foreign = await http.get("/v1/chat/completions", method="OPTIONS", origin="https://evil.example")
    assert foreign.status == 403
    assert "access-control-allow-origin" not in foreign.headers
