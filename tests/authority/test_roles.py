"""Who may call what: the whole table, over real calls with real certificates."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from controlplane.rpc.authorization import ALLOWED
from controlplane.services import keyspace
from controlplane.services.callers import Caller
from controlplane.services.roles import Role
from swarmplane.channels import rpc_error_to_swarm_error
from swarmplane.codec import records
from swarmplane.credentials.names import node_subject
from swarmplane.errors import Code, ForbiddenError
from swarmplane.ids import NodeId, SwarmId
from swarmplane.v1 import (
    alias_pb2,
    certificate_pb2,
    election_pb2,
    event_pb2,
    key_pb2,
    model_pb2,
    node_pb2,
    operation_pb2,
    peer_pb2,
    policy_pb2,
    route_pb2,
    sidecar_pb2,
    token_pb2,
    token_pb2_grpc,
)
from tests.fakes.authority import CALL_S, Instance, running_instance

CONTRACT = (
    alias_pb2,
    certificate_pb2,
    election_pb2,
    event_pb2,
    key_pb2,
    model_pb2,
    node_pb2,
    operation_pb2,
    peer_pb2,
    policy_pb2,
    route_pb2,
    sidecar_pb2,
    token_pb2,
)
METHODS = sorted(
    f"/{service.full_name}/{method.name}"
    for module in CONTRACT
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)
UNKNOWN = ["/swarmplane.v1.NodeService/Explode", "/other.Service/Do"]
EVERYBODY = {"admin", "operator", "viewer", "node", "instance"}
WRITES = {
    "/swarmplane.v1.AliasService/Set": {"admin", "operator"},
    "/swarmplane.v1.AliasService/Remove": {"admin", "operator"},
    "/swarmplane.v1.KeyService/Create": {"admin", "operator"},
    "/swarmplane.v1.KeyService/Revoke": {"admin", "operator"},
    "/swarmplane.v1.NodeService/Cordon": {"admin", "operator", "node"},
    "/swarmplane.v1.NodeService/Drain": {"admin", "operator", "node"},
    "/swarmplane.v1.ModelService/Pull": {"admin", "operator"},
    "/swarmplane.v1.NodeService/Uncordon": {"admin", "operator", "node"},
    "/swarmplane.v1.NodeService/Remove": {"admin", "operator", "node"},
    "/swarmplane.v1.PolicyService/Apply": {"admin", "operator"},
    "/swarmplane.v1.TokenService/Create": {"admin", "operator"},
    "/swarmplane.v1.TokenService/Revoke": {"admin", "operator"},
    "/swarmplane.v1.TokenService/SetEnrolment": {"admin", "operator"},
    "/swarmplane.v1.OperationService/Cancel": {"admin", "operator"},
    "/swarmplane.v1.SidecarService/Connect": {"node"},
    "/swarmplane.v1.PeerService/Share": {"instance"},
}


class Everything(grpc.GenericRpcHandler):
    """Answers any method with nothing, so that only the interceptor decides."""

    def service(self, handler_call_details: Any) -> Any:
        del handler_call_details

        async def answer(request: bytes, context: Any) -> bytes:
            del request, context
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """What each role got for each method of the contract and for some that nobody knows."""
    return asyncio.run(_outcomes(tmp_path_factory.mktemp("roles")))


async def _outcomes(root: Path) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    add = lambda server: server.add_generic_rpc_handlers((Everything(),))  # noqa: E731
    async with running_instance(root, extra=[add]) as instance:
        for role in Role:
            channel = await instance.channel(await instance.member(role.value))
            for method in [*METHODS, *UNKNOWN]:
                found[role.value, method] = await _outcome(channel, method)
    return found


async def _outcome(channel: grpc.aio.Channel, method: str) -> str:
    call: Any = channel.unary_unary(method)
    try:
        await call(b"", timeout=CALL_S)
    except grpc.aio.AioRpcError as error:
        return rpc_error_to_swarm_error(error).code.slug
    return "passed"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("role", sorted(EVERYBODY))
def test_each_method_takes_exactly_its_roles(
    outcomes: dict[tuple[str, str], str], method: str, role: str
) -> None:
    allowed = role in WRITES.get(method, EVERYBODY)
    assert (outcomes[role, method] != "forbidden") is allowed


@pytest.mark.parametrize("role", sorted(EVERYBODY))
@pytest.mark.parametrize("method", UNKNOWN)
def test_what_the_table_does_not_name_is_refused(
    outcomes: dict[tuple[str, str], str], method: str, role: str
) -> None:
    assert outcomes[role, method] == "forbidden"


def test_the_table_names_the_whole_contract_and_nothing_else_of_ours() -> None:
    assert sorted(method for method in ALLOWED if method.startswith("/swarmplane.")) == METHODS


async def _refusal(instance: Instance, role: str, wish: Any) -> Any:
    stub: Any = token_pb2_grpc.TokenServiceStub(await instance.channel(await instance.member(role)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Create(wish, timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    return rpc_error_to_swarm_error(caught.value)


async def test_a_refusal_says_what_would_help(instance: Instance) -> None:
    error = await _refusal(instance, "node", token_pb2.CreateTokenRequest())
    assert error.code is Code.FORBIDDEN
    assert "swarmctl token create --role operator" in error.message
    assert error.details == {"method": "TokenService.Create", "role": "node"}


@pytest.mark.parametrize("role", ["admin", "instance"])
async def test_an_operator_can_not_make_itself_an_admin(instance: Instance, role: str) -> None:
    before = await instance.everything(keyspace.PEOPLE, keyspace.TOKENS, keyspace.AUDITS, keyspace.REQUESTS)
    error = await _refusal(instance, "operator", token_pb2.CreateTokenRequest(role=role))
    assert error.code is Code.FORBIDDEN
    after = await instance.everything(keyspace.PEOPLE, keyspace.TOKENS, keyspace.AUDITS, keyspace.REQUESTS)
    assert after == before
    tokens = [
        records.Token.FromString(kv.value) for kv in (await instance.store.range(keyspace.TOKENS)).items
    ]
    assert [token.role for token in tokens] == ["operator"]


async def test_roles_stand_in_the_store_and_not_in_the_certificate(instance: Instance) -> None:
    credential = await instance.member("operator", name="ada")
    await instance.token(credential)
    record = records.Person(name="ada", role="viewer").SerializeToString()
    await instance.store.put(keyspace.person("ada"), record)
    stub: Any = token_pb2_grpc.TokenServiceStub(await instance.channel(credential))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Create(token_pb2.CreateTokenRequest(), timeout=CALL_S)
    assert rpc_error_to_swarm_error(caught.value).code is Code.FORBIDDEN


async def test_a_person_with_a_machines_role_is_nobody(instance: Instance) -> None:
    credential = await instance.member("viewer", name="ada")
    record = records.Person(name="ada", role="instance").SerializeToString()
    await instance.store.put(keyspace.person("ada"), record)
    stub: Any = token_pb2_grpc.TokenServiceStub(await instance.channel(credential))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.List(token_pb2.ListTokensRequest(), timeout=CALL_S)
    assert rpc_error_to_swarm_error(caught.value).code is Code.UNAUTHENTICATED


def test_a_node_acts_on_itself_only() -> None:
    caller = Caller(node_subject(NodeId("aaa"), SwarmId("s")), Role.NODE)
    caller.check_acts_on(NodeId("aaa"))
    with pytest.raises(ForbiddenError, match="swarmctl token create --role operator"):
        caller.check_acts_on(NodeId("bbb"))


async def test_a_certificate_of_another_swarm_gets_no_connection(instance: Instance, tmp_path: Any) -> None:
    async with running_instance(tmp_path / "other") as other:
        stranger = other.admin
    mixed = type(stranger)(instance.authority.ca_pem, stranger.certificate_pem, stranger.key_pem)
    stub: Any = token_pb2_grpc.TokenServiceStub(await instance.channel(mixed))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.List(token_pb2.ListTokensRequest(), timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
