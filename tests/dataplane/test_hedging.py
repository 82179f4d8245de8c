"""Second copies of late requests: off by default, only before a byte, the loser cancelled.

Counted on the fakes.

Mutants seen to be killed: sent though off, sent for what is not stateless, to a full endpoint, twice, without
budget; the loser left running, its slot or its unit of budget kept; the copy lost when the first one fails.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sidecar.core.hedging import HedgePolicy
from sidecar.dataplane.exchange import Exchange
from tests.fakes.backend import Behaviour, FakeBackend, running_backend
from tests.fakes.dataplane import CHAT, STREAM, Node, Served, TestSwarm, client, eventually, running_node

ON = HedgePolicy(enabled=True, floor_s=0.1, unknown_s=0.1)
HANGS = Behaviour(hang=True)


@contextlib.asynccontextmanager
async def two(
    hedge: HedgePolicy = ON, slots: int = 2
) -> AsyncIterator[tuple[Node, FakeBackend, FakeBackend]]:
    """A host with the same model at two backends; with draws of 0 the first is asked first."""
    async with running_backend() as first, running_backend() as second:
        served = {"a": Served(first, slots=slots), "b": Served(second, slots=slots)}
        async with running_node(served=served, hedge=hedge) as node:
            yield node, first, second


def at_rest(node: Node) -> bool:
    plane = node.plane
    slots = [node.routes.in_flight(key) for key in node.routes.view.own]
    left = plane.active or plane.retrying or plane.hedging.running or any(slots)
    assert not plane.counters.reaped, "given back, not found later"
    return not left


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
async def test_a_late_request_is_answered_by_its_copy_and_the_first_is_cancelled(
    body: dict[str, object],
) -> None:
    async with two() as (node, first, second), client(node) as http:
        first.default = HANGS
        answer = await http.ask(body)
        assert (answer.status, answer.headers["x-swarm-backend"]) == (200, "b")
        assert answer.headers["x-swarm-attempts"] == "2"
        assert answer.events[-1:] == (["[DONE]"] if body is STREAM else [])
        await eventually(lambda: first.asked[0].disconnected_s, "the loser is cancelled")
        assert (len(first.asked), len(second.asked), node.plane.counters.hedges) == (1, 1, 1)
        assert first.asked[0].body == second.asked[0].body
        await eventually(lambda: at_rest(node), "slots and budget are free again")
        assert node.plane.counters.retries == 0


async def test_the_first_may_still_win_and_the_copy_is_cancelled() -> None:
    async with two() as (node, first, second), client(node) as http:
        first.default = Behaviour(delay_s=0.6)
        second.default = HANGS
        answer = await http.ask(CHAT)
        assert (answer.status, answer.headers["x-swarm-backend"]) == (200, "a")
        await eventually(lambda: second.asked[0].disconnected_s, "the copy is cancelled")
        await eventually(lambda: at_rest(node), "slots and budget are free again")
        assert (len(first.asked), len(second.asked)) == (1, 1)


async def test_it_is_off_unless_wanted() -> None:
    async with two(HedgePolicy(floor_s=0.1, unknown_s=0.1)) as (node, first, second), client(node) as http:
        first.default = Behaviour(delay_s=0.5)
        assert (await http.ask(CHAT)).headers["x-swarm-backend"] == "a"
        assert (node.plane.counters.hedges, len(second.asked)) == (0, 0)


async def test_what_leaves_something_behind_is_sent_once() -> None:
    async with two() as (node, first, second), client(node) as http:
        first.default = Behaviour(delay_s=0.5)
        assert (await http.ask(CHAT, "/v1/images/generations")).status == 200
        assert (await http.ask({**CHAT, "store": True})).status == 200
        assert (node.plane.counters.hedges, len(second.asked)) == (0, 0)


async def test_whoever_wants_a_key_may_cost_money() -> None:
    async with two() as (node, first, second), client(node) as http:
        key = ((b"authorization", b"Bearer x"),)
        node.own({"a": Served(first, slots=2), "b": Served(second, slots=2, headers=key)})
        first.default = Behaviour(delay_s=0.5)
        assert (await http.ask(CHAT)).headers["x-swarm-backend"] == "a"
        assert (node.plane.counters.hedges, len(second.asked)) == (0, 0)


async def test_no_copy_is_sent_where_it_would_wait() -> None:
    async with two(slots=1) as (node, first, second), client(node) as busy, client(node) as http:
        first.default = second.default = Behaviour(delay_s=0.6)
        # At once: alone for as long as a copy is waited for, the first would get one.
        busy.post(CHAT, x_fake="delay_s=20")
        http.post(CHAT)
        await eventually(lambda: first.running == second.running == 1, "both are busy")
        assert (await http.answer()).status == 200
        assert (node.plane.counters.hedges, len(first.asked), len(second.asked)) == (0, 1, 1)


async def test_at_most_one_copy_at_a_time_while_few_requests_run() -> None:
    """A twentieth of what is active, one at least. Kills: the share or the budget ignored."""
    async with two(slots=8) as (node, first, second), contextlib.AsyncExitStack() as stack:
        first.default = second.default = HANGS
        many = [await stack.enter_async_context(client(node)) for _ in range(5)]
        for one in many:
            one.post(CHAT)
        await eventually(lambda: node.plane.hedging.running == 1, "one copy runs")
        await asyncio.sleep(0.3)
        assert (node.plane.hedging.running, node.plane.counters.hedges, node.plane.retrying) == (1, 1, 1)
        assert len(first.asked) + len(second.asked) == 6
        for one in many:
            one.close()
        await eventually(lambda: first.running == second.running == 0, "clients that leave take both along")
        await eventually(lambda: at_rest(node), "nothing is left")


@pytest.mark.parametrize("how", [Behaviour(reset_at=0, delay_s=0.5), Behaviour(status=500, delay_s=0.5)])
async def test_when_the_first_fails_its_copy_is_the_attempt(how: Behaviour) -> None:
    """Nothing is sent a third time."""
    async with two() as (node, first, second), client(node) as http:
        first.default = how
        second.default = Behaviour(delay_s=1.0)
        answer = await http.ask(CHAT)
        assert (answer.status, answer.headers["x-swarm-backend"]) == (200, "b")
        assert answer.headers["x-swarm-attempts"] == "2"
        assert (len(first.asked), len(second.asked), node.plane.counters.retries) == (1, 1, 0)
        await eventually(lambda: at_rest(node), "slots and budget are free again")


@pytest.mark.parametrize(
    "how",
    [
        Behaviour(reset_at=0),
        Behaviour(status=500),
        Behaviour(status=429, retry_after="3"),
        Behaviour(status=400),
        Behaviour(close_at=30),
    ],
    ids=["reset", "500", "429", "400", "cut"],
)
async def test_a_copy_that_fails_is_forgotten(how: Behaviour) -> None:
    async with two() as (node, first, second), client(node) as http:
        first.default = Behaviour(delay_s=0.7)
        second.default = how
        answer = await http.ask(CHAT)
        assert (answer.status, answer.headers["x-swarm-backend"]) == (200, "a")
        assert (len(first.asked), len(second.asked), node.plane.counters.hedges) == (1, 1, 1)
        assert bool(node.routes.overlay.full) is (how.status == 429)
        await eventually(lambda: at_rest(node), "slots and budget are free again")


@pytest.mark.parametrize(
    "how",
    [
        Behaviour(status=400, delay_s=0.5, size=1_500_000, hang_at=1_300_000),
        Behaviour(comments=9_000, delay_s=0.5, hang_at=140_000),
    ],
    ids=["error", "comments"],
)
async def test_behind_the_beginning_of_an_answer_comes_no_other(how: Behaviour) -> None:
    """An error too large to hold, and comments without end: the client has some of it already."""
    async with two() as (node, first, second), client(node) as http:
        first.default, second.default = how, Behaviour(delay_s=2.0)
        http.post(STREAM)
        assert (await http.head())[0] == how.status
        assert node.plane.counters.hedges == 1
        await eventually(lambda: second.asked[0].disconnected_s, "the copy is cancelled")
        (exchange,) = node.plane.active
        assert isinstance(exchange, Exchange)
        assert exchange.describe(0.0)["attempts"] == 1, "the first one answers"
        http.close()
        await eventually(lambda: at_rest(node), "nothing is left")


async def test_a_request_is_copied_once() -> None:
    """Though the copy failed and a third endpoint is idle."""
    async with two() as (node, first, second), running_backend() as third, client(node) as http:
        node.own({n: Served(b, slots=2) for n, b in (("a", first), ("b", second), ("c", third))})
        first.default = Behaviour(delay_s=0.8)
        second.default = Behaviour(status=500)
        assert (await http.ask(CHAT)).headers["x-swarm-backend"] == "a"
        assert [len(one.asked) for one in (first, second, third)] == [1, 1, 0]


async def test_a_copy_that_cannot_connect_is_forgotten() -> None:
    async with running_backend() as first, running_node(hedge=ON) as node, client(node) as http:
        node.own({"a": Served(first, slots=2), "b": Served(1, slots=2)})
        first.default = Behaviour(delay_s=0.6)
        assert (await http.ask(CHAT)).headers["x-swarm-backend"] == "a"
        assert node.backends.failures == ["b"]
        await eventually(lambda: at_rest(node), "slots and budget are free again")


async def test_after_both_failed_the_third_is_asked() -> None:
    async with two() as (node, first, second), running_backend() as third, client(node) as http:
        node.own({n: Served(b, slots=2) for n, b in (("a", first), ("b", second), ("c", third))})
        first.default = Behaviour(reset_at=0, delay_s=0.4)
        second.default = Behaviour(reset_at=0, delay_s=0.8)
        answer = await http.ask(CHAT)
        assert (answer.status, answer.headers["x-swarm-backend"]) == (200, "c")
        assert [len(one.asked) for one in (first, second, third)] == [1, 1, 1]
        await eventually(lambda: at_rest(node), "slots and budget are free again")


async def test_across_hops_the_owner_of_the_loser_stops_too(swarm: TestSwarm) -> None:
    async with (
        running_backend() as first,
        running_backend() as second,
        running_node("a", swarm=swarm, hedge=replace(ON, floor_s=0.8, unknown_s=0.8)) as a,
        running_node("b", {"one": Served(first, slots=2)}, swarm=swarm) as b,
        running_node("c", {"one": Served(second, slots=2)}, swarm=swarm) as c,
        client(a) as http,
    ):
        swarm.connect()
        for node in (b, c):
            a.routes.set_load(next(iter(node.routes.view.own)), {}, 0, 2, a.plane.clock_s())
        first.default = second.default = HANGS
        http.post(CHAT)
        await eventually(lambda: first.asked or second.asked, "one owner is asked")
        loser, winner = (first, second) if first.asked else (second, first)
        winner.default = Behaviour()
        answer = await http.answer()
        assert (answer.status, answer.headers["x-swarm-node"]) == (200, "c" if winner is second else "b")
        await eventually(lambda: loser.asked[0].disconnected_s, "cancelled behind its owner too")
        assert (len(first.asked), len(second.asked), a.plane.counters.hedges) == (1, 1, 1)
        await eventually(lambda: all(map(at_rest, (a, b, c))), "nothing is left anywhere")


async def test_a_copy_that_sends_comments_without_an_end_is_given_up() -> None:
    async with two() as (node, first, second), client(node) as http:
        first.default = Behaviour(delay_s=3.0)
        second.default = Behaviour(comments=20_000, hang_at=140_000)
        http.post(STREAM)
        await eventually(lambda: second.asked and second.asked[0].disconnected_s, "it is cut off")
        assert not first.asked[0].answered_s, "not because the first one answered"
        assert (await http.head())[0] == 200
        assert (len(first.asked), len(second.asked), node.plane.counters.hedges) == (1, 1, 1)
        http.close()
        await eventually(lambda: at_rest(node), "nothing is left")
