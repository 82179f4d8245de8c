"""A request that went through this swarm already is told apart by its ``Via``."""

from __future__ import annotations

import pytest

from tests.fakes.dataplane import CHAT, SWARM, Node, client

Pair = tuple[Node, Node]


@pytest.mark.parametrize(
    "via",
    [
        f"1.1 {SWARM}",
        f"1.1 swarm-{SWARM}",
        f"1.0 fred, 1.1 {SWARM.upper()} (a comment)",
        f"1.1 edge.example:8080, HTTP/1.1 swarm-{SWARM}:11400",
    ],
)
async def test_our_own_name_is_a_loop(pair: Pair, via: str) -> None:
    async with client(pair[0]) as http:
        answer = await http.ask(CHAT, via=via)
        assert (answer.status, answer.code) == (508, "loop")
        assert (await http.ask(CHAT)).status == 200


@pytest.mark.parametrize(
    "via", ["1.1 other", f"1.1 swarm-{SWARM}-staging", f"1.1 x{SWARM}", f"1.1 edge ({SWARM})", "1.1", ",,"]
)
async def test_another_name_is_none(pair: Pair, via: str) -> None:
    async with client(pair[0]) as http:
        assert (await http.ask(CHAT, via=via)).status == 200
