"""Queues seen from the sender: refusals, moves to a node that became idle, and silence of one that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from sidecar.core.deadlines import FirstBytePolicy
from sidecar.core.queue_values import ClassPolicy, QueuePolicy
from sidecar.core.slots import Settling
from swarmplane.ids import BackendName, EndpointId, endpoint_id
from tests.fakes.backend import Behaviour, FakeBackend, running_backend
from tests.fakes.dataplane import (
    CHAT,
    Client,
    Node,
    Served,
    TestSwarm,
    client,
    eventually,
    running_node,
)

LANE = ClassPolicy(256, 1 << 20, 60.0)
QUEUE = QueuePolicy(LANE, LANE, LANE, preempt=False, assumed_service_s=0.5)
NO_ROOM = replace(LANE, length=0)
NO_QUEUE = QueuePolicy(NO_ROOM, NO_ROOM, NO_ROOM)
SETTLING = Settling(notices_s=0.05, prefill_s=0.05)
PATIENT = FirstBytePolicy()
IMPATIENT = FirstBytePolicy(floor_s=0.3, unknown_s=0.3)


def own(node: Node) -> EndpointId:
    return endpoint_id(node.id, BackendName("one"), "m1")


@contextlib.asynccontextmanager
async def owners(
    swarm: TestSwarm,
    names: str,
    *,
    slots: int = 1,
    entry: bool = True,
    first_byte: FirstBytePolicy = PATIENT,
    **changes: Any,
) -> AsyncIterator[tuple[list[Node], list[FakeBackend]]]:
    """Node ``a`` without a model (``first_byte`` is its), then an owner of ``m1`` for each of ``names``."""
    policy = {"queue": QUEUE, "settling": SETTLING, **changes}
    async with contextlib.AsyncExitStack() as stack:
        nodes, backends = [], []
        if entry:
            mine = {**policy, "first_byte": first_byte}
            nodes.append(await stack.enter_async_context(running_node("a", swarm=swarm, **mine)))
        for name in names:
            backend = await stack.enter_async_context(running_backend())
            served = {"one": Served(backend, slots=slots)}
            nodes.append(await stack.enter_async_context(running_node(name, served, swarm=swarm, **policy)))
            backends.append(backend)
        swarm.connect()
        yield nodes, backends
        await eventually(lambda: not any(node.plane.active for node in nodes), "all is over")
        for node in nodes:
            await eventually(lambda node=node: every_slot_is_free(node), "every slot is free")  # type: ignore[misc]
            assert not len(node.plane.moving)
            assert node.plane.counters.reaped == 0
            for key in swarm_endpoints(nodes):
                assert node.routes.in_flight(key) == 0, "every count is even"


def every_slot_is_free(node: Node) -> bool:
    """A place that was cut off, with a lease or running freely, is free when its backend had a moment."""
    return not any(line.places or line.freely for line in node.plane.owner.lines.values())


def swarm_endpoints(nodes: list[Node]) -> list[EndpointId]:
    return [own(node) for node in nodes if node.served]


async def occupy(backend: FakeBackend, http: Client, how: str = "delay_s=20") -> None:
    """A request of the owner's own client holds its slot."""
    before = len(backend.asked)
    http.post(CHAT, x_fake=how)
    await eventually(lambda: len(backend.asked) > before, "it runs")


async def test_a_full_owner_is_passed_over(swarm: TestSwarm) -> None:
    async with owners(swarm, "bc", queue=NO_QUEUE) as ([a, b, c], [at_b, at_c]):
        async with client(b) as busy, client(a) as http:
            await occupy(at_b, busy)
            for _ in range(4):
                answer = await http.ask(CHAT)
                assert answer.status == 200
                assert answer.headers["x-swarm-node"] == "c"
            busy.abort()
        assert b.plane.counters.hops_in <= 1, "asked once at most: its refusal is remembered"
        assert c.plane.counters.hops_in == 4
        assert len(at_b.asked) == 1
        assert len(at_c.asked) == 4


async def test_a_full_swarm_says_so_at_once_and_asks_three_owners_at_most(swarm: TestSwarm) -> None:
    async with owners(swarm, "bcdef", queue=NO_QUEUE, connect_timeout_s=20.0) as ([a, *others], backends):
        async with contextlib.AsyncExitStack() as stack:
            for node, backend in zip(others, backends, strict=True):
                busy = await stack.enter_async_context(client(node))
                await occupy(backend, busy)
            http = await stack.enter_async_context(client(a))
            answer = await http.ask(CHAT)
            assert answer.status == 429
            assert answer.code == "saturated"
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert all(backend.running for backend in backends), "at once: nobody waited for a slot"
            assert sum(node.plane.counters.hops_in for node in others) == 3
        assert all(len(backend.asked) == 1 for backend in backends)


