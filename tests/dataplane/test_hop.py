"""Two sidecars and the mutual TLS between them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from swarmplane.credentials.tls import peer_client_context, peer_server_context
from swarmplane.ids import NodeId, SubjectId, SwarmId
from swarmplane.inventory import ModelState
from tests.fakes.backend import Behaviour, FakeBackend, running_backend
from tests.fakes.dataplane import (
    CHAT,
    STREAM,
    SWARM,
    Client,
    Node,
    Served,
    TestSwarm,
    client,
    eventually,
    request,
    running_node,
)

Pair = tuple[Node, Node]


async def test_a_model_of_another_node_answers(pair: Pair, backend: FakeBackend) -> None:
    a, b = pair
    async with client(a) as http:
        plain = await http.ask(CHAT, x_request_id="r1", authorization="Bearer client")
        stream = await http.ask(STREAM)
    for answer in (plain, stream):
        assert answer.status == 200
        assert answer.headers["x-swarm-node"] == "b"
        assert answer.headers["x-swarm-backend"] == "one"
        assert answer.headers["x-swarm-model"] == "m1"
        assert answer.headers["x-swarm-attempts"] == "1"
        assert answer.headers["x-swarm-route-version"] == "1.1"
        assert "x-swarm-load" not in answer.headers
    assert stream.events[-1] == "[DONE]"
    assert plain.headers["x-request-id"] == "r1"
    assert backend.asked[0].header("x-request-id") == "r1"
    assert not any(name.startswith("x-swarm") for name, _ in backend.asked[0].headers)
    assert backend.asked[0].header("authorization") is None
    assert b.plane.counters.hops_in == 2
    assert b.plane.counters.connections == 1, "one connection served both"


async def test_the_owner_puts_the_spelling_in_and_the_asked_name_back(
    swarm: TestSwarm, backend: FakeBackend
) -> None:
    async with (
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend, model="dir/M.gguf", canonical="modèle 1")}, swarm=swarm),
        client(a) as http,
    ):
        swarm.connect(aliases=[("gpt-4", "modèle 1")])
        plain = await http.ask({**CHAT, "model": "gpt-4"})
        stream = await http.ask({**STREAM, "model": "gpt-4"})
    assert json.loads(backend.asked[0].body)["model"] == "dir/M.gguf"
    assert plain.json["model"] == "gpt-4"
    assert {json.loads(event)["model"] for event in stream.events[:-1]} == {"gpt-4"}
    assert plain.headers["x-swarm-model"] == "mod%C3%A8le%201"


async def test_a_request_with_hop_headers_from_a_client_is_a_clients(pair: Pair) -> None:
    a, _ = pair
    async with client(a) as http:
        answer = await http.ask(
            CHAT,
            x_swarm_hop=a.id,
            x_swarm_model="other",
            x_swarm_origin="x",
            x_swarm_deadline_ms="0",
            x_swarm_refusal="gone",
        )
    assert answer.status == 200
    assert answer.headers["x-swarm-node"] == "b"


async def test_local_only_stays_here(pair: Pair) -> None:
    a, b = pair
    for name in ("x_swarm_local_only", "x_netllm_local_only"):
        async with client(a) as http:
            answer = await http.ask(CHAT, **{name: "1"})
            assert (answer.status, answer.code) == (503, "no_replica")
        async with client(b) as http:
            assert (await http.ask(CHAT, **{name: "1"})).status == 200


async def test_a_pin(swarm: TestSwarm, backend: FakeBackend) -> None:
    served = {"one": Served(backend)}
    async with (
        running_node("a", served, swarm=swarm) as a,
        running_node("b", served, swarm=swarm) as b,
        client(a) as http,
    ):
        swarm.connect()
        assert (await http.ask(CHAT)).headers["x-swarm-node"] == "a"
        assert (await http.ask(CHAT, x_swarm_node="b")).headers["x-swarm-node"] == "b"
        assert (await http.ask(CHAT, x_swarm_node=b.id)).headers["x-swarm-node"] == "b"
        missing = await http.ask(CHAT, x_swarm_node="c")
        assert (missing.status, missing.code) == (503, "no_replica")
        assert "'c'" in missing.json["error"]["message"]


async def test_the_owner_never_forwards(swarm: TestSwarm, backend: FakeBackend) -> None:
    """C has the model, B is believed to: A's request ends at B with "gone" and goes on from A."""
    async with (
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend)}, swarm=swarm) as b,
        running_node("c", {"one": Served(backend)}, swarm=swarm) as c,
        client(a) as http,
    ):
        swarm.connect()
        b.own({})
        answers = [await http.ask(CHAT, x_swarm_node="") for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        assert {answer.headers["x-swarm-node"] for answer in answers} == {"c"}
        assert b.plane.counters.attempts == 0
        assert b.plane.counters.requests <= 1, "learned at once"
        assert c.plane.counters.hops_in == 3


@pytest.mark.parametrize("pinned", [False, True])
async def test_gone_everywhere_is_no_replica(pair: Pair, pinned: bool) -> None:
    a, b = pair
    b.own({})
    async with client(a) as http:
        answer = await http.ask(CHAT, **({"x_swarm_node": "b"} if pinned else {}))
        assert (answer.status, answer.code) == (503, "no_replica")
        assert (await http.ask(CHAT)).code == "no_replica"
    assert b.plane.counters.requests == 1


async def test_a_draining_owner_refuses(pair: Pair) -> None:
    a, b = pair
    b.routes.set_draining(draining=True)
    async with client(a) as http:
        answer = await http.ask(CHAT)
        assert (answer.status, answer.code) == (503, "draining")
        b.routes.set_draining(draining=False)
        assert (await http.ask(CHAT)).status == 200


async def test_a_loading_owner_refuses(pair: Pair, backend: FakeBackend) -> None:
    a, b = pair
    b.own({"one": Served(backend, state=ModelState.LOADING)})
    async with client(a) as http:
        answer = await http.ask(CHAT)
        assert (answer.status, answer.code) == (503, "model_loading")
        assert answer.json["swarm"]["state"] == "loading"


async def test_a_full_owner_is_a_move(swarm: TestSwarm, backend: FakeBackend) -> None:
    async with (
        running_backend() as other,
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend)}, swarm=swarm),
        running_node("c", {"one": Served(other)}, swarm=swarm),
        client(a) as http,
    ):
        swarm.connect()
        backend.default = Behaviour(status=429, retry_after="3")
        answers = [await http.ask(CHAT) for _ in range(4)]
        assert {answer.headers["x-swarm-node"] for answer in answers} == {"c"}
        assert len(backend.asked) <= 1
        other.default = Behaviour(status=429, retry_after="3")
        full = await http.ask(CHAT)
        assert (full.status, full.code) == (429, "saturated")
        assert int(full.headers["retry-after"]) >= 1


