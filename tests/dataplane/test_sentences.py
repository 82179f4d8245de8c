"""What refusals say: true for where they are said, and bounded."""

from __future__ import annotations

import pytest

from tests.fakes.dataplane import CHAT, Node, client

Pair = tuple[Node, Node]


@pytest.mark.parametrize("name", ["x_swarm_local_only", "x_netllm_local_only"])
async def test_a_model_of_other_nodes_is_not_called_unserved(pair: Pair, name: str) -> None:
    async with client(pair[0]) as http:
        answer = await http.ask(CHAT, **{name: "1"})
        assert (answer.status, answer.code) == (503, "no_replica")
        assert "on other nodes only" in answer.json["error"]["message"]


async def test_an_owner_that_lost_a_model_does_not_speak_for_the_swarm(pair: Pair) -> None:
    a, b = pair
    b.own({})
    b.routes.install(a.routes.view.table.__class__(a.routes.view.table.swarm))
    async with client(a) as http:
        answer = await http.ask(CHAT)
        assert answer.status == 503
        assert "no node serves any model" not in answer.body.decode()
        assert "does not exist" not in answer.body.decode()


@pytest.mark.parametrize("headers", [{}, {"x_swarm_local_only": "1"}])
async def test_names_are_echoed_in_part(pair: Pair, headers: dict[str, str]) -> None:
    async with client(pair[0]) as http:
        answer = await http.ask({**CHAT, "model": "n" * 100_000}, **headers)
        assert answer.status == 404
        assert len(answer.body) < 1000


async def test_pins_are_echoed_in_part(pair: Pair) -> None:
    async with client(pair[0]) as http:
        answer = await http.ask(CHAT, x_swarm_node="p" * 10_000)
        assert answer.status == 503
        assert len(answer.body) < 1000
