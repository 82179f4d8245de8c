"""Who needs an API key, what a key permits, and how each dialect is told that it does not."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from sidecar.dataplane.policy import DataPlanePolicy
from swarmplane.client_keys import SECRET_BYTES, ClientKey, key_digest, key_text
from swarmplane.settings.schema import ClientSettings, Settings
from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import CHAT, Client, Node, Served, TestSwarm, client, eventually, running_node
from tests.fakes.ollama import parse_model, running_ollama

FROM_AFAR = {"x_forwarded_for": "192.0.2.7"}
"""Makes a client on loopback one of another machine."""
KEY = key_text(os.urandom(SECRET_BYTES))


def key(text: str = KEY, **changes: Any) -> ClientKey:
    return replace(ClientKey("k1", key_digest(text.encode())), **changes)


def give(node: Node, *keys: ClientKey) -> None:
    """As a control plane pushes them."""
    routes = node.routes
    routes.install(replace(routes.view.table, keys=keys))


@pytest.fixture
async def guarded(backend: FakeBackend) -> AsyncIterator[Node]:
    async with running_node(served={"one": Served(backend)}, auth="always") as node:
        give(node, key())
        yield node


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v1/chat/completions", ("error", "type", "authentication_error")),
        ("/v1/messages?beta=true", ("error", "type", "authentication_error")),
        ("/api/chat", None),
    ],
)
async def test_without_a_key_every_dialect_is_refused_in_its_shape(
    guarded: Node, backend: FakeBackend, path: str, error: tuple[str, str, str] | None
) -> None:
    async with client(guarded) as http:
        for headers in ({}, {"authorization": "Bearer sk-wrong"}, {"x_api_key": "sk-wrong"}):
            answer = await http.ask(CHAT, path, **headers)
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            if error is None:
                assert list(answer.json) == ["error"]
                sentence = answer.json["error"]
            else:
                assert answer.json[error[0]][error[1]] == error[2]
                sentence = answer.json["error"]["message"]
            assert "swarmctl key create" in sentence
            assert ("required" in sentence) is not bool(headers)
            assert "sk-wrong" not in answer.body.decode()
        # The connection lives.
        assert (await http.ask(CHAT, authorization=f"Bearer {KEY}")).status == 200
    assert len(backend.asked) == 1
    assert KEY not in str(backend.asked[0].headers)


@pytest.mark.parametrize(
    "header",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY}"},
        {"x_api_key": KEY},
        {"authorization": "Bearer other", "x_api_key": KEY},
    ],
)
async def test_a_key_comes_as_every_sdk_sends_it(guarded: Node, header: dict[str, str]) -> None:
    async with client(guarded) as http:
        for _ in range(3):  # The second head is the first one's again, and is not parsed.
            assert (await http.ask(CHAT, **header)).status == 200
        assert (await http.get("/v1/models", **header)).status == 200


async def test_what_tells_nothing_of_models_needs_no_key(guarded: Node) -> None:
    async with client(guarded) as http:
        for path in ("/", "/healthz", "/readyz", "/.well-known/swarmplane"):
            assert (await http.get(path)).status in {200, 503}, path
        for path in ("/v1/models", "/api/tags", "/api/ps", "/api/version", "/nothing"):
            assert (await http.get(path)).status == 401, path
        preflight = await http.get("/v1/models", "OPTIONS", origin="http://localhost:3000")
        assert preflight.status == 204


async def test_a_revoked_and_an_expired_key_end_at_once_on_a_live_connection(guarded: Node) -> None:
    async with client(guarded) as http:
        assert (await http.ask(CHAT, x_api_key=KEY)).status == 200
        give(guarded, key(expires_at_s=1))
        over = await http.ask(CHAT, x_api_key=KEY)
        assert (over.status, over.code) == (401, "invalid_api_key")
        assert "expired" in over.json["error"]["message"]
        give(guarded)
        assert (await http.ask(CHAT, x_api_key=KEY)).status == 401
        give(guarded, key(expires_at_s=1 << 40))
        assert (await http.ask(CHAT, x_api_key=KEY)).status == 200


async def test_keys_hold_for_a_time_without_a_control_plane(guarded: Node, swarm: TestSwarm) -> None:
    async with client(guarded) as http:
        guarded.plane.adopt(replace(guarded.plane.policy, offline_keys_s=3600.0))
        assert (await http.ask(CHAT, x_api_key=KEY)).status == 200
        guarded.plane.adopt(replace(guarded.plane.policy, offline_keys_s=0.0))
        over = await http.ask(CHAT, x_api_key=KEY)
        assert (over.status, over.code) == (401, "invalid_api_key")
        assert "client.offline_keys_s" in over.json["error"]["message"]
    # One that is connected hears of them again and again.
    async with running_node("a", swarm=swarm, auth="always", tick_s=0.001, offline_keys_s=0.5) as node:
        give(node, key())
        async with client(node) as http:
            await asyncio.sleep(0.8)
            assert (await http.get("/v1/models", x_api_key=KEY)).status == 200


@pytest.mark.parametrize(
    ("listen", "given", "holds_s"),
    [
        ((), None, math.inf),
        (("127.0.0.1:1", "[::1]:1"), None, math.inf),
        (("127.0.0.1:1", "0.0.0.0:1"), None, 86_400.0),
        (("0.0.0.0:1",), 60.0, 60.0),
    ],
)
def test_how_long_they_hold(listen: tuple[str, ...], given: float | None, holds_s: float) -> None:
    settings = Settings(client=ClientSettings(listen=listen, offline_keys_s=given))
    assert DataPlanePolicy.of(settings).offline_keys_s == holds_s


async def test_a_large_body_without_a_key_is_not_read(guarded: Node) -> None:
    async with client(guarded) as http:
        http.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000000\r\n\r\n")
        answer = await http.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
    assert guarded.plane.buffered_bytes == 0


async def test_only_other_machines_need_a_key_on_a_lan(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend)}, auth="lan") as node, client(node) as http:
        give(node, key())
        assert (await http.ask(CHAT)).status == 200
        for forwarded in ({"x_forwarded_for": "10.0.0.9"}, {"forwarded": "for=127.0.0.1"}):
            assert (await http.ask(CHAT, **forwarded)).status == 401
            assert (await http.ask(CHAT, x_api_key=KEY, **forwarded)).status == 200
        # A program of this host may show whatever it has.
        assert (await http.ask(CHAT, authorization="Bearer anything")).status == 200


async def test_any_value_passes_while_no_key_is_required(node: Node, http: Client) -> None:
    """What is no key of the swarm's, or none any more, says nothing."""
    give(node, key(models=("other",), expires_at_s=1))
    for value in ("anything", KEY, KEY):
        assert (await http.ask(CHAT, authorization=f"Bearer {value}", **FROM_AFAR)).status == 200


