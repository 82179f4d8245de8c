"""Slots of own endpoints: who waits, in which order, who is refused, and that no slot is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from sidecar.core.queue_values import ClassPolicy, QueuePolicy
from sidecar.core.slots import Settling
from sidecar.dataplane.owner_line import Line
from sidecar.dataplane.owner_queue import OwnerQueues
from swarmplane.ids import BackendName, EndpointId, endpoint_id
from tests.fakes.backend import Behaviour, FakeBackend, running_backend
from tests.fakes.dataplane import (
    CHAT,
    STREAM,
    Answer,
    Node,
    Served,
    TestSwarm,
    client,
    eventually,
    running_node,
)

LANE = ClassPolicy(256, 1 << 20, 60.0)
QUEUE = QueuePolicy(LANE, LANE, LANE, preempt=False, assumed_service_s=0.05)
QUICK_SETTLING = Settling(notices_s=0.05, prefill_s=0.05)
SLOW = "delay_s=0.3"


def own(node: Node, name: str = "one") -> EndpointId:
    return endpoint_id(node.id, BackendName(name), "m1")


def line(node: Node) -> Line:
    return node.plane.owner.lines[own(node)]


def idle(node: Node) -> bool:
    """Whether nothing holds or wants a slot, by every count there is."""
    owner: OwnerQueues = node.plane.owner
    return (
        not node.plane.active
        and not len(node.plane.moving)
        and all(
            not one.places and not one.freely and not one.waiting and not one.queue.waiting
            for one in owner.lines.values()
        )
        and all(one.queue.used(key) == 0 for key, one in owner.lines.items())
        and all(node.routes.in_flight(key) == 0 for key in node.routes.view.own)
    )


@contextlib.asynccontextmanager
async def limited(backend: FakeBackend, slots: int = 1, **policy: Any) -> AsyncIterator[Node]:
    changes = {"queue": QUEUE, "settling": QUICK_SETTLING, **policy}
    async with running_node(served={"one": Served(backend, slots=slots)}, **changes) as node:
        yield node
        await eventually(lambda: idle(node), "every slot is free again")
        assert node.plane.counters.reaped == 0


async def ask(node: Node, order: list[str], name: str, **headers: str) -> Answer:
    async with client(node) as http:
        answer = await http.ask(CHAT, **headers)
        order.append(name)
        return answer


async def ask_all(node: Node, count: int) -> list[Answer]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(node, [], str(n))) for n in range(count)]
    return [task.result() for task in tasks]


async def asked(backend: FakeBackend, count: int) -> None:
    await eventually(lambda: len(backend.asked) >= count, f"{count} requests arrived")


async def test_no_more_run_than_there_are_slots(backend: FakeBackend) -> None:
    backend.default = Behaviour(delay_s=0.02)
    async with limited(backend, slots=3) as node:
        answers = await ask_all(node, 20)
    assert [answer.status for answer in answers] == [200] * 20
    assert backend.most_running == 3
    assert len(backend.asked) == 20


async def test_without_known_slots_nobody_waits(backend: FakeBackend) -> None:
    backend.default = Behaviour(delay_s=0.2)
    async with running_node(served={"one": Served(backend)}) as node:
        await ask_all(node, 12)
        assert not node.plane.owner.lines
    assert backend.most_running == 12


async def test_the_more_urgent_class_goes_first(backend: FakeBackend) -> None:
    async with limited(backend) as node, asyncio.TaskGroup() as group:
        order: list[str] = []
        group.create_task(ask(node, order, "first", x_fake=SLOW))
        await asked(backend, 1)
        for number, name in enumerate(("bulk", "default", "interactive"), 1):
            group.create_task(ask(node, order, name, x_swarm_priority=name))
            await eventually(lambda n=number: line(node).queue.waiting == n, "it waits")  # type: ignore[misc]
        assert node.routes.load_report()[0].queued == 3
    assert order == ["first", "interactive", "default", "bulk"]


async def test_a_class_that_waited_too_long_gets_its_share(backend: FakeBackend) -> None:
    policy = replace(QUEUE, bulk=replace(LANE, starve_s=0.0), overdue_every=3)
    async with limited(backend, queue=policy) as node, asyncio.TaskGroup() as group:
        order: list[str] = []
        group.create_task(ask(node, order, "first", x_fake=SLOW))
        await asked(backend, 1)
        group.create_task(ask(node, order, "bulk", x_swarm_priority="bulk"))
        await eventually(lambda: line(node).queue.waiting == 1, "it waits")
        for number in range(6):
            group.create_task(ask(node, order, str(number), x_swarm_priority="interactive"))
            await eventually(lambda n=number: line(node).queue.waiting == n + 2, "it waits")  # type: ignore[misc]
    assert order.index("bulk") <= 3, "one of three grants is its own"
    assert len(order) == 8


async def test_a_flood_of_one_sender_does_not_starve_another(swarm: TestSwarm, backend: FakeBackend) -> None:
    async with (
        running_node("a", swarm=swarm) as a,
        running_node("b", swarm=swarm) as b,
        running_node("c", {"one": Served(backend, slots=1)}, swarm=swarm, queue=QUEUE) as c,
    ):
        swarm.connect()
        order: list[str] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(c, order, "first", x_fake=SLOW))
            await asked(backend, 1)
            for number in range(10):
                group.create_task(ask(a, order, f"a{number}", x_fake="delay_s=0.01"))
            await eventually(lambda: line(c).queue.waiting == 10, "the flood waits")
            group.create_task(ask(b, order, "b"))
            await eventually(lambda: line(c).queue.waiting == 11, "the other waits")
        assert order.index("b") <= 3, order
        await eventually(lambda: idle(c), "every slot is free again")


async def test_a_deadline_passes_while_it_waits(backend: FakeBackend) -> None:
    async with limited(backend) as node, asyncio.TaskGroup() as group:
        group.create_task(ask(node, [], "first", x_fake="delay_s=0.6"))
        await asked(backend, 1)
        late = await ask(node, [], "late", x_swarm_timeout_s="0.1")
        assert late.status == 504
        assert late.code == "upstream_timeout"
    assert len(backend.asked) == 1, "the late one was never sent"


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(backend: FakeBackend) -> None:
    small = replace(LANE, length=2)
    async with limited(backend, queue=QueuePolicy(small, small, small)) as node, asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(ask(node, [], str(number), x_fake=SLOW))
            await eventually(lambda n=number: len(node.plane.active) == n + 1, "it is there")  # type: ignore[misc]
        refused = await ask(node, [], "refused")
        assert refused.status == 429
        assert refused.code == "saturated"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert node.routes.resolve("m1", time.monotonic()).state == "ready", "our own queue is never held"
    assert len(backend.asked) == 3


async def test_bodies_that_wait_are_bounded_in_bytes(backend: FakeBackend) -> None:
    small = replace(LANE, size_bytes=3000)
    big = {**CHAT, "pad": "x" * 2000}
    async with limited(backend, queue=QueuePolicy(small, small, small)) as node, asyncio.TaskGroup() as group:
        group.create_task(ask(node, [], "first", x_fake=SLOW))
        await asked(backend, 1)
        async with client(node) as one, client(node) as two:
            one.post(big)
            await eventually(lambda: line(node).queue.waiting == 1, "it waits")
            assert (await two.ask(big)).status == 429
            assert (await one.answer()).status == 200


async def test_a_more_urgent_request_takes_the_slot_of_one_that_has_not_sent_a_byte(
    backend: FakeBackend,
) -> None:
    async with limited(backend, queue=replace(QUEUE, preempt=True)) as node, asyncio.TaskGroup() as group:
        order: list[str] = []
        group.create_task(ask(node, order, "bulk", x_swarm_priority="bulk", x_fake="delay_s=0.5"))
        await asked(backend, 1)
        group.create_task(ask(node, order, "interactive", x_swarm_priority="interactive"))
    assert order == ["interactive", "bulk"]
    assert backend.most_running == 1
    assert len(backend.asked) == 3, "the preempted one was sent again"


async def test_who_was_preempted_and_leaves_is_forgotten(backend: FakeBackend) -> None:
    """It ran at once and waited only then. Kills: only those that waited at first looked for at the end."""
    async with running_backend(default=Behaviour(delay_s=20)) as other:
        backend.default = other.default
        served = {"one": Served(backend, slots=1), "two": Served(other, slots=1)}
        policy = replace(QUEUE, preempt=True)
        async with (
            running_node(served=served, queue=policy, settling=QUICK_SETTLING) as node,
            client(node) as one,
            client(node) as two,
            client(node) as urgent,
        ):
            for bulk in (one, two):
                bulk.post(CHAT, x_swarm_priority="bulk")
            await eventually(lambda: backend.running == other.running == 1, "both run")
            urgent.post(CHAT, x_swarm_priority="interactive")
            await eventually(lambda: len(node.plane.moving) == 1, "one of them waits")
            (waiting,) = node.plane.moving._waiting
            queued = waiting.queued_attempt(0, time.monotonic())
            assert queued is not None
            assert queued.since_s <= time.monotonic(), "and may move"
            for http in (one, two, urgent):
                http.close()
            await eventually(lambda: not node.plane.active, "all left")
            assert not len(node.plane.moving)


async def test_a_stream_that_began_is_never_preempted(backend: FakeBackend) -> None:
    async with limited(backend, queue=replace(QUEUE, preempt=True)) as node, client(node) as bulk:
        bulk.post(STREAM, x_swarm_priority="bulk", x_fake="chunks=10; interval_s=0.03")
        await bulk.head()
        urgent = await ask(node, [], "interactive", x_swarm_priority="interactive")
        assert urgent.status == 200
    assert len(backend.asked) == 2
    assert backend.asked[0].disconnected_s is None


async def test_a_backend_that_says_it_is_full_is_limited_for_a_while(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend)}, queue=QUEUE) as node:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(ask(node, [], str(number), x_fake="delay_s=0.5"))
            await asked(backend, 3)
            refused = await ask(node, [], "refused", x_fake="status=429")
            assert refused.status == 429
        assert line(node).limits[own(node)] == 3
        await eventually(lambda: node.routes.resolve("m1", time.monotonic()).candidates, "asked again")
        backend.most_running = 0
        backend.default = Behaviour(delay_s=0.05)
        answers = await ask_all(node, 9)
        assert {answer.status for answer in answers} == {200}
        assert backend.most_running == 3
        await eventually(lambda: idle(node), "every slot is free again")


async def test_waiting_requests_run_when_a_limit_falls_away(backend: FakeBackend) -> None:
    async with limited(backend) as node, asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(ask(node, [], str(number), x_fake=SLOW))
        await eventually(lambda: line(node).queue.waiting == 2, "two wait")
        node.own({"one": Served(backend, slots=0)})
        await asked(backend, 3)
        assert backend.running == 3


async def test_waiting_requests_are_refused_when_their_endpoint_goes(backend: FakeBackend) -> None:
    async with limited(backend) as node, client(node) as one, client(node) as two:
        one.post(CHAT, x_fake=SLOW)
        await asked(backend, 1)
        two.post(CHAT)
        await eventually(lambda: line(node).queue.waiting == 1, "it waits")
        node.own({})
        assert (await two.answer()).status == 429
        assert (await one.answer()).status == 200
        await eventually(lambda: not node.plane.active, "all is over")


PHASES = {
    "waiting": ("delay_s=30", CHAT, True),
    "running": ("delay_s=30", CHAT, False),
    "hanging": ("hang", CHAT, False),
    "streaming": ("chunks=1000; interval_s=0.05", STREAM, False),
    "body": ("size=100000; pieces=1000; interval_s=0.05", CHAT, False),
    "beginning": ("", CHAT, False),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("hop", [False, True], ids=["here", "over-the-hop"])
async def test_abandoning_leaks_nothing(
    swarm: TestSwarm, backend: FakeBackend, phase: str, *, hop: bool
) -> None:
    fake, body, behind = PHASES[phase]
    serving = Served(backend, slots=1)
    changes: dict[str, Any] = {"queue": QUEUE, "settling": QUICK_SETTLING}
    async with (
        running_node("a", swarm=swarm, **changes) as a,
        running_node("b", {"one": serving}, swarm=swarm, **changes) as b,
    ):
        swarm.connect()
        entry = a if hop else b
        async with client(entry) as first, client(entry) as http:
            if behind:
                first.post(CHAT, x_fake="delay_s=30")
                await asked(backend, 1)
            http.post(body, x_fake=fake)
            if behind:
                await eventually(lambda: line(b).queue.waiting == 1, "it waits")
            elif phase == "beginning":
                await eventually(lambda: entry.plane.counters.requests, "it began")
            else:
                await asked(backend, 1)
            if phase in {"streaming", "body"}:
                await asyncio.sleep(0.1)
            http.abort()
            first.abort()
            await eventually(lambda: idle(a) and idle(b), f"nothing is left of {phase}")
            assert b.plane.counters.reaped == 0
        assert backend.running == 0
        async with client(entry) as http:
            assert (await http.ask(CHAT)).status == 200, "the slot serves again"
        assert a.routes.in_flight(own(b)) == 0


async def test_an_abandoned_slot_is_free_only_when_the_backend_is_idle_again(backend: FakeBackend) -> None:
    settling = Settling(notices_s=1.0, prefill_s=1.0)
    async with limited(backend, settling=settling) as node, client(node) as http:
        http.post(CHAT, x_fake="hang")
        await asked(backend, 1)
        before_s = time.monotonic()
        http.abort()
        await eventually(lambda: not node.plane.active, "it left")
        assert node.routes.in_flight(own(node)) == 1
        assert (await ask(node, [], "next")).status == 200
        assert time.monotonic() - before_s >= 1.0


async def test_what_a_defect_leaves_behind_is_reaped(backend: FakeBackend) -> None:
    """A request that ends without giving its slot back, and one whose connection vanishes unnoticed."""
    async with running_node(served={"one": Served(backend, slots=2)}, queue=QUEUE) as node:
        async with client(node) as lost, client(node) as deaf:
            lost.post(CHAT, x_fake="hang")
            deaf.post(CHAT, x_fake="hang")
            await asked(backend, 2)
            one, two = node.plane.active
            one._place = None
            node.plane.forget(two.connection)
            one.connection.transport.abort()
            await eventually(lambda: len(node.plane.active) <= 1, "its client left")
            await eventually(lambda: idle(node), "the slot and the request are reaped", within_s=20)
        assert node.plane.counters.reaped >= 1
        assert (await ask(node, [], "next")).status == 200
