"""A model that loads is waited for, within bounds, and its sender is told so.

Mutants seen to be killed: no bound in time, nobody told, a wait beside another node that has the model,
clients that leave kept, nothing begun when the model is there, time that begins again, a drain that forgets.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from swarmplane.conditions import LOADING, Condition, EndpointCondition
from swarmplane.fallbacks import FallbackPolicy
from swarmplane.ids import BackendName, ModelName
from swarmplane.inventory import ModelState
from swarmplane.pulls import Pull
from swarmplane.routes import Version
from tests.fakes.backend import Behaviour, FakeBackend, running_backend
from tests.fakes.dataplane import CHAT, QUICK, Node, Served, TestSwarm, client, eventually, running_node

HANGS = Behaviour(hang=True)


def loading(backend: FakeBackend) -> dict[str, Served]:
    return {"one": Served(backend, state=ModelState.LOADING)}


async def test_a_request_waits_until_its_model_is_there(backend: FakeBackend) -> None:
    async with running_node(served=loading(backend), loading_wait_s=30.0) as node, client(node) as http:
        http.post(CHAT)
        await eventually(lambda: len(node.plane.loading), "it waits")
        assert not backend.asked
        node.own({"one": Served(backend)})
        answer = await http.answer()
        assert (answer.status, answer.headers["x-swarm-attempts"], len(backend.asked)) == (200, "1", 1)
        assert not node.plane.loading
        assert (await http.ask(CHAT)).status == 200, "the connection serves on"


async def test_it_waits_for_so_long_only(backend: FakeBackend) -> None:
    async with running_node(served=loading(backend), loading_wait_s=0.2) as node, client(node) as http:
        answer = await http.ask(CHAT)
        assert (answer.status, answer.code) == (503, "model_loading")
        assert int(answer.headers["retry-after"]) > 0
        assert (len(node.plane.loading), node.plane.buffered_bytes) == (0, 0)
        assert (await http.ask(CHAT)).status == 503


async def test_who_leaves_waits_no_more(backend: FakeBackend) -> None:
    async with running_node(served=loading(backend), loading_wait_s=30.0) as node:
        async with client(node) as http:
            http.post(CHAT)
            await eventually(lambda: len(node.plane.loading), "it waits")
        await eventually(lambda: not node.plane.loading, "nobody is waited for")
        assert (node.plane.counters.cancelled, node.plane.buffered_bytes) == (1, 0)


async def test_who_left_is_listed_no_more(backend: FakeBackend) -> None:
    """Kills: its body, which is dropped, read for the list."""
    async with running_node(served=loading(backend), loading_wait_s=30.0, tick_s=30.0) as node:
        async with client(node) as http:
            http.post(CHAT)
            await eventually(lambda: len(node.plane.loading), "it waits")
            assert [one["waits_for"] for one in node.plane.requests()] == ["loading"]
        await eventually(lambda: node.plane.counters.cancelled, "it left")
        assert (len(node.plane.loading), node.plane.requests()) == (1, [])


async def test_a_node_that_drains_refuses_who_waits(backend: FakeBackend) -> None:
    async with running_node(served=loading(backend), loading_wait_s=30.0) as node, client(node) as http:
        http.post(CHAT)
        await eventually(lambda: len(node.plane.loading), "it waits")
        node.plane.draining = True
        assert (await http.answer()).status == 503
        assert not node.plane.loading


async def test_a_drain_in_no_time_refuses_who_waits(backend: FakeBackend) -> None:
    slow = replace(QUICK, loading_wait_s=30.0, tick_s=1.0)
    async with running_node(served=loading(backend), policy=slow) as node, client(node) as http:
        http.post(CHAT)
        await eventually(lambda: len(node.plane.loading), "it waits")
        await node.plane.drain(0.0)
        assert (await http.answer()).status == 503


async def test_nobody_waits_for_longer_than_it_has_time(backend: FakeBackend) -> None:
    async with running_node(served=loading(backend), loading_wait_s=60.0) as node, client(node) as http:
        assert (await http.ask(CHAT, x_swarm_timeout_s="0.3")).status == 503


async def test_what_it_waited_is_of_its_time(backend: FakeBackend) -> None:
    """Kills: the clock begun again once the model is there."""
    async with running_node(served=loading(backend), loading_wait_s=60.0) as node, client(node) as http:
        backend.default = HANGS
        http.post(CHAT, x_swarm_timeout_s="3")
        await eventually(lambda: len(node.plane.loading), "it waits")
        (waiting,) = node.plane.loading._waiting
        began_s = waiting._started_s
        await asyncio.sleep(0.3)
        node.own({"one": Served(backend)})
        await eventually(lambda: waiting.plan, "it runs")
        assert waiting.plan is not None
        assert waiting._started_s == began_s
        assert waiting.plan.deadline_s == began_s + 3.0
        assert (await http.answer()).status == 504


async def test_across_a_hop_the_sender_hears_why(pair: tuple[Node, Node], backend: FakeBackend) -> None:
    a, b = pair
    b.plane.policy = replace(b.plane.policy, loading_wait_s=30.0, phase_after_s=0.05)
    table = a.routes.view.table
    b.own(loading(backend))
    assert a.routes.view.table is table, "the sender believes it ready"
    async with client(a) as http:
        http.post(CHAT)
        await eventually(lambda: len(b.plane.loading), "it waits at its owner")
        (exchange,) = a.plane.active
        await eventually(lambda: exchange._queued_since_s < 1e12, "its sender heard that it waits")
        b.own({"one": Served(backend)})
        answer = await http.answer()
        assert (answer.status, answer.headers["x-swarm-node"], len(backend.asked)) == (200, "b", 1)


async def test_nobody_waits_beside_a_node_that_has_the_model(swarm: TestSwarm) -> None:
    async with (
        running_backend() as first,
        running_backend() as second,
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(first)}, swarm=swarm) as b,
        running_node("c", {"one": Served(second)}, swarm=swarm) as c,
        client(a) as http,
    ):
        swarm.connect()
        b.plane.policy = c.plane.policy = replace(b.plane.policy, loading_wait_s=30.0)
        b.own(loading(first))
        for _ in range(6):
            answer = await http.ask(CHAT)
            assert (answer.status, answer.headers["x-swarm-node"]) == (200, "c")
        assert not first.asked
        await eventually(lambda: not b.plane.loading, "withdrawn there")


async def test_who_waits_is_listed_and_refused_with_the_owners_estimate(
    swarm: TestSwarm, backend: FakeBackend
) -> None:
    """Kills: no estimate, that of another endpoint, those that wait hidden from the admin listener."""
    async with (
        running_node("a", {}, swarm=swarm, loading_wait_s=30.0) as a,
        running_node("b", loading(backend), swarm=swarm) as b,
    ):
        swarm.nodes = {"a": a, "b": b}
        swarm.connect()
        table = a.routes.view.table
        route = table.models[ModelName("m1")]
        loads = replace(route, endpoints=tuple(replace(e, ready=False) for e in route.endpoints))
        a.routes.install(replace(table, models={route.name: loads}))
        left = EndpointCondition(route.endpoints[0].id, LOADING, load_left_s=12.5)
        a.routes.set_condition(b.id, Condition(endpoints=(left,)), 1e12)
        async with client(a) as http:
            http.post(CHAT, x_swarm_timeout_s="0.6", x_request_id="r1")
            await eventually(lambda: len(a.plane.loading), "it waits")
            (listed,) = a.plane.requests()
            assert {key: listed[key] for key in ("request_id", "model", "waits_for", "eta_s", "origin")} == {
                "request_id": "r1", "model": "m1", "waits_for": "loading", "eta_s": 12.5, "origin": "aid",
            }  # fmt: skip
            answer = await http.answer()
        assert (answer.status, answer.json["swarm"]) == (503, {"state": "loading", "eta_s": 12.5})
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert a.plane.requests() == []


def pulling(node: Node, *pulls: Pull, auto_pull: tuple[str, ...] = ("m1",)) -> None:
    table = node.routes.view.table
    version = Version(1, table.version.revision + 1)
    policy = FallbackPolicy(auto_pull=auto_pull)
    node.routes.install(replace(table, version=version, fallbacks=policy, pulls=pulls))


async def test_a_model_that_is_pulled_is_waited_for(backend: FakeBackend) -> None:
    """Kills: no wish told, one for each request, waits without leave, a pull's end taken for a failure."""
    async with running_node(loading_wait_s=30.0) as node, client(node) as http, client(node) as other:
        assert (await http.ask(CHAT)).status == 404
        pulling(node)
        http.post(CHAT)
        other.post(CHAT)
        await eventually(lambda: len(node.plane.loading) == 2, "both wait")
        assert node.routes.uses.wanted == {"m1"}
        pulling(node, Pull("m1", node.id, BackendName("one"), 40.0))
        await eventually(lambda: [one["eta_s"] for one in node.plane.requests()] == [40.0] * 2, "they hear")
        pulling(node)
        await asyncio.sleep(10 * node.plane.policy.tick_s)
        assert len(node.plane.loading) == 2, "what was pulled is in the table a moment later"
        node.own({"one": Served(backend)})
        assert [(await one.answer()).status for one in (http, other)] == [200, 200]


async def test_a_pull_that_takes_too_long_is_told_with_its_estimate() -> None:
    """Kills: 404 for what is on its way, no estimate, a name that only looks alike."""
    async with running_node(loading_wait_s=0.1) as node, client(node) as http:
        pulling(node, Pull("m1", node.id, BackendName("one"), 40.0), Pull("m2", node.id, BackendName("one")))
        answer = await http.ask(CHAT)
        assert (answer.status, answer.code) == (503, "model_loading")
        assert answer.json["swarm"] == {"state": "loading", "eta_s": 40.0}
        assert (await http.ask({**CHAT, "model": "m2"})).json["swarm"]["eta_s"] is None
        assert (await http.ask({**CHAT, "model": "m3"})).status == 404
