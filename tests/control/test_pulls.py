"""Models that are pulled because somebody asks, from the wish on one stream to the order on another."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from controlplane.services import keyspace
from swarmplane.ids import BackendName, ModelName
from swarmplane.inventory import Backend, BackendModel, Inventory
from swarmplane.pulls import Pull
from swarmplane.v1 import (
    event_pb2,
    event_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    operation_pb2,
    operation_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
)
from swarmplane.v1 import sidecar_pb2 as pb
from tests.fakes.authority import until
from tests.fakes.control import Plane, SidecarEnd, inventory


def ollama(memory: int, *models: str) -> Inventory:
    found = tuple(map(BackendModel, models))
    return Inventory((Backend(BackendName("o"), "ollama", models=found),), memory, 8)


async def allow(plane: Plane, *names: str) -> None:
    policies: Any = policy_pb2_grpc.PolicyServiceStub(await plane.channel(await plane.member("operator")))
    await policies.Apply(policy_pb2.ApplyPoliciesRequest(policies=[policy_pb2.Policy(auto_pull=names)]))


def pulls(end: SidecarEnd) -> tuple[Pull, ...]:
    return end.policy.pulls if end.policy is not None else ()


async def test_a_wish_becomes_one_pull_at_the_node_that_fits_best(plane: Plane) -> None:
    """Kills: pulled twice, by the asker, without leave; progress and ends not told; others' reports."""
    events: Any = event_pb2_grpc.EventServiceStub(await plane.channel(await plane.member("viewer")))
    watching = events.Watch(
        event_pb2.WatchEventsRequest(kinds=["model.pulling", "model.pulled", "model.pull_failed"])
    )
    one, small = await plane.node("one")
    two, large = await plane.node("two")
    async with plane.stream(small) as asker, plane.stream(large) as owner:
        await asker.has(ollama(10, "m"))
        await owner.has(ollama(20, "n"))
        await asker.knows("n", 1)
        await asker.send(want_model=pb.WantModel(model="new:1b"))
        await allow(plane, "new:*", "n")
        await until(lambda: asker.policy is not None and len(asker.policy.fallbacks.auto_pull) == 2)
        for name in ("new:1b", "other", "n", "new:1b"):
            await asker.send(want_model=pb.WantModel(model=name))
        wanted = (Pull("new:1b", two, BackendName("o")),)
        await until(lambda: pulls(asker) == pulls(owner) == wanted)
        await asker.send(pull_report=pb.PullReport(model="new:1b", state="failed"))
        half = pb.PullReport(model="new:1b", state="running", completed_bytes=5, total_bytes=10, eta_s=7.5)
        await owner.send(pull_report=half)
        await until(lambda: [one.eta_s for one in pulls(asker)] == [7.5])
        await owner.has(ollama(20, "n", "new:1b"))
        await owner.send(pull_report=pb.PullReport(model="new:1b", state="done"))
        await until(lambda: pulls(asker) == ())
        await asker.knows("new:1b", 1)
    told = []
    async for event in watching:
        if event.kind != "bookmark":
            told.append((event.kind, event.message))
        if len(told) == 3:
            break
    assert told == [
        ("model.pulling", "two pulls new:1b"),
        ("model.pulling", "two pulls new:1b, 50 %"),
        ("model.pulled", "two has pulled new:1b"),
    ]
    assert len((await plane.store.range(keyspace.PULLS)).items) == 1
    assert one != two


async def test_nobody_is_told_to_pull_who_cannot(plane: Plane) -> None:
    """Kills: a pull that waits for a node to come; a node that pulls but does not understand the order."""
    await allow(plane, "*")
    _, credential = await plane.node("one")
    async with plane.stream(credential) as end:
        await end.has(inventory("m"))
        await end.knows("m", 1)
        await end.send(want_model=pb.WantModel(model="new"))
        await end.send(pull_report=pb.PullReport(model="new", state="done"))
        await end.has(ollama(10, "m"))
        await until(lambda: plane.control.table.history.models[ModelName("m")].endpoints[0].backend == "o")
        await end.send(want_model=pb.WantModel(model="newer"))
        await until(lambda: [one.model for one in pulls(end)] == ["newer"])


