"""Another model answers where the asked one can't, and only by leave.

Mutants seen to be killed: policies without a leave, the client's no unheard, extras that reach a backend, the
header left out, chains that go on for ever, a client's error taken for an outage, a cold model asked beside a
loaded one that policy prefers, one of another category, what is no generation asked twice, no budget.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from swarmplane.conditions import COLD, Condition, EndpointCondition
from swarmplane.fallbacks import FallbackPolicy, FallbackRule
from swarmplane.ids import EndpointId, ModelName, SwarmId
from swarmplane.inventory import ModelState
from swarmplane.routes import ModelRoute, RouteTable, Version
from tests.fakes.backend import Behaviour, FakeBackend, running_backend
from tests.fakes.dataplane import CHAT, STREAM, Node, Served, TestSwarm, client, running_node

BROKEN = Behaviour(status=500)


@pytest.fixture
async def other() -> AsyncIterator[FakeBackend]:
    async with running_backend() as one:
        yield one


@pytest.fixture
async def node(backend: FakeBackend, other: FakeBackend) -> AsyncIterator[Node]:
    """A host with ``m1``, and ``m2`` at another backend."""
    served = {"one": Served(backend), "two": Served(other, "m2")}
    async with running_node(served=served) as one:
        yield one


def allow(node: Node, *chain: str, **policy: Any) -> None:
    """A policy for the swarm, and a chain for ``m1``."""
    version = Version(1, node.routes.view.table.version.revision + 1)
    models = {ModelName("m1"): ModelRoute(ModelName("m1"), fallbacks=chain)}
    node.routes.install(RouteTable(SwarmId("s"), version, models, fallbacks=FallbackPolicy(**policy)))


def body(backend: FakeBackend) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(backend.asked[-1].body)
    return found


async def test_the_request_names_who_may_answer(node: Node, backend: FakeBackend, other: FakeBackend) -> None:
    backend.default = BROKEN
    wanted = {**CHAT, "fallback_models": ["nobody", "m2"], "metadata": {"tags": ["x"], "k": "v"}}
    async with client(node) as http:
        answer = await http.ask(wanted)
        assert (answer.status, answer.json["model"]) == (200, "m1")
        told = {name: answer.headers.get(f"x-swarm-{name}") for name in ("model", "fallback", "backend")}
        assert told == {"model": "m2", "fallback": "m1", "backend": "two"}
        assert answer.headers["x-swarm-attempts"] == "2"
        sent = body(other)
        assert sent == {**CHAT, "model": "m2", "metadata": {"k": "v"}}
        stream = await http.ask({**STREAM, "fallback_models": ["m2"]})
        assert (stream.status, stream.events[-1]) == (200, "[DONE]")
        assert {json.loads(event)["model"] for event in stream.events[:-1]} == {"m1"}
        backend.default = Behaviour()
        plain = await http.ask(wanted)
        assert (plain.headers["x-swarm-model"], "x-swarm-fallback" in plain.headers) == ("m1", False)
    assert node.plane.retrying == 0


async def test_a_name_that_nobody_knows_falls_back_if_the_request_says_so(node: Node) -> None:
    async with client(node) as http:
        answer = await http.ask({**CHAT, "model": "new", "fallback_models": ["m2"]})
        assert (answer.status, answer.headers["x-swarm-fallback"]) == (200, "new")
        assert (await http.ask({**CHAT, "model": "new"})).status == 404
        assert (await http.ask({**CHAT, "model": "new", "fallback_models": ["newer"]})).status == 404


@pytest.mark.parametrize(
    ("extra", "headers"),
    [({"fallback": False}, {}), ({"fallback_models": ["m2"], "fallback": False}, {}),
     ({"fallback_models": ["m2"]}, {"x_swarm_no_fallback": "1"})],
    ids=["body", "both", "header"],
)  # fmt: skip
async def test_a_client_may_want_this_model_or_none(
    node: Node, backend: FakeBackend, other: FakeBackend, extra: dict[str, Any], headers: dict[str, str]
) -> None:
    allow(node, "m2", rules=(FallbackRule(("m2",)),), substitute_loaded=True)
    backend.default = BROKEN
    async with client(node) as http:
        answer = await http.ask({**CHAT, **extra}, **headers)
    assert (answer.status, other.asked) == (502, [])
    assert "fallback" not in json.dumps(body(backend))


async def test_policies_allow_chains_and_rules(node: Node, backend: FakeBackend) -> None:
    backend.default = BROKEN
    async with client(node) as http:
        assert (await http.ask(CHAT)).status == 502
        allow(node, "m2")
        assert (await http.ask(CHAT)).headers["x-swarm-model"] == "m2"
        allow(node, rules=(FallbackRule(("m2",), category="code"),))
        assert (await http.ask(CHAT)).status == 502
        allow(node, rules=(FallbackRule(("m2",), match="m*", category="chat"),))
        assert (await http.ask(CHAT)).headers["x-swarm-fallback"] == "m1"


async def test_all_that_may_answer_are_tried_once(
    node: Node, backend: FakeBackend, other: FakeBackend
) -> None:
    backend.default = other.default = BROKEN
    allow(node, "m2", "m1", "m2", rules=(FallbackRule(("m2", "m1")),))
    async with client(node) as http:
        answer = await http.ask(CHAT)
        assert (answer.status, answer.headers["x-swarm-attempts"]) == (502, "2")
        assert (len(backend.asked), len(other.asked)) == (1, 1)
        backend.default = Behaviour(status=400)
        assert (await http.ask(CHAT)).status == 400
    assert len(other.asked) == 1
    assert (node.plane.retrying, node.plane.active) == (0, set())


async def test_full_is_a_reason(node: Node, backend: FakeBackend) -> None:
    allow(node, "m2")
    backend.default = Behaviour(status=429, retry_after="7")
    async with client(node) as http:
        assert (await http.ask(CHAT)).headers["x-swarm-model"] == "m2"


async def test_nobody_takes_over_after_the_first_byte(
    node: Node, backend: FakeBackend, other: FakeBackend
) -> None:
    allow(node, "m2")
    backend.default = Behaviour(chunks=6, close_at=900)
    async with client(node) as http:
        answer = await http.ask(STREAM)
    assert (answer.status, other.asked) == (200, [])
    assert "error" in json.loads(answer.events[-1])


async def test_a_loaded_model_answers_for_a_cold_one_if_policy_says_so(
    backend: FakeBackend, other: FakeBackend
) -> None:
    served = {"one": Served(backend, state=ModelState.COLD), "two": Served(other, "m2")}
    async with running_node(served=served) as node, client(node) as http:
        cold = EndpointCondition(EndpointId("local/one/m1"), COLD)
        node.routes.set_condition(node.id, Condition(endpoints=(cold,)), 1e12)
        assert (await http.ask(CHAT)).headers["x-swarm-model"] == "m1"
        allow(node, substitute_loaded=True)
        answer = await http.ask(CHAT)
        assert (answer.headers["x-swarm-model"], answer.headers["x-swarm-fallback"]) == ("m2", "m1")
        assert (await http.ask({**CHAT, "fallback": False})).headers["x-swarm-model"] == "m1"
        assert (await http.ask({**CHAT, "model": "m2"})).headers.get("x-swarm-fallback") is None


async def test_it_falls_back_to_another_node(
    swarm: TestSwarm, backend: FakeBackend, other: FakeBackend
) -> None:
    backend.default = BROKEN
    async with (
        running_node("a", {"one": Served(backend)}, swarm=swarm) as a,
        running_node("b", {"two": Served(other, "M-2", "m2")}, swarm=swarm) as b,
    ):
        swarm.nodes = {"a": a, "b": b}
        swarm.connect()
        async with client(a) as http:
            answer = await http.ask({**CHAT, "fallback_models": ["m2"]})
        assert (answer.status, answer.json["model"]) == (200, "m1")
        assert (answer.headers["x-swarm-node"], answer.headers["x-swarm-fallback"]) == ("b", "m1")
        assert body(other) == {**CHAT, "model": "M-2"}


@pytest.mark.parametrize(
    "extra",
    [
        {"fallback_models": "m2"},
        {"fallback_models": [1]},
        {"fallback": "no"},
        {"fallback_models": ["m"] * 17},
    ],
    ids=["text", "numbers", "word", "many"],
)
async def test_wishes_that_make_no_sense_are_refused(node: Node, extra: dict[str, Any]) -> None:
    async with client(node) as http:
        answer = await http.ask({**CHAT, **extra})
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert answer.json["error"]["param"] in extra
        assert (await http.ask(CHAT)).status == 200


async def test_what_may_have_been_done_is_not_asked_of_another(
    node: Node, backend: FakeBackend, other: FakeBackend
) -> None:
    """Kills: an image made twice; retries beyond the budget."""
    allow(node, "m2")
    backend.default = BROKEN
    async with client(node) as http:
        stored = await http.ask({"model": "m1", "prompt": "hi"}, "/v1/images/generations")
        assert (stored.status, other.asked) == (502, [])
        node.plane.retrying = 1_000
        assert (await http.ask(CHAT)).status == 502
        node.plane.retrying = 0
    assert other.asked == []


async def test_only_a_model_of_the_same_category_takes_the_place_of_a_cold_one(
    backend: FakeBackend, other: FakeBackend
) -> None:
    """Kills: any loaded model."""
    served = {"one": Served(backend, state=ModelState.COLD), "two": Served(other, "qwen-coder")}
    async with running_node(served=served) as node, client(node) as http:
        cold = EndpointCondition(EndpointId("local/one/m1"), COLD)
        node.routes.set_condition(node.id, Condition(endpoints=(cold,)), 1e12)
        allow(node, substitute_loaded=True)
        assert (await http.ask(CHAT)).headers["x-swarm-model"] == "m1"