async def test_a_broken_backend_of_the_owner_is_a_502(pair: Pair, backend: FakeBackend) -> None:
    a, _ = pair
    backend.default = Behaviour(reset_at=0)
    async with client(a) as http:
        answer = await http.ask(CHAT)
        assert (answer.status, answer.code) == (502, "upstream_failed")
        backend.default = Behaviour()
        assert (await http.ask(CHAT)).status == 200


async def test_a_stream_that_breaks_at_the_owner_says_so(pair: Pair, backend: FakeBackend) -> None:
    a, _ = pair
    backend.default = Behaviour(chunks=10, reset_at=900)
    async with client(a) as http:
        answer = await http.ask(STREAM)
        assert answer.whole
        assert json.loads(answer.events[-1])["error"]["code"] == "upstream_failed"
        assert "[DONE]" not in answer.events


async def test_a_killed_owner_ends_its_streams_with_an_error(swarm: TestSwarm, backend: FakeBackend) -> None:
    async with running_node("a", swarm=swarm) as a:
        async with running_node("b", {"one": Served(backend)}, swarm=swarm) as b:
            swarm.connect()
            async with client(a) as http:
                http.post(STREAM, x_fake="chunks=1000;interval_s=0.02")
                await eventually(lambda: sum(one.bytes_out for one in a.plane._connections) > 1000)
                for connection in tuple(b.plane._connections):
                    connection.transport.abort()
                await eventually(lambda: not b.plane.active)
                b.plane.close()
                answer = await http.answer()
                assert answer.whole
                assert json.loads(answer.events[-1])["error"]["code"] == "upstream_failed"
        async with client(a) as http:
            gone = await http.ask(CHAT)
            assert (gone.status, gone.code) == (503, "no_replica")


async def test_the_owner_restarts_and_nobody_notices(swarm: TestSwarm, backend: FakeBackend) -> None:
    async with running_node("a", swarm=swarm) as a:
        async with running_node("b", {"one": Served(backend)}, swarm=swarm):
            swarm.connect()
            async with client(a) as http:
                assert (await http.ask(CHAT)).status == 200
        async with running_node("b", {"one": Served(backend)}, swarm=swarm):
            swarm.connect()
            async with client(a) as http:
                assert (await http.ask(CHAT)).status == 200


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_large_bodies_wait_for_100_continue(pair: Pair, backend: FakeBackend, stream: bool) -> None:
    a, b = pair
    body = {**(STREAM if stream else CHAT), "pad": "x" * 1_000_000}
    async with client(a) as http:
        assert (await http.ask(body)).status == 200
        assert len(backend.asked[0].body) > 1_000_000
        b.routes.set_draining(draining=True)
        b.plane.draining = True
        before = b.plane.counters.bytes_in
        assert (await http.ask(body)).code == "draining"
        assert b.plane.counters.bytes_in == before, "the body never crossed"
        b.plane.draining = False


