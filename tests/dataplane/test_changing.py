"""Models are pulled, copied, deleted and pinned at this host's backends, by clients of this host."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sidecar.dataplane.policy import DataPlanePolicy
from sidecar.dataplane.server import DataPlane
from sidecar.routing.current import CurrentRoutes
from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import (
    Answer,
    Client,
    FakeBackends,
    Node,
    Served,
    TestSwarm,
    client,
    eventually,
    running_node,
)
from tests.fakes.ollama import parse_model, running_ollama
from tests.fakes.ollama_voice import OllamaVoice

HELLO = {"model": "m1", "messages": [{"role": "user", "content": "Hi"}], "stream": False}


@pytest.fixture
async def ollama() -> AsyncIterator[tuple[FakeBackend, OllamaVoice]]:
    async with running_ollama("m1", library={"tiny:1b": parse_model("tiny:1b")}) as one:
        yield one


@pytest.fixture
async def host(ollama: tuple[FakeBackend, OllamaVoice]) -> AsyncIterator[Node]:
    async with running_node(served={"one": served(ollama[0])}) as node:
        yield node


def served(backend: FakeBackend) -> Served:
    return Served(backend, model="m1:latest", canonical="m1", kind="ollama", slots=1)


async def change(http: Client, method: str, path: str, body: Any, **headers: str) -> Answer:
    data = json.dumps(body).encode() if not isinstance(body, bytes) else body
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    host = "" if "host" in headers else "host: localhost\r\n"
    head = f"{method} {path} HTTP/1.1\r\n{host}{lines}content-length: {len(data)}\r\n\r\n"
    http.send(head.encode() + data)
    return await http.answer()


async def test_a_model_is_pulled_with_progress_copied_and_deleted(
    host: Node, ollama: tuple[FakeBackend, OllamaVoice]
) -> None:
    voice = ollama[1]
    async with client(host) as http:
        pulled = await change(http, "POST", "/api/pull", {"model": "tiny:1b"})
        steps = [json.loads(line) for line in pulled.body.splitlines()]
        assert pulled.headers["content-type"] == "application/x-ndjson"
        assert steps[0]["status"] == "pulling manifest"
        assert steps[-1] == {"status": "success"}
        assert "tiny:1b" in voice.models
        assert host.backends.looked, "what it has is listed anew"
        whole = await change(http, "POST", "/api/pull", {"name": "tiny:1b", "stream": False})
        assert whole.json == {"status": "success"}
        copied = await change(http, "POST", "/api/copy", {"source": "m1", "destination": "mine"})
        assert (copied.status, copied.body) == (200, b"")
        assert "mine:latest" in voice.models
        gone = await change(http, "DELETE", "/api/delete", {"model": "mine"})
        assert gone.status == 200
        assert "mine:latest" not in voice.models


async def test_a_model_is_pushed_with_progress(host: Node) -> None:
    async with client(host) as http:
        pushed = await change(http, "POST", "/api/push", {"model": "m1"})
        assert pushed.headers["content-type"] == "application/x-ndjson"
        assert json.loads(pushed.body.splitlines()[-1]) == {"status": "success"}
        assert (await change(http, "POST", "/api/push", {"model": "nothing"})).status == 404
        afar = await change(http, "POST", "/api/push", {"model": "m1"}, x_forwarded_for="192.0.2.1")
        assert afar.status == 403


async def test_the_backend_has_the_last_word(host: Node) -> None:
    async with client(host) as http:
        for method, path, body in (
            ("DELETE", "/api/delete", {"model": "nothing"}),
            ("POST", "/api/copy", {"source": "nothing", "destination": "x"}),
        ):
            answer = await change(http, method, path, body)
            assert answer.status == 404
            assert "nothing" in answer.json["error"]
        failed = await change(http, "POST", "/api/pull", {"model": "nobody/knows"})
        assert "error" in json.loads(failed.body.splitlines()[-1])
        assert (await http.ask(HELLO, "/api/chat")).status == 200


async def test_a_change_takes_no_slot(host: Node, ollama: tuple[FakeBackend, OllamaVoice]) -> None:
    async with client(host) as busy, client(host) as http:
        busy.post(HELLO, "/api/chat", x_fake="hang=1")
        await eventually(lambda: ollama[0].running == 1, "the slot is taken")
        copied = await change(http, "POST", "/api/copy", {"source": "m1", "destination": "mine"})
        assert copied.status == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/pull", b"{", 400),
        ("POST", "/api/pull", {}, 400),
        ("POST", "/api/pull", {"model": 7}, 400),
        ("POST", "/api/pull", b'{"model":"a","model":"b"}', 400),
        ("POST", "/api/pull", b'{"Model":"a"}', 400),
        ("POST", "/api/copy", {"model": "m1"}, 400),
        ("GET", "/api/pull", b"", 405),
        ("POST", "/api/delete", {"model": "m1"}, 405),
    ],
)
async def test_bad_changes_are_refused_and_the_connection_lives(
    host: Node, ollama: tuple[FakeBackend, OllamaVoice], method: str, path: str, body: Any, status: int
) -> None:
    async with client(host) as http:
        answer = await change(http, method, path, body)
        assert answer.status == status
        assert isinstance(answer.json["error"], str)
        assert not ollama[0].asked
        assert (await http.ask(HELLO, "/api/chat")).status == 200


CHANGES = [
    ("POST", "/api/pull", {"model": "tiny:1b"}),
    ("POST", "/api/create", {"model": "x", "from": "m1"}),
    ("POST", "/api/copy", {"source": "m1", "destination": "x"}),
    ("DELETE", "/api/delete", {"model": "m1"}),
    ("POST", "/api/chat", {**HELLO, "keep_alive": -1}),
    ("POST", "/api/generate", {"model": "m1", "keep_alive": "0s"}),
    ("POST", "/v1/chat/completions", {**HELLO, "keep_alive": 0}),
]


def refused(answer: Answer) -> bool:
    error = answer.json["error"]
    return answer.status == 403 and bool(error if isinstance(error, str) else error["code"] == "forbidden")


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_only_this_hosts_clients_change_anything(
    host: Node, ollama: tuple[FakeBackend, OllamaVoice], method: str, path: str, body: Any
) -> None:
    async with client(host) as http:
        for header in ({"x_forwarded_for": "203.0.113.7"}, {"forwarded": "for=203.0.113.7"}):
            assert refused(await change(http, method, path, body, **header))
        for header in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
            assert refused(await change(http, method, path, body, **header))
        for connection in host.plane.connections:
            connection.client = "203.0.113.7"
        assert refused(await change(http, method, path, body))
        host.plane.adopt(DataPlanePolicy(manage="off"))
    async with client(host) as http:
        assert refused(await change(http, method, path, body))
        assert (await http.ask({**HELLO, "keep_alive": "5m"}, "/api/chat")).status == 200
    assert len(ollama[0].asked) == 1


@pytest.mark.parametrize("keep_alive", [0, -1, "0", "-1", "0s", "0m", "-5m", 0.0, -0.5])
async def test_this_hosts_clients_pin_and_unload_its_models(
    host: Node, ollama: tuple[FakeBackend, OllamaVoice], keep_alive: Any
) -> None:
    async with client(host) as http:
        assert (await http.ask({**HELLO, "keep_alive": keep_alive}, "/api/chat")).status == 200
        assert json.loads(ollama[0].asked[0].body)["keep_alive"] == keep_alive
        for connection in host.plane.connections:
            connection.client = "203.0.113.7"
        assert refused(await http.ask({**HELLO, "keep_alive": keep_alive}, "/api/chat"))


async def test_escapes_do_not_hide_it(host: Node) -> None:
    async with client(host) as http:
        await http.get("/healthz")
        for connection in host.plane.connections:
            connection.client = "203.0.113.7"
        for member in (b'"keep_alive": "\\u0030s"', b'"keep_alive": 0e5', b'"keep_alive": -0.0'):
            answer = await http.ask(b'{"model": "m1", %b}' % member, "/api/generate")
            assert refused(answer), member
        for member in (b'"Keep_alive": 0', b'"keep\\u005falive": 0'):
            assert (await http.ask(b'{"model": "m1", %b}' % member, "/api/generate")).status == 400


@pytest.mark.parametrize("keep_alive", [None, 300, "5m", "10h", "0.5s", 1e9])
async def test_other_times_are_anybodys(host: Node, keep_alive: Any) -> None:
    async with client(host) as http:
        await http.get("/healthz")
        for connection in host.plane.connections:
            connection.client = "203.0.113.7"
        assert (await http.ask({**HELLO, "keep_alive": keep_alive}, "/api/chat")).status == 200


@contextlib.asynccontextmanager
async def two(swarm: TestSwarm, backend: FakeBackend, **b: Any) -> AsyncIterator[tuple[Node, Node]]:
    async with (
        running_node("a", swarm=swarm, **b) as first,
        running_node("b", {"one": served(backend)}, swarm=swarm, **b) as second,
    ):
        swarm.connect()
        yield first, second


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_other_nodes_backends_are_left_alone(
    swarm: TestSwarm, ollama: tuple[FakeBackend, OllamaVoice], method: str, path: str, body: Any
) -> None:
    async with two(swarm, ollama[0]) as (a, _):
        async with client(a) as http:
            answer = await change(http, method, path, body)
            assert refused(answer) or answer.status == 400, answer
            assert (await http.ask(HELLO, "/api/chat")).status == 200
        assert len(ollama[0].asked) == 1


async def test_an_owner_does_not_take_a_senders_word_for_it(
    swarm: TestSwarm, ollama: tuple[FakeBackend, OllamaVoice]
) -> None:
    async with two(swarm, ollama[0]) as (a, b):
        a.plane.adopt(DataPlanePolicy(manage="swarm"))
        async with client(a) as http:
            for method, path, body in (CHANGES[3], CHANGES[4]):
                assert refused(await change(http, method, path, body))
            assert not ollama[0].asked
            b.plane.adopt(DataPlanePolicy(manage="swarm"))
            for method, path, body in (CHANGES[4], CHANGES[2], CHANGES[3]):
                answer = await change(http, method, path, body)
                assert answer.status == 200, answer
                assert answer.headers["x-swarm-node"] == "b"
        assert "m1:latest" not in ollama[1].models
        assert "x:latest" in ollama[1].models


async def test_a_host_without_an_ollama_says_so(node: Node) -> None:
    async with client(node) as http:
        answer = await change(http, "POST", "/api/pull", {"model": "tiny:1b"})
        assert (answer.status, "Ollama" in answer.json["error"]) == (400, True)


def test_the_setting_reaches_a_running_host() -> None:
    plane = DataPlane(CurrentRoutes(None), FakeBackends(), DataPlanePolicy())
    plane.adopt(DataPlanePolicy(manage="off"))
    assert plane.policy.manage == "off"
