"""Nodes, models, routes, events and operations, as clients of the control listener see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest

from controlplane.services.drains import Drains
from swarmplane.channels import rpc_error_to_swarm_error
from swarmplane.clock import SystemClock
from swarmplane.codec.load import load_entry_to_pb
from swarmplane.codec.table import model_route_from_pb
from swarmplane.errors import Code
from swarmplane.ids import EndpointId, ModelName
from swarmplane.inventory import ModelState
from swarmplane.load import LoadEntry
from swarmplane.v1 import (
    event_pb2,
    event_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
    operation_pb2,
    operation_pb2_grpc,
    route_pb2,
    route_pb2_grpc,
    sidecar_pb2,
)
from tests.fakes.authority import until
from tests.fakes.control import Plane, inventory


@asynccontextmanager
async def gathered(call: Any) -> AsyncIterator[list[Any]]:
    """What a server streams, as it comes."""
    found: list[Any] = []

    async def gather() -> None:
        async for message in call:
            found.append(message)  # noqa: PERF401 - each is looked at as it comes

    async with asyncio.TaskGroup() as group:
        task = group.create_task(gather())
        try:
            yield found
        finally:
            task.cancel()


async def code_of(call: Any) -> Code:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return rpc_error_to_swarm_error(failure.value).code


async def test_a_node_is_shown_whole(plane: Plane) -> None:
    stub: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
    a, a_credential = await plane.node("ada")
    never = await stub.Get(node_pb2.GetNodeRequest(node="ada"))
    assert (never.state, never.session, never.silent_s) == ("never", 0, -1)
    async with plane.stream(a_credential) as ada:
        await ada.has(inventory("llama"))
        await ada.knows("llama", 1)
        node = await stub.Get(node_pb2.GetNodeRequest(node=a))
        assert (node.id, node.name, node.state, node.cordoned) == (a, "ada", "live", False)
        assert ada.welcome is not None
        assert (node.session, node.instance_id) == (ada.welcome.session, ada.welcome.instance_id)
        assert (node.software_version, node.platform) == ("1.2.3", "test-x")
        assert (list(node.models), node.memory_bytes) == (["llama"], 2**34)
        assert [(b.name, b.healthy, list(b.models)) for b in node.backends] == [("engine", True, ["llama"])]
        assert 0 <= node.silent_s < 20
        assert node.client_url == "http://127.0.0.1:1"
        assert node.push.acked.revision > 0
    assert await code_of(stub.Get(node_pb2.GetNodeRequest(node="nobody"))) is Code.NOT_FOUND


async def test_nodes_come_in_pages_of_one_revision(plane: Plane) -> None:
    stub: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
    ids = sorted([(await plane.node(f"n{number}"))[0] for number in range(5)])
    first = await stub.List(node_pb2.ListNodesRequest(page_size=2))
    await plane.node("late")
    second = await stub.List(node_pb2.ListNodesRequest(page_size=2, page_token=first.next_page_token))
    third = await stub.List(node_pb2.ListNodesRequest(page_size=2, page_token=second.next_page_token))
    pages = [first, second, third]
    assert [node.id for page in pages for node in page.nodes] == ids
    assert {page.revision for page in pages} == {first.revision}
    assert third.next_page_token == ""
    assert len((await stub.List(node_pb2.ListNodesRequest())).nodes) == 6
    assert await code_of(stub.List(node_pb2.ListNodesRequest(page_size=1_001))) is Code.INVALID_REQUEST
    assert await code_of(stub.List(node_pb2.ListNodesRequest(page_token="x"))) is Code.INVALID_REQUEST


async def test_a_page_of_a_forgotten_revision_says_so(plane: Plane) -> None:
    stub: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
    for number in range(3):
        await plane.node(f"n{number}")
    first = await stub.List(node_pb2.ListNodesRequest(page_size=2))
    await plane.node("later")
    await plane.store.compact(await plane.store.revision())
    call = stub.List(node_pb2.ListNodesRequest(page_size=2, page_token=first.next_page_token))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    assert failure.value.code() is grpc.StatusCode.OUT_OF_RANGE


async def test_mutations_are_repeatable_guarded_and_a_nodes_own(plane: Plane) -> None:
    a, a_credential = await plane.node("ada")
    b, _ = await plane.node("bob")
    admin: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
    request = node_pb2.CordonNodeRequest(node=a, request_id="same")
    once = await admin.Cordon(request)
    twice = await admin.Cordon(request)
    assert once == twice
    stale = node_pb2.UncordonNodeRequest(node=a, expected_revision=once.revision - 1)
    assert await code_of(admin.Uncordon(stale)) is Code.CONFLICT
    own: Any = node_pb2_grpc.NodeServiceStub(await plane.channel(a_credential))
    assert await code_of(own.Cordon(node_pb2.CordonNodeRequest(node=b))) is Code.FORBIDDEN
    assert await code_of(own.Remove(node_pb2.RemoveNodeRequest(node="bob"))) is Code.FORBIDDEN
    assert (await own.Uncordon(node_pb2.UncordonNodeRequest(node="ada"))).cordoned is False
    assert (await own.Remove(node_pb2.RemoveNodeRequest(node=a))).node_id == a
    audit = (await plane.store.range("audit/")).items
    assert sum(b"node.cordon" in kv.value for kv in audit) == 1


async def test_models_and_routes_are_listed_in_pages(plane: Plane) -> None:
    models: Any = model_pb2_grpc.ModelServiceStub(await plane.channel())
    routes: Any = route_pb2_grpc.RouteServiceStub(await plane.channel())
    _, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada, plane.stream(b_credential) as bob:
        await bob.has(inventory("llama", "qwen"))
        await ada.has(inventory("llama", "warm", state=ModelState.LOADING))
        await ada.knows("qwen", 1)
        await ada.knows("warm", 0)
        first = await models.List(model_pb2.ListModelsRequest(page_size=2))
        rest = await models.List(model_pb2.ListModelsRequest(page_size=2, page_token=first.next_page_token))
        found = [*first.models, *rest.models]
        assert [(m.name, m.state) for m in found] == [
            ("llama", "ready"),
            ("qwen", "ready"),
            ("warm", "loading"),
        ]
        assert rest.next_page_token == ""
        llama = await models.Get(model_pb2.GetModelRequest(model="LLAMA"))
        assert {(r.node_name, r.backend, r.state) for r in llama.replicas} == {
            ("ada", "engine", "loading"),
            ("bob", "engine", "loaded"),
        }
        assert llama.context_length == 4096
        assert await code_of(models.Get(model_pb2.GetModelRequest(model="gpt-9"))) is Code.MODEL_NOT_FOUND

        page = await routes.List(route_pb2.ListRoutesRequest(page_size=1))
        assert page.version.generation == 1
        assert page.next_page_token
        assert model_route_from_pb(page.routes[0]) == ada.table.models[ModelName("llama")]
        await bob.goodbye()
        await until(lambda: ada.ready("qwen") == 0)
        assert (await models.Get(model_pb2.GetModelRequest(model="qwen"))).state == "absent"
        assert (await models.Get(model_pb2.GetModelRequest(model="qwen"))).replicas == []


async def test_routes_are_watched_from_the_start_with_a_bookmark_and_resumed(plane: Plane) -> None:
    stub: Any = route_pb2_grpc.RouteServiceStub(await plane.channel())
    _, credential = await plane.node("ada")
    async with plane.stream(credential) as ada:
        await ada.has(inventory("llama", "qwen"))
        await ada.knows("qwen", 1)
        async with gathered(stub.Watch(route_pb2.WatchRoutesRequest())) as seen:
            await until(lambda: any(change.bookmark for change in seen))
            assert [change.put.name for change in seen[:2]] == ["llama", "qwen"]
            place = seen[2].revision
            await ada.has(inventory("qwen", "yi"))
            await until(lambda: any(change.removed == "llama" for change in seen))
            await until(lambda: any(change.put.name == "yi" for change in seen))
            assert all(change.revision > place for change in seen[3:])
        async with gathered(stub.Watch(route_pb2.WatchRoutesRequest(revision=place + 1))) as later:
            await until(lambda: len([change for change in later if not change.bookmark]) >= 2)
            changed = {change.removed or change.put.name for change in later if not change.bookmark}
            assert changed == {"llama", "yi"}
    await plane.store.compact(await plane.store.revision())
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await stub.Watch(route_pb2.WatchRoutesRequest(revision=2)).read()
    assert failure.value.code() is grpc.StatusCode.OUT_OF_RANGE


async def test_events_tell_what_happened_in_order_and_again_for_latecomers(plane: Plane) -> None:
    stub: Any = event_pb2_grpc.EventServiceStub(await plane.channel())
    now = event_pb2.WatchEventsRequest(revision=await plane.store.revision() + 1)
    async with gathered(stub.Watch(now)) as seen:
        token = await plane.token()
        credential, _ = await plane.enroll(token, name="ada")
        async with plane.stream(credential, incarnation="one") as ada:
            await ada.has(inventory("llama"))
            await ada.knows("llama", 1)
        await until(lambda: any(event.kind == "node.suspect" for event in seen))
        async with plane.stream(credential, incarnation="one") as ada:
            await ada.goodbye()
        await until(lambda: any(event.kind == "model.absent" for event in seen))
        stub_of_nodes: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
        await stub_of_nodes.Remove(node_pb2.RemoveNodeRequest(node="ada"))
        await until(lambda: any(event.kind == "node.removed" for event in seen))
    kinds = [event.kind for event in seen if event.kind != "bookmark"]
    expected = [
        "token.created",
        "node.enrolled",
        "node.joined",
        "model.ready",
        "node.suspect",
        "node.gone",
        "model.absent",
        "node.removed",
    ]
    assert [kind for kind in kinds if kind in expected] == expected
    named = next(event for event in seen if event.kind == "node.joined")
    assert (named.name, named.revision > 0) == ("ada", True)
    start = next(event.revision for event in seen if event.kind == "node.enrolled")
    request = event_pb2.WatchEventsRequest(revision=start, kinds=["node.*"])
    async with gathered(stub.Watch(request)) as later:
        await until(lambda: any(event.kind == "node.removed" for event in later))
    told = [event.kind for event in later if event.kind != "bookmark"]
    assert told == ["node.enrolled", "node.joined", "node.gone", "node.removed"]


async def test_load_is_passed_on_to_others_with_its_age(plane: Plane) -> None:
    _, a_credential = await plane.node("ada")
    b, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada, plane.stream(b_credential) as bob:
        own = LoadEntry(EndpointId(f"{b}/engine/llama"), {"x": 2}, queued=3, slots=4, age_ms=100)
        foreign = LoadEntry(EndpointId(f"{ada.node}/engine/llama"), {"x": 9})
        await bob.send(load=sidecar_pb2.Load(endpoints=map(load_entry_to_pb, [own, foreign])))
        await until(lambda: ada.loads)
        (entry,) = ada.loads
        assert (entry.endpoint_id, dict(entry.in_flight_by_origin)) == (own.endpoint, {"x": 2})
        assert (entry.queued, entry.slots) == (3, 4)
        assert 100 <= entry.age_ms < 3_000
        assert bob.loads == []


async def test_an_unreachable_node_is_shown_with_the_reason(plane: Plane) -> None:
    stub: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
    _, a_credential = await plane.node("ada")
    b, b_credential = await plane.node("bob")

    async def reason() -> str:
        return str((await stub.Get(node_pb2.GetNodeRequest(node=b))).unreachable_reason)

    async with plane.stream(b_credential), plane.stream(a_credential) as ada:
        await until(lambda: b in ada.table.nodes)
        await ada.send(peer_report=sidecar_pb2.PeerReport(node_id=b, reason="connection refused"))
        await until(lambda: plane.control.reachability.unreachable_reason(b))
        assert "connection refused" in await reason()
        await ada.send(peer_report=sidecar_pb2.PeerReport(node_id=b, reachable=True))
        await until(lambda: not plane.control.reachability.unreachable_reason(b))
        assert await reason() == ""


async def test_operations_are_kept_listed_newest_first_and_cancelled_once(plane: Plane) -> None:
    stub: Any = operation_pb2_grpc.OperationServiceStub(await plane.channel())
    made = [await plane.control.operations.begin("drain", f"n{number}") for number in range(3)]
    one = await stub.Get(operation_pb2.GetOperationRequest(id=made[0].id))
    assert (one.kind, one.subject, one.state) == ("drain", "n0", "running")
    first = await stub.List(operation_pb2.ListOperationsRequest(page_size=2))
    rest = await stub.List(operation_pb2.ListOperationsRequest(page_size=2, page_token=first.next_page_token))
    newest_first = sorted((operation.id for operation in made), reverse=True)
    assert [o.id for o in [*first.operations, *rest.operations]] == newest_first
    done = await plane.control.operations.update(replace(made[1], state="done", progress=1.0))
    kept = await stub.Cancel(operation_pb2.CancelOperationRequest(id=done.id))
    assert kept.state == "done"
    cancelled = await stub.Cancel(operation_pb2.CancelOperationRequest(id=made[0].id, request_id="r"))
    again = await stub.Cancel(operation_pb2.CancelOperationRequest(id=made[0].id, request_id="r"))
    assert cancelled.state == again.state == "cancelled"
    assert (await plane.control.operations.update(replace(made[0], state="done"))).state == "cancelled"
    missing = stub.Get(operation_pb2.GetOperationRequest(id="00000000000000000000000000"))
    assert await code_of(missing) is Code.NOT_FOUND


async def end_of(ask: Any) -> Any:
    """An operation once it does not run any more."""
    for _ in range(400):
        found = await ask()
        if found.state != "running":
            return found
        await asyncio.sleep(0.05)
    pytest.fail("it still runs")


async def test_a_drain_ends_when_the_node_has_no_request_left(plane: Plane) -> None:
    nodes: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
    operations: Any = operation_pb2_grpc.OperationServiceStub(await plane.channel())
    _, a_credential = await plane.node("ada")
    b, b_credential = await plane.node("bob")

    async def state(operation_id: str) -> Any:
        return await operations.Get(operation_pb2.GetOperationRequest(id=operation_id))

    async def carries(bob: Any, count: int) -> None:
        entry = LoadEntry(EndpointId(f"{b}/engine/llama"), {"x": count})
        await bob.send(load=sidecar_pb2.Load(endpoints=[load_entry_to_pb(entry)]))
        await until(lambda: plane.control.pushes.in_flight(b) == count)

    async with plane.stream(a_credential) as ada, plane.stream(b_credential) as bob:
        await bob.has(inventory("llama"))
        await ada.knows("llama", 1)
        await carries(bob, 2)
        asked = node_pb2.DrainNodeRequest(node="bob", request_id="d1")
        begun = await nodes.Drain(asked)
        assert (begun.kind, begun.subject, begun.state) == ("drain", b, "running")
        assert (await nodes.Drain(asked)).id == begun.id, "asked again it is the same drain"
        await until(lambda: ada.ready("llama") == 0)
        await until(lambda: bob.draining)
        await asyncio.sleep(2.0)
        running = await state(begun.id)
        assert (running.state, running.message) == ("running", "2 requests left")
        await carries(bob, 1)
        await carries(bob, 0)
        ended = await end_of(lambda: state(begun.id))
        assert (ended.state, ended.progress, ended.message) == ("done", 1.0, "no request is left")
        assert (await nodes.Get(node_pb2.GetNodeRequest(node=b))).cordoned
        await nodes.Uncordon(node_pb2.UncordonNodeRequest(node="bob"))
        await until(lambda: ada.ready("llama") == 1 and not bob.draining)
    page = await operations.List(operation_pb2.ListOperationsRequest())
    assert [one.id for one in page.operations] == [begun.id]


async def test_neighbours_hear_of_a_cordon_before_the_node_refuses(plane: Plane) -> None:
    nodes: Any = node_pb2_grpc.NodeServiceStub(await plane.channel())
    _, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada, plane.stream(b_credential) as bob:
        await bob.has(inventory("llama"))
        await ada.knows("llama", 1)
        await nodes.Cordon(node_pb2.CordonNodeRequest(node="bob"))
        order: list[str] = []

        def both() -> bool:
            if ada.ready("llama") == 0 and "neighbour" not in order:
                order.append("neighbour")
            if bob.draining and "node" not in order:
                order.append("node")
            return len(order) == 2

        await until(both)
    assert order == ["neighbour", "node"]


async def test_a_drain_goes_on_after_the_instance_restarted_and_ends_with_a_node_that_left(
    plane: Plane,
) -> None:
    b, _ = await plane.node("bob")
    begun = await plane.control.operations.begin("drain", b)
    drains = Drains(
        plane.control.nodes,
        plane.control.operations,
        plane.control.pushes.in_flight,
        SystemClock(),
        plane.control.mirror,
        plane.control.leadership,
    )
    async with asyncio.TaskGroup() as group:
        following = group.create_task(drains.run())
        ended = await end_of(lambda: plane.control.operations.get(begun.id))
        following.cancel()
    assert (ended.state, ended.message) == ("done", "the node is not connected")
