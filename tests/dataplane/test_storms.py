"""Storms over sockets: backends that refuse in a millisecond, outages of one of two, and three-fold overload.

Counts and ratios only. Servers sleep in a fixed number of slots, so that what is measured is how well the
queue keeps them busy and not how fast this machine is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from sidecar.core.queue_values import ClassPolicy, QueuePolicy
from sidecar.core.slots import Settling
from tests.fakes.backend import Behaviour, FakeBackend, running_backend
from tests.fakes.dataplane import CHAT, Node, Served, TestSwarm, client, eventually, running_node

REFUSALS = {
    "429": Behaviour(status=429, delay_s=0.001),
    "429-retry-after": Behaviour(status=429, delay_s=0.001, retry_after="1"),
    "503-busy": Behaviour(
        status=503, delay_s=0.001, body='{"error":{"message":"Server busy, please try again later"}}'
    ),
}
OUTAGES = {
    "500": Behaviour(status=500),
    "500-late": Behaviour(status=500, delay_s=0.05),
    "reset": Behaviour(reset_at=0),
    "truncated": Behaviour(close_at=200, size=5000),
    "refused": Behaviour(),
}


@dataclass
class Load:
    """Clients that ask again at once when they were answered."""

    answers: Counter[int] = field(default_factory=Counter)
    most_asked: int = 0
    """Endpoints that one request asked."""
    slowest_s: float = 0.0

    @property
    def requests(self) -> int:
        """All of them."""
        return self.answers.total()

    async def run(
        self, node: Node, clients: int, *, seconds: float, pause_s: float = 0.0, least: int = 0
    ) -> None:
        """For so long, and until ``least`` were answered; who was refused stays away for ``pause_s``."""
        ends_s = time.monotonic() + seconds

        async def one() -> None:
            async with client(node) as http:
                while time.monotonic() < ends_s or self.requests < least:
                    began_s = time.monotonic()
                    answer = await http.ask(CHAT)
                    self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
                    self.answers[answer.status] += 1
                    asked = int(answer.headers.get("x-swarm-attempts", "0"))
                    self.most_asked = max(self.most_asked, asked)
                    if answer.status == 429:
                        await asyncio.sleep(pause_s)

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(one())


@contextlib.asynccontextmanager
async def of_two(
    swarm: TestSwarm, *, hop: bool, slots: int = 0, **policy: Any
) -> AsyncIterator[tuple[Node, FakeBackend, FakeBackend]]:
    """A node that clients talk to, and two backends of its model: its own, or those of two other nodes."""
    async with contextlib.AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(running_backend()) for _ in range(2)]
        if not hop:
            served = {"one": Served(first, slots=slots), "two": Served(second, slots=slots)}
            yield await stack.enter_async_context(running_node("a", served, **policy)), first, second
            return
        a = await stack.enter_async_context(running_node("a", swarm=swarm, **policy))
        for name, backend in (("b", first), ("c", second)):
            served = {"one": Served(backend, slots=slots)}
            await stack.enter_async_context(running_node(name, served, swarm=swarm, **policy))
        swarm.connect(strategy="least_cost")
        yield a, first, second


@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("hop", [False, True], ids=["own-backends", "other-nodes"])
async def test_a_backend_that_refuses_gets_no_more_than_a_healthy_one_gives_back(
    swarm: TestSwarm, how: str, *, hop: bool
) -> None:
    async with of_two(swarm, hop=hop) as (a, refusing, healthy):
        refusing.default, healthy.default = REFUSALS[how], Behaviour(delay_s=0.1)
        load = Load()
        await load.run(a, 16, seconds=0.8, least=64)
        given = load.answers[200]
        print(f"{dict(load.answers)}, refused {len(refusing.asked)} times")  # noqa: T201
        assert set(load.answers) == {200}, "beside a healthy one nobody is refused"
        assert len(healthy.asked) == given
        assert len(refusing.asked) <= given
        assert a.plane.counters.retries == 0, "capacity moves are no retries"


@pytest.mark.parametrize("how", OUTAGES)
@pytest.mark.parametrize("hop", [False, True], ids=["own-backends", "other-nodes"])
async def test_an_outage_of_one_of_two_keeps_to_the_budget(swarm: TestSwarm, how: str, *, hop: bool) -> None:
    async with of_two(swarm, hop=hop) as (a, broken, healthy):
        broken.default, healthy.default = OUTAGES[how], Behaviour(delay_s=0.05)
        if how == "refused":
            await broken.stop()
        load, most = Load(), 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, a.plane.retrying)
                await asyncio.sleep(0.002)

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            await load.run(a, 32, seconds=1.1, least=256)
            watching.cancel()
        asked = a.plane.counters.attempts
        told = f"{asked} attempts, {len(broken.asked)} at the broken one, {most} at once"
        print(f"{dict(load.answers)}, {told}")  # noqa: T201
        assert set(load.answers) == {200}, "beside a healthy one nothing fails"
        assert asked <= 1.2 * load.requests
        assert most <= 0.2 * 32, "the budget: a fifth of what runs"
        assert len(healthy.asked) == load.requests


SLOTS = 8
SERVICE_S = 0.25
LANE = ClassPolicy(16, 1 << 20, 60.0)
SHORT = QueuePolicy(LANE, LANE, LANE, preempt=False, assumed_service_s=SERVICE_S)


def busy_share(backends: Sequence[FakeBackend], begins_s: float, ends_s: float) -> float:
    """Which part of the slots' time was spent on answers, between two times of the wall clock."""
    spent_s = 0.0
    for seen in (seen for backend in backends for seen in backend.asked):
        until_s = min(seen.answered_s or seen.disconnected_s or ends_s, ends_s)
        spent_s += max(until_s - max(seen.at_s, begins_s), 0.0)
    return spent_s / (len(backends) * SLOTS * (ends_s - begins_s))


