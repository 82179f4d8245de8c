"""A policy taken into use while requests run: queues, pools and breakers go by it from then on.

Mutants seen to be killed: the queue's, the pools' or the breakers' policy left as it was; idle connections
over the new number kept; those who wait sent away.
"""

from __future__ import annotations

from dataclasses import replace

from sidecar.core.breaker import Policy as BreakerPolicy
from sidecar.core.queue_values import QueuePolicy
from tests.fakes.backend import Behaviour, FakeBackend
from tests.fakes.dataplane import CHAT, Served, client, eventually, running_node


async def test_a_shorter_queue_refuses_from_now_on_and_sends_nobody_away(backend: FakeBackend) -> None:
    served = {"one": Served(backend, slots=1)}
    async with running_node(served=served) as node, client(node) as one, client(node) as two:
        backend.default = Behaviour(delay_s=0.6)
        one.post(CHAT)
        await eventually(lambda: backend.running == 1, "the first runs")
        two.post(CHAT)
        line = next(iter(node.plane.owner.lines.values()))
        await eventually(lambda: line.queue.waiting == 1, "the second waits")
        usual = QueuePolicy()
        none = replace(usual, default=replace(usual.default, length=0))
        node.plane.adopt(replace(node.plane.policy, queue=none))
        async with client(node) as three:
            assert (await three.ask(CHAT)).status == 429
        assert (await one.answer()).status == (await two.answer()).status == 200


async def test_idle_connections_are_kept_as_the_new_policy_says(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend)}) as node, client(node) as one:
        async with client(node) as two:
            backend.default = Behaviour(delay_s=0.2)
            one.post(CHAT)
            two.post(CHAT)
            assert (await one.answer()).status == (await two.answer()).status == 200
        assert backend.open_connections == 2
        node.plane.adopt(replace(node.plane.policy, max_idle=1, idle_backend_s=0.05))
        await eventually(lambda: backend.open_connections == 1, "one is over the new number")
        assert (await one.ask(CHAT)).status == 200
        await eventually(lambda: backend.open_connections == 0, "it is trusted for a moment only")


async def test_breakers_go_by_it(backend: FakeBackend) -> None:
    served = {"one": Served(backend), "two": Served(backend)}
    async with running_node(served=served) as node, client(node) as http:
        node.plane.adopt(replace(node.plane.policy, breaker=BreakerPolicy(max_failures=1)))
        backend.script.append(Behaviour(status=500))
        assert (await http.ask(CHAT)).status == 200
        assert [breaker.ejections for _, breaker in node.routes.balancer.breakers.items()].count(1) == 1