@pytest.mark.parametrize("auth", ["none", "lan", "always"])
async def test_a_key_that_is_shown_binds_also_where_none_is_needed(backend: FakeBackend, auth: str) -> None:
    """Kills: its limits or models ignored while anybody may ask, or for programs of this host."""
    async with running_node(served={"one": Served(backend)}, auth=auth) as node, client(node) as http:
        give(node, key(models=("other",)))
        for shown in ({"x_api_key": KEY}, {"authorization": f"Bearer {KEY}"}):
            for _ in range(2):  # The second head is the first one's again.
                refused = await http.ask(CHAT, **shown)
                assert (refused.status, refused.code) == (403, "forbidden")
            assert (await http.get("/v1/models", **shown)).json["data"] == []
        give(node, key(requests_per_minute=1))
        assert (await http.ask(CHAT, x_api_key=KEY)).status == 200
        assert (await http.ask(CHAT, x_api_key=KEY)).code == "rate_limit_exceeded"
        assert (await http.ask(CHAT, x_api_key="any")).status == (401 if auth == "always" else 200)


async def test_a_request_shows_so_many_keys_at_most(guarded: Node, backend: FakeBackend) -> None:
    """Kills: digesting and looking up as many as fit into a head."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n"
    body = json.dumps(CHAT)
    for more, status in ((3, 200), (4, 400), (4000, 400)):
        async with client(guarded) as http:
            lines = "x-api-key: x\r\n" * more
            http.send(f"{head}{lines}content-length: {len(body)}\r\n\r\n{body}".encode())
            answer = await http.answer()
            assert answer.status == status
            if status != 200:
                assert "at most 4 API keys" in answer.json["error"]["message"]
    assert len(backend.asked) == 1


@pytest.mark.parametrize(
    ("nets", "here", "elsewhere"),
    [
        ((), ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"), ("172.17.0.2", "::2", "", "x")),
        (("172.17.0.0/16", "fd00::/8"), ("172.17.0.2", "::ffff:172.17.3.4", "fd00::9"), ("172.18.0.2",)),
    ],
)
async def test_networks_of_containers_count_as_this_host(
    backend: FakeBackend, nets: tuple[str, ...], here: tuple[str, ...], elsewhere: tuple[str, ...]
) -> None:
    async with running_node(served={"one": Served(backend)}, trusted_nets=nets) as node:
        assert all(map(node.plane.keys.is_here, here))
        assert not any(map(node.plane.keys.is_here, elsewhere))
        node.plane.adopt(replace(node.plane.policy, trusted_nets=("172.18.0.0/16",)))
        assert node.plane.keys.is_here("172.18.0.2")
        assert not node.plane.keys.is_here("172.17.0.2")


async def test_behind_a_proxy_that_says_nothing_loopback_is_nobody(backend: FakeBackend) -> None:
    """Kills: the setting ignored for keys or for changes of models, or taken for the whole listener."""
    proxied: dict[str, Any] = {"auth": "lan", "loopback_is_local": False}
    async with running_node(served={"one": Served(backend)}, **proxied) as node, client(node) as http:
        give(node, key())
        copy = {"source": "m1", "destination": "mine"}
        assert (await http.ask(CHAT)).status == 401
        assert (await http.ask(copy, "/api/copy", x_api_key=KEY)).status == 403
        assert (await http.ask(CHAT, x_api_key=KEY)).status == 200
        node.plane.adopt(replace(node.plane.policy, trusted_nets=("127.0.0.1/32",)))
        assert (await http.ask(CHAT)).status == 200
        node.plane.adopt(replace(node.plane.policy, trusted_nets=(), loopback_is_local=True))
        assert (await http.ask(CHAT)).status == 200


async def test_auth_is_taken_into_use_while_running(node: Node, http: Client) -> None:
    assert (await http.ask(CHAT)).status == 200
    node.plane.adopt(replace(node.plane.policy, auth="always"))
    assert (await http.ask(CHAT)).status == 401
    give(node, key())
    assert (await http.ask(CHAT, x_api_key=KEY)).status == 200
    node.plane.adopt(replace(node.plane.policy, auth="none"))
    assert (await http.ask(CHAT)).status == 200


async def test_a_key_sees_and_uses_its_models_only(swarm: TestSwarm, backend: FakeBackend) -> None:
    served = {"x": Served(backend, model="m1"), "y": Served(backend, model="secret:7b")}
    async with running_node("a", served, swarm=swarm, auth="always") as node, client(node) as http:
        swarm.connect(aliases=[("gpt-4", "m1"), ("boss", "secret:7b")])
        give(node, key(models=("m*", "gpt-4")))
        shown = {"x_api_key": KEY}
        listed = (await http.get("/v1/models", **shown)).json
        assert [one["id"] for one in listed["data"]] == ["m1"]
        assert [one["name"] for one in (await http.get("/api/tags", **shown)).json["models"]] == ["m1"]
        anthropic = (await http.get("/v1/models", anthropic_version="2023-06-01", **shown)).json
        assert [one["id"] for one in anthropic["data"]] == ["m1"]
        for model in ("m1", "gpt-4"):
            assert (await http.ask({**CHAT, "model": model}, **shown)).status == 200
        for model in ("secret:7b", "secret", "SECRET:7b", "boss"):
            refused = await http.ask({**CHAT, "model": model}, **shown)
            assert (refused.status, refused.code) == (403, "forbidden"), model
            assert (await http.get(f"/v1/models/{model}", **shown)).status == 403
        unknown = await http.ask({**CHAT, "model": "nope"}, **shown)
        assert (unknown.status, unknown.code) == (404, "model_not_found")
        assert "m1" in unknown.json["error"]["message"]
        assert "secret" not in unknown.json["error"]["message"]
        # Nor as the one that answers for another.
        fallen = await http.ask({**CHAT, "model": "nope", "fallback_models": ["secret:7b"]}, **shown)
        assert fallen.status == 404
        instead = await http.ask({**CHAT, "model": "nope", "fallback_models": ["secret:7b", "m1"]}, **shown)
        assert (instead.status, instead.headers["x-swarm-model"]) == (200, "m1")
        assert (await http.get("/v1/models", x_api_key="x")).status == 401


async def test_a_key_has_so_many_requests_a_minute(guarded: Node) -> None:
    give(guarded, key(requests_per_minute=2))
    async with client(guarded) as http:
        for path in ("/v1/chat/completions", "/v1/messages"):
            body = {**CHAT, "max_tokens": 5}
            assert (await http.ask(body, path, x_api_key=KEY)).status == 200
        refused = await http.ask(CHAT, x_api_key=KEY)
        assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
        assert refused.json["error"]["type"] == "rate_limit_error"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        # Lists are no use of a model.
        assert (await http.get("/v1/models", x_api_key=KEY)).status == 200


async def test_a_key_has_so_many_requests_at_a_time(guarded: Node, backend: FakeBackend) -> None:
    give(guarded, key(concurrency=1))
    async with client(guarded) as busy, client(guarded) as http:
        busy.post(CHAT, x_api_key=KEY, x_fake="hang=1")
        await eventually(lambda: backend.running == 1, "one runs")
        assert (await http.ask(CHAT, x_api_key=KEY)).code == "rate_limit_exceeded"
        busy.writer.close()
        await eventually(lambda: backend.running == 0, "it was cancelled")
        for _ in range(3):
            assert (await http.ask(CHAT, x_api_key=KEY)).status == 200


async def test_a_key_has_so_many_tokens_a_day(guarded: Node) -> None:
    give(guarded, key(tokens_per_day=100))
    async with client(guarded) as http:
        assert (await http.ask(CHAT, x_api_key=KEY)).status == 200
        guarded.plane.keys.used_tokens("k1", 99)
        assert (await http.ask(CHAT, x_api_key=KEY)).status == 200
        guarded.plane.keys.used_tokens("k1", 40)
        spent = await http.ask(CHAT, x_api_key=KEY)
        assert (spent.status, spent.code, spent.headers["retry-after"]) == (429, "rate_limit_exceeded", "60")


async def test_a_key_that_may_manage_changes_models_from_elsewhere() -> None:
    async with (
        running_ollama("m1", library={"tiny:1b": parse_model("tiny:1b")}) as (backend, _),
        running_node(served={"one": Served(backend, "m1:latest", "m1", kind="ollama")}) as node,
        client(node) as http,
    ):
        copy = {"source": "m1", "destination": "mine"}
        plain, manager = key_text(os.urandom(SECRET_BYTES)), key_text(os.urandom(SECRET_BYTES))
        give(node, key(plain), key(manager, id="k2", manage=True), key(id="k3", manage=True, expires_at_s=1))
        for shown in ({}, {"x_api_key": plain}, {"x_api_key": KEY}, {"x_api_key": "wrong"}):
            refused = await http.ask(copy, "/api/copy", **FROM_AFAR, **shown)
            assert refused.status == 403
            assert "key create --manage" in refused.json["error"]
        assert (await http.ask(copy, "/api/copy", x_api_key=manager, **FROM_AFAR)).status == 200
        pinned = {"model": "m1", "prompt": "x", "keep_alive": -1, "stream": False}
        assert (await http.ask(pinned, "/api/generate", **FROM_AFAR)).status == 403
        answer = await http.ask(pinned, "/api/generate", authorization=f"Bearer {manager}", **FROM_AFAR)
        assert answer.status == 200
        node.plane.adopt(replace(node.plane.policy, manage="off"))
        assert (await http.ask(copy, "/api/copy", x_api_key=manager)).status == 403


async def test_a_key_that_may_manage_keeps_to_its_models() -> None:
    async with (
        running_ollama("m1", library={"tiny:1b": parse_model("tiny:1b")}) as (backend, _),
        running_node(
            served={"one": Served(backend, "m1:latest", "m1", kind="ollama")}, auth="always"
        ) as node,
        client(node) as http,
    ):
        give(node, key(manage=True, models=("tiny:*",)))
        assert (await http.ask({"model": "huge:70b"}, "/api/pull", x_api_key=KEY)).status == 403
        # Nor by another name for them, nor as what is written over.
        for path, body in (
            ("/api/create", {"model": "tiny:mine", "from": "m1"}),
            ("/api/copy", {"source": "m1", "destination": "tiny:mine"}),
            ("/api/copy", {"source": "tiny:1b", "destination": "m1"}),
        ):
            assert (await http.ask(body, path, x_api_key=KEY)).status == 403, body
        # Ollama takes the last of what it reads as one key.
        twice = {"name": "tiny:1b", "Name": "huge:70b", "stream": False}
        assert (await http.ask(twice, "/api/pull", x_api_key=KEY)).status == 400
        pulled = await http.ask({"model": "tiny:1b", "stream": False}, "/api/pull", x_api_key=KEY)
        assert pulled.json == {"status": "success"}


async def test_the_hop_tells_whose_request_it_is_and_takes_no_key(
    swarm: TestSwarm, backend: FakeBackend
) -> None:
    async with (
        running_node("a", swarm=swarm, auth="always") as a,
        running_node("b", {"one": Served(backend)}, swarm=swarm, auth="always") as b,
        client(a) as http,
    ):
        swarm.connect()
        for node in (a, b):
            give(node, key())
        assert (await http.ask(CHAT, x_swarm_key="forged")).status == 401
        answer = await http.ask(CHAT, x_api_key=KEY, x_swarm_key="forged")
        assert (answer.status, answer.headers["x-swarm-node"]) == (200, "b")
        assert (await http.ask(CHAT)).status == 401
    (seen,) = backend.asked
    assert KEY not in str(seen.headers)
    assert seen.header("x-swarm-key") is None


@pytest.mark.parametrize(
    ("models", "name", "permitted"),
    [
        ((), "any", True),
        (("m1",), "m1:latest", True),
        (("m1:latest",), "m1:latest", True),
        (("m1",), "m1:70b", False),
        (("m*",), "m1:70b", True),
        (("M1",), "m1", False),
        (("",), "", False),
    ],
)
def test_which_names_a_list_permits(models: tuple[str, ...], name: str, permitted: bool) -> None:
    assert key(models=models).permits(name) is permitted


def test_keys_are_never_shown() -> None:
    one = key()
    assert one.digest.hex() not in repr(one)
    assert str(one.digest) not in repr(one)
    assert json.dumps(KEY).startswith('"sk-swarm-')