async def busy_under(
    node: Node, backends: Sequence[FakeBackend], clients: int, *, seconds: float = 1.5
) -> tuple[float, Load]:
    """How busy so many clients keep the slots; the first moments and the last ones don't count."""
    load, begins_s = Load(), time.time() + SERVICE_S
    await load.run(node, clients, seconds=seconds, pause_s=0.5)
    share = busy_share(backends, begins_s, begins_s + seconds - SERVICE_S)
    print(f"{clients} clients: slots busy {share:.1%}, {dict(load.answers)}")  # noqa: T201
    return share, load


@pytest.mark.parametrize("hop", [False, True], ids=["own-backends", "other-nodes"])
async def test_three_times_the_load_takes_nothing_from_the_throughput(swarm: TestSwarm, *, hop: bool) -> None:
    """Slots are as busy as they can be, and nothing that they do is in vain.

    At the peak as many wait as run. Three times the places for running and waiting: two of three clients
    are refused and come again after half a second, earlier than any is told to.
    """
    async with of_two(swarm, hop=hop, slots=SLOTS, queue=SHORT) as (a, *backends):
        for backend in backends:
            backend.default = Behaviour(delay_s=SERVICE_S)
        peak = overloaded = 0.0
        answered = refused = 0
        for _ in range(4):  # A busy machine may be slow for some seconds.
            share, load = await busy_under(a, backends, 4 * SLOTS)
            peak = max(peak, share)
            answered += load.answers[200]
            share, load = await busy_under(a, backends, 18 * SLOTS)
            overloaded = max(overloaded, share)
            answered, refused = answered + load.answers[200], refused + load.answers[429]
            if overloaded >= 0.95 and overloaded >= 0.95 * peak:
                break
        assert overloaded >= 0.95
        assert overloaded >= 0.95 * peak
        assert refused > 0
        assert all(backend.most_running == SLOTS for backend in backends), "never more than it has slots"
        assert sum(len(backend.asked) for backend in backends) == answered, "none is begun and thrown away"


NO_LANE = replace(LANE, length=0)
FULL = QueuePolicy(NO_LANE, NO_LANE, NO_LANE)
SETTLING = Settling(notices_s=0.05, prefill_s=0.05)


async def test_a_full_swarm_refuses_a_storm_at_once_and_serves_it_when_it_can(swarm: TestSwarm) -> None:
    """Five owners with one slot each, all taken; then they are free, and everybody is served."""
    async with contextlib.AsyncExitStack() as stack:
        a = await stack.enter_async_context(running_node("a", swarm=swarm, queue=FULL, settling=SETTLING))
        owners, backends, holders = [], [], []
        for name in "bcdef":
            backend = await stack.enter_async_context(running_backend())
            served = {"one": Served(backend, slots=1)}
            owners.append(
                await stack.enter_async_context(
                    running_node(name, served, swarm=swarm, queue=FULL, settling=SETTLING)
                )
            )
            holders.append(await stack.enter_async_context(client(owners[-1])))
            backends.append(backend)
        swarm.connect(strategy="least_cost")
        for holder, backend in zip(holders, backends, strict=True):
            holder.post(CHAT, x_fake="delay_s=20")
            await eventually(lambda backend=backend: backend.asked, "its slot is taken")  # type: ignore[misc]

        load = Load()
        await load.run(a, 24, seconds=1.0, pause_s=0.02)
        asked = sum(owner.plane.counters.hops_in for owner in owners)
        told = f"{asked} owners asked, {load.most_asked} by one at most, {load.slowest_s:.2f} s"
        print(f"full: {dict(load.answers)}, {told}")  # noqa: T201
        assert set(load.answers) == {429}
        assert load.most_asked <= 3
        assert asked <= load.requests, "an owner that said so a moment ago is not asked again"
        assert load.slowest_s < 5.0, "nobody waits for what can't be"
        assert all(len(backend.asked) == 1 for backend in backends)

        for holder in holders:
            holder.abort()
        for backend in backends:
            backend.default = Behaviour(delay_s=0.02)
        left = 48

        async def until_served() -> None:
            nonlocal left
            async with client(a) as http:
                for _ in range(300):
                    if (await http.ask(CHAT)).status == 200:
                        left -= 1
                        return
                    await asyncio.sleep(0.1)

        freed_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(left):
                group.create_task(until_served())
        print(f"free: all served after {time.monotonic() - freed_s:.1f} s")  # noqa: T201
        assert not left, "nobody is refused for ever"
        assert sum(len(backend.asked) for backend in backends) == len(backends) + 48
