"""Connections that die while nobody uses them, a thousand times: no request notices, here and on the hop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import CHAT, STREAM, Node, Served, TestSwarm, client, running_node
from tests.fakes.hangups import Hangups, hanging_up

CLIENTS = 25
PAUSES = 40
"""Of each client: a thousand in all."""
LONGEST_PAUSE_S = 0.04
BODIES: tuple[dict[str, Any], ...] = (CHAT, STREAM, {**CHAT, "pad": "x" * 50_000})
"""Less than what crosses a hop only after ``100 Continue``: by that the peer has said that it lives."""
Ways = Callable[[int, Random], Hangups]


def at_once(target: int, _: Random) -> Hangups:
    """As servers do that don't keep connections and don't say so."""
    return Hangups(target, idle_s=lambda: 0.0)


def some_time_idle(target: int, random: Random) -> Hangups:
    """As time-outs do: before, while and after the next request comes."""
    return Hangups(target, idle_s=lambda: random.uniform(0.0, LONGEST_PAUSE_S))


def as_the_next_is_written(target: int, random: Random) -> Hangups:
    """The close and the request pass each other on the wire."""
    return Hangups(target, as_written=lambda: random.random() < 0.5)


WAYS = [at_once, some_time_idle, as_the_next_is_written]


async def a_thousand_pauses(node: Node) -> None:
    """All ask at about the same time and pause for as long, so that nobody uses another one's connection."""
    rounds = asyncio.Barrier(CLIENTS)

    async def one() -> None:
        lengths = Random(CLIENTS)
        async with client(node) as http:
            for number in range(PAUSES):
                await rounds.wait()
                answer = await http.ask(BODIES[number % len(BODIES)])
                assert answer.status == 200, answer.body
                assert answer.whole
                assert answer.headers["x-swarm-attempts"] == "1", "a replay is no attempt"
                assert not answer.events or answer.events[-1] == "[DONE]"
                await asyncio.sleep(lengths.uniform(0.0, LONGEST_PAUSE_S))

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(one())
    counters = node.plane.counters
    assert (counters.retries, counters.broken, counters.moves) == (0, 0, 0)
    assert not node.plane.retrying


def died(how: Hangups, replays: int) -> None:
    """They did die, and where a request was lost with one, it was sent again once."""
    print(f"{how.idle_ends} died idle, {how.written_ends} under a request, {replays} replays")  # noqa: T201
    assert how.idle_ends + how.written_ends >= 100
    assert replays >= how.written_ends


@pytest.mark.parametrize("way", WAYS)
async def test_a_backends_connection_that_died_idle_costs_nothing(backend: FakeBackend, way: Ways) -> None:
    random = Random(7)
    how = way(backend.port, random)
    how.reset = lambda: random.random() < 0.5
    async with hanging_up(how), running_node(served={"one": Served(how.port)}) as node:
        await a_thousand_pauses(node)
        died(how, node.plane.counters.replays)
        assert not node.backends.failures
        assert len(backend.asked) == CLIENTS * PAUSES, "each was served once"
    assert not backend.malformed


@pytest.mark.parametrize("way", WAYS)
async def test_a_peers_connection_that_died_idle_costs_nothing(
    swarm: TestSwarm, backend: FakeBackend, way: Ways
) -> None:
    random = Random(8)
    async with (
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend)}, swarm=swarm) as b,
        hanging_up(way(b.peer_port, random)) as how,
    ):
        how.reset, how.settled = lambda: random.random() < 0.5, 4
        b.peer_port = how.port
        swarm.connect()
        await a_thousand_pauses(a)
        died(how, a.plane.counters.replays)
        assert len(backend.asked) == CLIENTS * PAUSES, "each was served once"


async def test_a_peer_that_closes_idle_connections_itself_costs_nothing(
    swarm: TestSwarm, backend: FakeBackend
) -> None:
    """As ours do after a while; here the while is about as long as the pauses."""
    async with (
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend)}, swarm=swarm, idle_timeout_s=0.02) as b,
    ):
        swarm.connect()
        await a_thousand_pauses(a)
        made = a.plane.counters.upstream_connections
        print(f"{made} connections, {a.plane.counters.replays} replays")  # noqa: T201
        assert made >= 100, "many were closed"
        assert b.plane.counters.hops_in >= CLIENTS * PAUSES
        assert len(backend.asked) == CLIENTS * PAUSES