async def test_load_crosses_with_every_answer(pair: Pair, backend: FakeBackend) -> None:
    a, b = pair
    b.own({"one": Served(backend, slots=2)})
    async with client(a) as http, client(b) as direct:
        direct.post(STREAM, x_fake="chunks=1000;interval_s=0.02")
        await direct.head()
        await http.ask(CHAT)
        candidate = a.routes.resolve("m1", a.plane.clock_s()).candidates[0]
        assert (candidate.load_known, candidate.in_flight, candidate.slots) == (True, 1, 2)
        http.post(STREAM, x_fake="chunks=1000;interval_s=0.02")
        await http.head()
        load = b.routes.load_of(candidate.endpoint.id)
        assert load is not None
        assert dict(load.in_flight_by_origin) == {a.id: 1, b.id: 1}
        assert a.routes.in_flight(candidate.endpoint.id) == 1


async def test_the_deadline_crosses(pair: Pair, backend: FakeBackend) -> None:
    a, b = pair
    async with client(a) as http:
        answer = await http.ask(CHAT, x_swarm_timeout_s="0.4", x_fake="hang=1")
        assert (answer.status, answer.code) == (504, "upstream_timeout")
    await eventually(lambda: not b.plane.active and backend.asked[0].disconnected_s is not None)


async def test_a_slow_owner_reports_its_phase(swarm: TestSwarm, backend: FakeBackend) -> None:
    async with (
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend, slots=3)}, swarm=swarm, phase_after_s=0.05),
        client(a) as http,
    ):
        swarm.connect()
        http.post(CHAT, x_fake="delay_s=1.5")
        await eventually(
            lambda: a.routes.resolve("m1", a.plane.clock_s()).candidates[0].load_known,
            "the 102 carried the owner's load",
        )
        assert backend.running, "no answer did"
        answer = await http.answer()
        assert answer.status == 200
        assert not answer.interim, "phases are between sidecars"


@pytest.mark.parametrize(
    ("phase", "status"),
    [
        pytest.param("queued;ahead=2", 200, id="queued-is-no-silence"),
        pytest.param("loading;eta=9", 200, id="loading-is-no-silence"),
        pytest.param("running", 504, id="running-is"),
        pytest.param("unheard-of", 504, id="unknown-phases-change-nothing"),
    ],
)
async def test_the_first_byte_clock_knows_phases(swarm: TestSwarm, phase: str, status: int) -> None:
    owner = peer_server_context(swarm.credential(NodeId("bid")))
    slow = Behaviour(interim=f"x-swarm-phase: {phase}", delay_s=0.8)
    async with (
        running_backend(default=slow, context=owner) as fake,
        running_node("a", swarm=swarm, first_byte_timeout_s=0.3) as a,
        running_node("b", {"one": Served(1)}, swarm=swarm) as b,
        client(a) as http,
    ):
        b.peer_port = fake.port
        swarm.connect()
        assert (await http.ask(CHAT)).status == status


async def test_a_backends_phases_are_not_believed(backend: FakeBackend) -> None:
    backend.default = Behaviour(interim="x-swarm-phase: queued", hang=True)
    async with (
        running_node(served={"one": Served(backend)}, first_byte_timeout_s=0.2) as node,
        client(node) as http,
    ):
        assert (await http.ask(CHAT)).status == 504


# -- who may speak ----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _peer(node: Node, context: ssl.SSLContext) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", node.peer_port, ssl=context, server_hostname=f"{node.id}.node.{SWARM}"
    )
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 5)


