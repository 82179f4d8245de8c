"""Every attempt is counted, and why it was made: the reasons together are the attempts of the records.

Mutants that were tried and are killed: copies not counted, moves out of a queue not counted, another model
after a full one counted as nothing, or one that comes first as a move.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from sidecar.core.hedging import HedgePolicy
from sidecar.core.queue_values import ClassPolicy, QueuePolicy
from sidecar.core.slots import Settling
from sidecar.telemetry.assembly import Telemetry
from sidecar.telemetry.policy import TelemetryPolicy
from swarmplane.ids import BackendName, endpoint_id
from tests.fakes.backend import Behaviour, FakeBackend, running_backend
from tests.fakes.dataplane import CHAT, QUICK, Node, Served, TestSwarm, client, eventually, running_node

LANE = ClassPolicy(256, 1 << 20, 60.0)
QUEUE = QueuePolicy(LANE, LANE, LANE, preempt=False, assumed_service_s=0.5)
SETTLING = Settling(notices_s=0.05, prefill_s=0.05)
NONE = {"first": 0, "retry": 0, "move": 0, "hedge": 0, "replay": 0}


class Counted:
    """A host with two backends, and what it counts."""

    def __init__(self, node: Node, telemetry: Telemetry, first: FakeBackend, second: FakeBackend) -> None:
        self.node = node
        self.first = first
        self.second = second
        self.telemetry = telemetry

    async def by_reason(self) -> Mapping[str, int]:
        """What it counts."""
        return await by_reason(self.telemetry)


async def by_reason(telemetry: Telemetry) -> Mapping[str, int]:
    """As ``/metrics`` shows it."""
    await telemetry.catch_up()
    (found,) = (one for one in telemetry.families() if one.name == "swarmplane_attempts_total")
    return {**NONE, **{one.labels["reason"]: int(one.value) for one in found.samples}}


@contextlib.asynccontextmanager
async def counted(second: str = "m1", **policy: object) -> AsyncIterator[Counted]:
    """``second`` is the model of the second backend; the first has ``m1``."""
    telemetry = Telemetry(TelemetryPolicy(), identity={}, version="1")
    async with running_backend() as one, running_backend() as other:
        served = {"a": Served(one, slots=1), "b": Served(other, second, slots=1)}
        async with running_node(served=served, telemetry=telemetry, **policy) as node:  # type: ignore[arg-type]
            yield Counted(node, telemetry, one, other)


async def test_a_second_copy_is_a_hedge() -> None:
    hedge = HedgePolicy(enabled=True, floor_s=0.1, unknown_s=0.1)
    async with counted(hedge=hedge) as found, client(found.node) as http:
        found.first.default = Behaviour(hang=True)
        assert (await http.ask(CHAT)).headers["x-swarm-attempts"] == "2"
        await eventually(lambda: not found.node.plane.active, "it is over")
        assert await found.by_reason() == {**NONE, "first": 1, "hedge": 1}
        (told,) = found.telemetry.recent.documents(9)
        assert (told["attempts"], told["hedges"], told["endpoint"]) == (2, 1, "local/b/m1")


async def test_who_leaves_a_queue_for_an_idle_node_moves(swarm: TestSwarm) -> None:
    policy = {"queue": QUEUE, "settling": SETTLING}
    telemetry = Telemetry(TelemetryPolicy(), identity={}, version="1")
    async with contextlib.AsyncExitStack() as stack:
        entry = await stack.enter_async_context(
            running_node("a", swarm=swarm, telemetry=telemetry, policy=replace(QUICK, **policy))  # type: ignore[arg-type]
        )
        owners, busy = [], []
        for name in "bc":
            backend = await stack.enter_async_context(running_backend())
            served = {"one": Served(backend, slots=1)}
            owners.append(
                await stack.enter_async_context(
                    running_node(name, served, swarm=swarm, policy=replace(QUICK, **policy))  # type: ignore[arg-type]
                )
            )
            busy.append(await stack.enter_async_context(client(owners[-1])))
            busy[-1].post(CHAT, x_fake="delay_s=20")
            await eventually(lambda backend=backend: backend.running == 1, "it is busy")  # type: ignore[misc]
        swarm.connect()
        http = await stack.enter_async_context(client(entry))
        http.post(CHAT)
        await eventually(lambda: len(entry.plane.moving), "it waits")
        frees = 1 if owners[0].plane.counters.hops_in else 0
        busy[frees].abort()
        idle = endpoint_id(owners[frees].id, BackendName("one"), "m1")
        await eventually(lambda: not owners[frees].routes.in_flight(idle), "one is idle")
        entry.routes.set_load(idle, {}, 0, 1, time.monotonic())
        answer = await http.answer()
        busy[1 - frees].abort()
        await eventually(lambda: not entry.plane.active, "it is over")
        assert (answer.status, answer.headers["x-swarm-node"]) == (200, "bc"[frees])
        assert await by_reason(telemetry) == {**NONE, "first": 1, "move": 1}


async def test_another_model_is_a_move_after_a_full_one_and_a_retry_after_a_failure() -> None:
    async with counted("m2") as found, client(found.node) as http:
        found.first.default = Behaviour(status=429, retry_after="7")
        body = {**CHAT, "fallback_models": ["m2"]}
        assert (await http.ask(body)).headers["x-swarm-model"] == "m2"
        assert await found.by_reason() == {**NONE, "first": 1, "move": 1}
        assert (await http.ask({**body, "model": "nobodys"})).headers["x-swarm-model"] == "m2"
        assert await found.by_reason() == {**NONE, "first": 2, "move": 1}
        assert found.node.plane.counters.moves == 1
    async with counted("m2") as found, client(found.node) as http:
        found.first.default = Behaviour(status=500)
        assert (await http.ask({**CHAT, "fallback_models": ["m2"]})).headers["x-swarm-model"] == "m2"
        assert await found.by_reason() == {**NONE, "first": 1, "retry": 1}
