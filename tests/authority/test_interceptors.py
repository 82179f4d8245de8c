"""Around every call: errors with reasons, callers known, and open calls of the denied ended at once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from controlplane.rpc.caller import caller
from controlplane.services import keyspace
from controlplane.services.denials import denial
from controlplane.store.port import CompactedError
from swarmplane.channels import STATUS_DETAILS_KEY, rpc_error_to_swarm_error
from swarmplane.errors import Code, NotFoundError, SwarmError, UnauthenticatedError
from swarmplane.ids import SubjectId
from swarmplane.v1 import event_pb2, event_pb2_grpc, sidecar_pb2, sidecar_pb2_grpc, token_pb2, token_pb2_grpc
from tests.fakes.authority import CALL_S, Instance, presented_certificate, running_instance, until


class Events(event_pb2_grpc.EventServiceServicer):
    """Fails as its request's first kind says; else sends one event and waits, as a generator."""

    async def Watch(self, request: Any, context: Any) -> Any:  # noqa: N802
        del context
        match list(request.kinds):
            case ["not_found"]:
                raise NotFoundError("there is no such thing", thing="x")
            case ["compacted"]:
                raise CompactedError(7)
            case ["group"]:
                raise ExceptionGroup("", [ExceptionGroup("", [NotFoundError("deep", thing="y")])])
            case ["mixed"]:
                raise ExceptionGroup("", [NotFoundError("deep"), ZeroDivisionError()])
            case ["bug"]:
                raise ZeroDivisionError("internal address 10.0.0.7")
        yield event_pb2.Event(kind="hello", subject=caller().subject.id)
        await asyncio.sleep(CALL_S)