class Orders:
    """What an operator calls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._models: Any = model_pb2_grpc.ModelServiceStub(channel)
        self._operations: Any = operation_pb2_grpc.OperationServiceStub(channel)

    async def pull(self, model: str, node: str = "") -> operation_pb2.Operation:
        found: operation_pb2.Operation = await self._models.Pull(
            model_pb2.PullModelRequest(model=model, node=node)
        )
        return found

    async def refused(self, model: str, node: str = "") -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await self.pull(model, node)
        code: grpc.StatusCode = failure.value.code()
        return code

    async def stands(self, begun: operation_pb2.Operation, state: str, progress: float = 0.0) -> str:
        """Its message once it stands so."""

        async def look() -> operation_pb2.Operation:
            found: operation_pb2.Operation = await self._operations.Get(
                operation_pb2.GetOperationRequest(id=begun.id)
            )
            return found

        for _ in range(500):
            now = await look()
            if now.state == state and now.progress >= progress:
                return str(now.message)
            await asyncio.sleep(0.02)
        raise AssertionError(now)

    async def cancel(self, begun: operation_pb2.Operation) -> None:
        await self._operations.Cancel(operation_pb2.CancelOperationRequest(id=begun.id))


async def test_a_pull_is_ordered_followed_and_joined(plane: Plane) -> None:
    """Without any policy. Kills: the node that was named left out, a second order beside the first."""
    orders = Orders(await plane.channel(await plane.member("operator")))
    assert await orders.refused("new:1b") is grpc.StatusCode.FAILED_PRECONDITION
    small, credential = await plane.node("small")
    _, other = await plane.node("large")
    async with plane.stream(credential) as end, plane.stream(other) as large:
        await end.has(ollama(10, "m"))
        await large.has(ollama(20, "n"))
        await end.knows("n", 1)
        begun = await orders.pull("new:1b", "small")
        assert (begun.kind, begun.subject, begun.state) == ("pull", "new:1b", "running")
        wanted = (Pull("new:1b", small, BackendName("o")),)
        await until(lambda: pulls(end) == pulls(large) == wanted)
        assert (await orders.pull("new:1b")).id == begun.id
        assert await orders.refused("new:1b", "large") is grpc.StatusCode.ABORTED
        assert await orders.refused("other", "nobody") is grpc.StatusCode.NOT_FOUND
        assert await orders.refused("a\nb") is grpc.StatusCode.INVALID_ARGUMENT
        half = pb.PullReport(model="new:1b", state="running", completed_bytes=5, total_bytes=10, eta_s=7.5)
        await end.send(pull_report=half)
        assert await orders.stands(begun, "running", 0.5) == "small pulls new:1b, 50 %"
        await end.send(pull_report=pb.PullReport(model="new:1b", state="done"))
        assert await orders.stands(begun, "done", 1.0) == "small has pulled new:1b"
        again = await orders.pull("new:1b")
        assert again.id != begun.id, "who orders it once more wants the newest"
        await until(lambda: [one.node for one in pulls(end)] != [small] and len(pulls(end)) == 1)
        await large.send(pull_report=pb.PullReport(model="new:1b", state="failed", reason="no room"))
        assert await orders.stands(again, "failed") == "large could not pull new:1b: no room"


async def test_an_order_does_not_wait_for_a_node_that_left(plane: Plane) -> None:
    """Kills: a pull joined that nobody makes any more; whoever waits for it left behind."""
    orders = Orders(await plane.channel(await plane.member("operator")))
    first, credential = await plane.node("first")
    second, other = await plane.node("second")
    async with plane.stream(other) as stays:
        await stays.has(ollama(10, "n"))
        async with plane.stream(credential) as leaves:
            await leaves.has(ollama(20, "m"))
            await stays.knows("m", 1)
            begun = await orders.pull("new:1b")
            await until(lambda: [one.node for one in pulls(stays)] == [first])
            await leaves.send(goodbye=pb.Goodbye(reason="stops"))
            await until(lambda: plane.control.table.history.models[ModelName("m")].endpoints == ())
        again = await orders.pull("new:1b")
        await until(lambda: [one.node for one in pulls(stays)] == [second])
        assert again.id == begun.id
        await stays.send(pull_report=pb.PullReport(model="new:1b", state="done"))
        assert await orders.stands(begun, "done") == "second has pulled new:1b"


async def test_a_cancelled_pull_is_taken_back(plane: Plane) -> None:
    orders = Orders(await plane.channel(await plane.member("operator")))
    _, credential = await plane.node("one")
    async with plane.stream(credential) as end:
        await end.has(ollama(10, "m"))
        await end.knows("m", 1)
        begun = await orders.pull("new:1b")
        await until(lambda: len(pulls(end)) == 1)
        await orders.cancel(begun)
        await end.send(pull_report=pb.PullReport(model="new:1b", state="running", total_bytes=10))
        await until(lambda: pulls(end) == ())
        assert await orders.stands(begun, "cancelled") == "cancelled on request"


async def test_who_orders_what_a_request_caused_joins_it(plane: Plane) -> None:
    orders = Orders(await plane.channel(await plane.member("operator")))
    _, credential = await plane.node("one")
    async with plane.stream(credential) as end:
        await end.has(ollama(10, "m"))
        await end.knows("m", 1)
        await allow(plane, "new:*")
        await until(lambda: end.policy is not None and len(end.policy.fallbacks.auto_pull) == 1)
        await end.send(want_model=pb.WantModel(model="new:1b"))
        await until(lambda: len(pulls(end)) == 1)
        begun = await orders.pull("new:1b")
        await end.send(pull_report=pb.PullReport(model="new:1b", state="done"))
        assert await orders.stands(begun, "done") == "one has pulled new:1b"