async def _speak(node: Node, context: ssl.SSLContext, **headers: str) -> Any:
    """Status of a request on the peer listener, or None where the connection was refused."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        async with _peer(node, context) as one:
            one.send(request(CHAT, **headers))
            return (await one.answer()).status
    return None


HOP = {"x_swarm_hop": "xid", "x_swarm_origin": "xid", "x_swarm_model": "m1", "x_swarm_endpoint": "bid/one/m1"}


async def test_only_nodes_of_the_swarm_are_admitted(
    pair: Pair, swarm: TestSwarm, tmp_path_factory: Any
) -> None:
    _, b = pair
    good = peer_client_context(swarm.credential(NodeId("xid")))
    assert await _speak(b, good, **HOP) == 200

    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname = False
    nobody.verify_mode = ssl.CERT_NONE
    assert await _speak(b, nobody, **HOP) is None

    others = TestSwarm(tmp_path_factory.mktemp("others"))
    foreign = others.credential(NodeId("xid"))
    (foreign / "ca.pem").write_bytes(swarm.authority.certificate_pem)
    assert await _speak(b, peer_client_context(foreign), **HOP) is None

    expired = peer_client_context(swarm.credential(NodeId("xid"), now_s=time.time() - 20 * 86_400))
    assert await _speak(b, expired, **HOP) is None


async def test_another_swarm_under_the_same_authority_is_not_us(pair: Pair, swarm: TestSwarm) -> None:
    _, b = pair
    other = peer_client_context(swarm.credential(NodeId("xid"), swarm=SwarmId("otherswarm")))
    assert await _speak(b, other, **HOP) is None


async def test_a_denied_node_is_refused_on_a_standing_connection(pair: Pair, swarm: TestSwarm) -> None:
    _, b = pair
    async with _peer(b, peer_client_context(swarm.credential(NodeId("xid")))) as one:
        one.send(request(CHAT, **HOP))
        assert (await one.answer()).status == 200
        swarm.denied.add(SubjectId("xid"))
        swarm.connect()
        one.send(request(CHAT, **HOP))
        assert (await one.answer()).status == 403
    assert await _speak(b, peer_client_context(swarm.credential(NodeId("xid"))), **HOP) is None


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"x_swarm_hop": "someone-else"}, id="another-senders-name"),
        pytest.param({"x_swarm_hop": ""}, id="no-name"),
        pytest.param({"x_swarm_model": ""}, id="no-model"),
    ],
)
async def test_hop_headers_must_be_the_senders_own(
    pair: Pair, swarm: TestSwarm, changed: dict[str, str]
) -> None:
    _, b = pair
    context = peer_client_context(swarm.credential(NodeId("xid")))
    assert await _speak(b, context, **{**HOP, **changed}) == 400


@pytest.mark.parametrize(
    ("headers", "status", "refusal"),
    [
        pytest.param({"x_swarm_model": "other"}, 421, "gone", id="unknown-model"),
        pytest.param({"x_swarm_deadline_ms": "0"}, 503, "expired", id="expired"),
        pytest.param({"x_swarm_endpoint": "bid/other/m1"}, 200, None, id="the-endpoint-is-a-hint"),
    ],
)
async def test_refusals(
    pair: Pair, swarm: TestSwarm, headers: dict[str, str], status: int, refusal: str | None
) -> None:
    _, b = pair
    async with _peer(b, peer_client_context(swarm.credential(NodeId("xid")))) as one:
        one.send(request(CHAT, **{**HOP, **headers}))
        answer = await one.answer()
    assert (answer.status, answer.headers.get("x-swarm-refusal")) == (status, refusal)


async def test_an_impostor_at_a_peers_address_gets_nothing(swarm: TestSwarm, backend: FakeBackend) -> None:
    """C stands where B should: same authority, another name. It must not see the request."""
    async with (
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend)}, swarm=swarm) as b,
        running_node("c", {"one": Served(backend)}, swarm=swarm) as c,
        client(a) as http,
    ):
        b.peer_port = c.peer_port
        c.served = {}
        swarm.connect()
        answer = await http.ask(CHAT)
        assert (answer.status, answer.code) == (503, "no_replica")
        assert c.plane.counters.requests == 0


async def test_a_loop_through_a_backend_is_508(swarm: TestSwarm) -> None:
    async with running_node("a", swarm=swarm) as a, client(a) as http:
        a.own({"self": Served(a.port)})
        answer = await http.ask(CHAT)
        assert (answer.status, answer.code) == (508, "loop")


async def test_a_foreign_via_is_none_of_ours(pair: Pair) -> None:
    a, _ = pair
    async with client(a) as http:
        assert (await http.ask(CHAT, via="1.1 proxy, 1.1 swarm-other")).status == 200
        assert (await http.ask(CHAT, via=f"1.1 x, 1.1 swarm-{SWARM}")).status == 508


async def test_addresses_are_tried_in_turn(pair: Pair) -> None:
    a, b = pair
    table = a.routes.view.table
    from dataclasses import replace

    from swarmplane.routes import Version

    entry = replace(table.nodes[b.id], peer_addresses=("127.0.0.1:1", f"127.0.0.1:{b.peer_port}"))
    a.routes.install(replace(table, version=Version(1, 9), nodes={**table.nodes, b.id: entry}))
    async with client(a) as http:
        assert (await http.ask(CHAT)).status == 200


async def test_a_suspected_peer_loses_its_pooled_connections(pair: Pair) -> None:
    a, b = pair
    async with client(a) as http:
        await http.ask(CHAT)
        assert b.plane.counters.open_connections == 1
        a.routes.set_suspects(frozenset({b.id}))
        await eventually(lambda: b.plane.counters.open_connections == 0)
        assert (await http.ask(CHAT)).status == 200, "suspicion never excludes"