class Sidecars(sidecar_pb2_grpc.SidecarServiceServicer):
    """Reads and writes, as a coroutine, and tells when it was ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def Connect(self, request_iterator: Any, context: Any) -> None:  # noqa: N802
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(CALL_S))
                async for _ in request_iterator:
                    await context.write(sidecar_pb2.ControlMessage())
        finally:
            self.ended.set()


@pytest.fixture
async def sidecars() -> Sidecars:
    return Sidecars()


@pytest.fixture
async def instance(tmp_path: Any, sidecars: Sidecars) -> Any:
    def add(server: grpc.aio.Server) -> None:
        event_pb2_grpc.add_EventServiceServicer_to_server(Events(), server)
        sidecar_pb2_grpc.add_SidecarServiceServicer_to_server(sidecars, server)

    async with running_instance(tmp_path / "founder", extra=[add]) as one:
        yield one


async def failure(instance: Instance, kind: str) -> grpc.aio.AioRpcError:
    stub: Any = event_pb2_grpc.EventServiceStub(await instance.channel())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Watch(event_pb2.WatchEventsRequest(kinds=[kind]), timeout=CALL_S).read()
    return caught.value


@pytest.mark.parametrize(
    ("kind", "status", "reason", "message", "metadata"),
    [
        ("not_found", grpc.StatusCode.NOT_FOUND, "not_found", "there is no such thing", {"thing": "x"}),
        ("group", grpc.StatusCode.NOT_FOUND, "not_found", "deep", {"thing": "y"}),
        ("compacted", grpc.StatusCode.OUT_OF_RANGE, "compacted", "revision 7", {"revision": "7"}),
        ("bug", grpc.StatusCode.INTERNAL, "internal", "its log says what", {}),
        ("mixed", grpc.StatusCode.INTERNAL, "internal", "its log says what", {}),
    ],
)
async def test_every_error_carries_its_reason(
    instance: Instance, kind: str, status: Any, reason: str, message: str, metadata: dict[str, str]
) -> None:
    error = await failure(instance, kind)
    assert error.code() is status
    details = dict(error.trailing_metadata() or ())[STATUS_DETAILS_KEY]
    parsed = status_pb2.Status.FromString(details)
    info = error_details_pb2.ErrorInfo()
    assert parsed.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == (reason, "swarmplane", metadata)
    assert parsed.code == status.value[0]
    assert message in str(error.details())
    assert "10.0.0.7" not in str(error.details())
    ours = rpc_error_to_swarm_error(error)
    assert (ours.code.slug, ours.details) == (reason, metadata)
    assert message in ours.message


async def test_unary_refusals_carry_it_too(instance: Instance) -> None:
    stub: Any = token_pb2_grpc.TokenServiceStub(await instance.channel())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Create(token_pb2.CreateTokenRequest(role="king"), timeout=CALL_S)
    error = rpc_error_to_swarm_error(caught.value)
    assert (error.code, "king" in error.message) == (Code.INVALID_REQUEST, True)


async def test_a_service_knows_who_calls(instance: Instance) -> None:
    credential = await instance.member("viewer", name="ada")
    stub: Any = event_pb2_grpc.EventServiceStub(await instance.channel(credential))
    call = stub.Watch(event_pb2.WatchEventsRequest(), timeout=CALL_S)
    assert (await call.read()).subject == "user:ada"
    call.cancel()


def test_nobody_calls_outside_of_a_call() -> None:
    with pytest.raises(UnauthenticatedError):
        caller()


async def deny(instance: Instance, subject: SubjectId) -> None:
    put = denial(subject, "for a test", time.time())
    await instance.store.put(put.key, put.value)


async def ended(call: Any) -> SwarmError:
    """How an open call ends; it must not just end."""
    try:
        async with asyncio.timeout(CALL_S / 2):
            while await call.read() is not grpc.aio.EOF:
                pass
    except grpc.aio.AioRpcError as error:
        return rpc_error_to_swarm_error(error)
    pytest.fail("the call ended as if all were well")


async def test_an_open_watch_of_a_denied_person_ends_at_once(instance: Instance) -> None:
    credential = await instance.member("viewer", name="ada")
    stub: Any = event_pb2_grpc.EventServiceStub(await instance.channel(credential))
    call = stub.Watch(event_pb2.WatchEventsRequest(), timeout=CALL_S)
    await call.read()
    await deny(instance, SubjectId("user:ada"))
    error = await ended(call)
    assert (error.code, "removed" in error.message) == (Code.UNAUTHENTICATED, True)


async def test_an_open_sidecar_stream_of_a_denied_node_ends_at_once(
    instance: Instance, sidecars: Sidecars
) -> None:
    credential = await instance.member("node")
    stub: Any = sidecar_pb2_grpc.SidecarServiceStub(await instance.channel(credential))
    call = stub.Connect(timeout=CALL_S)
    await call.write(sidecar_pb2.SidecarMessage())
    await call.read()
    await deny(instance, credential.facts().subject.id)
    error = await ended(call)
    assert (error.code, "removed" in error.message) == (Code.UNAUTHENTICATED, True)
    await asyncio.wait_for(sidecars.ended.wait(), CALL_S)


async def test_streams_of_others_go_on(instance: Instance) -> None:
    other = await instance.member("node")
    stub: Any = sidecar_pb2_grpc.SidecarServiceStub(await instance.channel(other))
    call = stub.Connect(timeout=CALL_S)
    await call.write(sidecar_pb2.SidecarMessage())
    await call.read()
    await deny(instance, SubjectId("user:nobody"))
    await until(lambda: "user:nobody" in instance.denials)
    await call.write(sidecar_pb2.SidecarMessage())
    assert await call.read() is not grpc.aio.EOF
    call.cancel()


async def test_new_calls_of_the_denied_are_refused_from_the_commit_on(instance: Instance) -> None:
    credential = await instance.member("viewer", name="ada")
    stub: Any = token_pb2_grpc.TokenServiceStub(await instance.channel(credential))
    await stub.List(token_pb2.ListTokensRequest(), timeout=CALL_S)
    await deny(instance, SubjectId("user:ada"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.List(token_pb2.ListTokensRequest(), timeout=CALL_S)
    assert rpc_error_to_swarm_error(caught.value).details == {"subject": "user:ada"}


async def test_a_client_that_leaves_ends_its_stream(instance: Instance, sidecars: Sidecars) -> None:
    credential = await instance.member("node")
    stub: Any = sidecar_pb2_grpc.SidecarServiceStub(await instance.channel(credential))
    call = stub.Connect(timeout=CALL_S)
    await call.write(sidecar_pb2.SidecarMessage())
    await call.read()
    call.cancel()
    await asyncio.wait_for(sidecars.ended.wait(), CALL_S)


@pytest.mark.parametrize("role", ["admin", "viewer", "node", "instance"])
async def test_health_answers_everybody_with_a_certificate(instance: Instance, role: str) -> None:
    stub: Any = health_pb2_grpc.HealthStub(await instance.channel(await instance.member(role)))
    for service in ("", "swarmplane.v1.TokenService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services_and_describes_them(instance: Instance) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(await instance.channel())
    call = stub.ServerReflectionInfo(timeout=CALL_S)
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = {service.name for service in (await call.read()).list_services_response.service}
    assert {
        "swarmplane.v1.TokenService",
        "swarmplane.v1.CertificateService",
        "grpc.health.v1.Health",
    } <= listed
    symbol = reflection_pb2.ServerReflectionRequest(file_containing_symbol="swarmplane.v1.TokenService")
    await call.write(symbol)
    described = (await call.read()).file_descriptor_response.file_descriptor_proto
    assert any(b"CreateTokenRequest" in file for file in described)
    call.cancel()


async def test_health_watch_ends_with_the_instance(instance: Instance) -> None:
    stub: Any = health_pb2_grpc.HealthStub(await instance.channel())
    call = stub.Watch(health_pb2.HealthCheckRequest(), timeout=CALL_S)
    assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
    call.cancel()


async def test_a_renewed_certificate_is_shown_without_a_restart(instance: Instance) -> None:
    from controlplane.services.own_credentials import own_credential

    before = await presented_certificate(instance.control_address)
    instance.wall.ahead_s = 3 * 86_400
    renewed = await asyncio.to_thread(own_credential, instance.authority, instance.data_dir, instance.wall())
    instance.certificate.replace(renewed)
    for address in (instance.control_address, instance.join_address):
        after = await presented_certificate(address)
        assert after.split() == renewed.certificate_pem.split()
        assert after != before
    stub: Any = token_pb2_grpc.TokenServiceStub(await instance.channel())
    await stub.List(token_pb2.ListTokensRequest(), timeout=CALL_S)


async def test_the_deny_list_follows_the_store_both_ways(instance: Instance) -> None:
    await deny(instance, SubjectId("user:eve"))
    await until(lambda: "user:eve" in instance.denials)
    await instance.store.delete(keyspace.denied(SubjectId("user:eve")))
    await until(lambda: "user:eve" not in instance.denials)