async def test_a_peer_is_told_where_its_request_stands(swarm: TestSwarm) -> None:
    async with owners(swarm, "b") as ([a, b], [at_b]):
        async with client(b) as busy, client(a) as one, client(a) as two:
            await occupy(at_b, busy, "delay_s=0.5")
            one.post(CHAT, x_swarm_priority="bulk")
            two.post(CHAT)
            line = b.plane.owner.lines[own(b)]
            await eventually(lambda: line.queue.waiting == 2, "both wait")
            assert {place.ahead for place in line.waiting.values()} == {0, 1}
            load = b.routes.load_of(own(b))
            assert load is not None
            assert (load.queued, dict(load.in_flight_by_origin)) == (2, {b.id: 1})
            await eventually(lambda: not a.routes.in_flight(own(b)), "queued ones count as queued")
            assert {(await http.answer()).status for http in (busy, one, two)} == {200}
        assert at_b.most_running == 1


async def test_a_queued_request_moves_to_the_own_endpoint_that_became_idle(swarm: TestSwarm) -> None:
    async with owners(swarm, "ab", entry=False) as ([a, b], [at_a, at_b]):
        async with client(b) as at_other, client(a) as first, client(a) as http:
            await occupy(at_b, at_other)
            await occupy(at_a, first, "delay_s=1.0")
            http.post(CHAT, x_swarm_strategy="least_load")
            await eventually(lambda: len(a.plane.moving), "it waits somewhere")
            answer = await http.answer()
            assert answer.status == 200
            assert answer.headers["x-swarm-node"] == "a"
            assert (await first.answer()).status == 200
            at_other.abort()
        assert (len(at_a.asked), len(at_b.asked)) == (2, 1), "what waited at the other never ran there"


async def test_a_queued_request_moves_to_another_node_and_the_running_one_stays(swarm: TestSwarm) -> None:
    async with owners(swarm, "bc") as ([a, b, c], [at_b, at_c]):
        async with client(b) as busy, client(c) as other, client(a) as http, client(a) as running:
            await occupy(at_b, busy, "delay_s=4")
            await occupy(at_c, other, "delay_s=1")
            http.post(CHAT)
            await eventually(lambda: len(a.plane.moving), "it is queued")
            waits_at = next(node for node in (b, c) if node.plane.counters.hops_in)
            goes_to, at_goes = (c, at_c) if waits_at is b else (b, at_b)
            assert (await other.answer()).status == 200
            if waits_at is b:
                # As the control plane's digest tells it, some time later.
                await asyncio.sleep(0.4)
                a.routes.set_load(own(c), {}, 0, 1, time.monotonic())
            answer = await http.answer()
            assert answer.status == 200
            assert answer.headers["x-swarm-node"] == "c"
            if waits_at is b:
                assert len(at_goes.asked) == 2
                assert goes_to.plane.counters.hops_in == 1
            running.post(CHAT, x_fake="delay_s=1.0")
            await eventually(lambda: len(at_c.asked) == 3, "it runs")
            a.routes.set_load(own(b), {}, 0, 1, time.monotonic())
            assert (await running.answer()).headers["x-swarm-node"] == "c"
            busy.abort()
        assert len(at_b.asked) == 1, "a running request is left alone"


async def test_time_in_the_queue_is_no_silence(swarm: TestSwarm) -> None:
    """The first-byte clock runs while the model does: queued ones and slow ones are not sent twice."""
    async with owners(swarm, "bc", first_byte=IMPATIENT) as ([a, b, c], [at_b, at_c]):
        async with client(b) as busy, client(c) as other, client(a) as http:
            await occupy(at_b, busy, "delay_s=1.2")
            await occupy(at_c, other, "delay_s=1.2")
            answer = await http.ask(CHAT)
            assert answer.status == 200
            assert answer.headers["x-swarm-attempts"] == "1"
            await busy.answer()
            await other.answer()
        assert len(at_b.asked) + len(at_c.asked) == 3
        assert a.plane.counters.retries == 0


async def test_beside_an_idle_node_every_request_to_one_that_hangs_is_answered(swarm: TestSwarm) -> None:
    async with owners(swarm, "bc", slots=4, first_byte=IMPATIENT) as ([a, b, _c], [at_b, at_c]):
        at_b.default = Behaviour(hang=True)
        at_c.default = Behaviour(delay_s=0.02)
        worst: list[float] = []

        async def one() -> None:
            async with client(a) as http:
                for _ in range(5):
                    began_s = time.monotonic()
                    assert (await http.ask(CHAT)).status == 200
                    worst.append(time.monotonic() - began_s)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(one())
        assert len(worst) == 40
        print(f"worst {max(worst):.2f} s, hung {len(at_b.asked)}, answered {len(at_c.asked)}")  # noqa: T201
        assert max(worst) < 5.0, "the adaptive deadline of 0.3 s and the usual time; the machine is shared"
        assert len(at_c.asked) == 40, "answered once each"
        assert b.plane.counters.hops_in < 40


@pytest.mark.parametrize("slots", [0, 4], ids=["slots-unknown", "slots-taken"])
async def test_a_request_does_not_stay_where_nothing_moves_because_others_are_busy(
    swarm: TestSwarm, slots: int
) -> None:
    """The other node serves ten clients of its own without a pause; it has no free slot, but it goes on."""
    async with owners(swarm, "bc", slots=slots, first_byte=IMPATIENT) as ([a, _b, c], [at_b, at_c]):
        at_b.default, at_c.default = Behaviour(hang=True), Behaviour(delay_s=0.05)
        left = 8

        async def of_its_own() -> None:
            async with client(c) as http:
                while left:
                    assert (await http.ask(CHAT, x_swarm_local_only="1")).status == 200
                    # As the control plane's digests tell it.
                    a.routes.set_load(own(c), {c.id: slots or 10}, 6 if slots else 0, slots, time.monotonic())

        async def one() -> None:
            nonlocal left
            async with client(a) as http:
                assert (await http.ask(CHAT)).status == 200
            left -= 1

        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(of_its_own())
            await eventually(lambda: at_c.running >= 4, "it is busy")
            async with asyncio.timeout(20), asyncio.TaskGroup() as asking:
                for _ in range(left):
                    asking.create_task(one())
        assert at_b.asked, "some met the one that hangs"
        assert a.plane.counters.attempts == 8 + len(at_b.asked), "each ran once more, elsewhere"


async def test_a_moved_request_keeps_its_age(swarm: TestSwarm) -> None:
    async with owners(swarm, "bc") as ([a, b, c], [at_b, at_c]):
        async with client(b) as busy, client(c) as other, client(c) as later, client(a) as http:
            await occupy(at_b, busy)
            await occupy(at_c, other, "delay_s=2")
            http.post(CHAT)
            await eventually(lambda: len(a.plane.moving), "it is queued")
            later.post(CHAT, x_swarm_local_only="1")
            line = c.plane.owner.lines[own(c)]
            await eventually(lambda: line.queue.waiting, "the later one waits")
            if not b.plane.counters.hops_in:
                pytest.skip("it waits there already")
            # Believed free, and taken by the time it comes.
            await asyncio.sleep(0.4)
            a.routes.set_load(own(c), {}, 0, 1, time.monotonic())
            await eventually(lambda: line.queue.waiting == 2, "it moved")
            assert [place.ahead for place in line.waiting.values()] == [1, 0], "the older one goes first"
            assert [(await one.answer()).status for one in (other, http, later)] == [200] * 3
            busy.abort()
        assert len(at_b.asked) == 1


async def test_an_owner_that_said_queued_and_then_nothing_more_is_left(swarm: TestSwarm) -> None:
    """A frozen process keeps its connections: only its silence tells."""
    async with owners(swarm, "bc", entry=False, phase_after_s=0.1) as ([b, c], [at_b, at_c]):
        b.plane.policy = replace(b.plane.policy, phase_after_s=30.0)
        async with (
            running_node("a", swarm=swarm, stall_timeout_s=1.0) as a,
            client(b) as busy,
            client(c) as other,
            client(a) as http,
        ):
            swarm.connect()
            await occupy(at_b, busy, "delay_s=4")
            await occupy(at_c, other, "delay_s=4")
            http.post(CHAT)
            await eventually(lambda: len(a.plane.moving), "it is queued somewhere")
            answer = await http.answer()
            assert (b.plane.counters.hops_in, c.plane.counters.hops_in) == (1, 1)
            assert answer.status == 200
            assert answer.headers["x-swarm-node"] == "c"
            assert [(await one.answer()).status for one in (busy, other)] == [200] * 2
        assert len(at_b.asked) + len(at_c.asked) == 3, "it ran once"
