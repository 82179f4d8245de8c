"""Tokens over real calls: made, listed in pages, revoked, repeatable."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from controlplane.services import keyspace
from swarmplane.channels import rpc_error_to_swarm_error
from swarmplane.codec import records
from swarmplane.credentials.join_token import parse_join_token
from swarmplane.errors import Code
from swarmplane.v1 import token_pb2 as pb
from swarmplane.v1 import token_pb2_grpc
from tests.fakes.authority import CALL_S, Instance


@pytest.fixture
async def stub(instance: Instance) -> Any:
    return token_pb2_grpc.TokenServiceStub(await instance.channel())


async def refused(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rpc_error_to_swarm_error(caught.value)


async def test_defaults_are_one_node_for_a_day(instance: Instance, stub: Any) -> None:
    answer = await stub.Create(pb.CreateTokenRequest(), timeout=CALL_S)
    token = answer.token
    assert (token.role, token.uses, token.used, token.state) == ("node", 1, 0, "active")
    assert token.expires_at_s - token.created_at_s == 86_400
    assert token.created_by == "user:admin"
    assert token.revision == await instance.store.revision()
    parsed = parse_join_token(answer.join_token)
    assert (parsed.id, parsed.fingerprint) == (token.id, instance.authority.fingerprint)
    assert list(answer.join_addresses) == []


async def test_no_limits_are_asked_for_with_zeroes(stub: Any) -> None:
    token = (await stub.Create(pb.CreateTokenRequest(uses=0, ttl_s=0), timeout=CALL_S)).token
    assert (token.uses, token.expires_at_s) == (0, 0)


@pytest.mark.parametrize(
    "wish",
    [{"role": "king"}, {"role": "client"}, {"uses": 2**32 - 1}, {"ttl_s": 2**40}, {"request_id": "\0"}],
)
async def test_nonsense_is_refused(instance: Instance, stub: Any, wish: dict[str, Any]) -> None:
    before = await instance.everything()
    assert (await refused(stub.Create(pb.CreateTokenRequest(**wish), timeout=CALL_S))).code is (
        Code.INVALID_REQUEST
    )
    assert await instance.everything() == before


async def test_the_same_request_makes_one_token(instance: Instance, stub: Any) -> None:
    request = pb.CreateTokenRequest(role="viewer", request_id="r1")
    first = await stub.Create(request, timeout=CALL_S)
    assert await stub.Create(request, timeout=CALL_S) == first
    assert len((await instance.store.range(keyspace.TOKENS)).items) == 1
    error = await refused(stub.Create(pb.CreateTokenRequest(request_id="r1"), timeout=CALL_S))
    assert "request_id" in error.message


async def test_request_ids_are_each_subjects_own(instance: Instance, stub: Any) -> None:
    request = pb.CreateTokenRequest(request_id="r1")
    first = await stub.Create(request, timeout=CALL_S)
    operator: Any = token_pb2_grpc.TokenServiceStub(await instance.channel(await instance.member("operator")))
    second = await operator.Create(request, timeout=CALL_S)
    assert second.token.id != first.token.id


async def test_pages_belong_together(stub: Any) -> None:
    made = {(await stub.Create(pb.CreateTokenRequest(), timeout=CALL_S)).token.id for _ in range(5)}
    seen: list[str] = []
    token = ""
    for _ in range(10):
        page = await stub.List(pb.ListTokensRequest(page_size=2, page_token=token), timeout=CALL_S)
        seen += [one.id for one in page.tokens]
        if len(seen) == 2:
            await stub.Create(pb.CreateTokenRequest(), timeout=CALL_S)
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(made)
    assert (await refused(stub.List(pb.ListTokensRequest(page_token="x"), timeout=CALL_S))).code is (
        Code.INVALID_REQUEST
    )
    assert (await refused(stub.List(pb.ListTokensRequest(page_size=1001), timeout=CALL_S))).code is (
        Code.INVALID_REQUEST
    )


async def test_lists_have_no_secrets(instance: Instance, stub: Any) -> None:
    token = await instance.token()
    listed = await stub.List(pb.ListTokensRequest(), timeout=CALL_S)
    assert token.secret.encode() not in listed.SerializeToString()
    assert token.fingerprint.encode() not in listed.SerializeToString()


async def test_states_are_told(instance: Instance, stub: Any) -> None:
    spent, kept, short = await instance.token(), await instance.token(), await instance.token(ttl_s=10)
    await instance.enroll(spent)
    await stub.Revoke(pb.RevokeTokenRequest(id=kept.id), timeout=CALL_S)
    instance.wall.ahead_s = 11
    listed = (await stub.List(pb.ListTokensRequest(), timeout=CALL_S)).tokens
    states = {token.id: token.state for token in listed}
    assert states == {spent.id: "used_up", kept.id: "revoked", short.id: "expired"}


async def test_revoking_again_changes_nothing(instance: Instance, stub: Any) -> None:
    token = await instance.token()
    first = await stub.Revoke(pb.RevokeTokenRequest(id=token.id), timeout=CALL_S)
    revision = await instance.store.revision()
    again = await stub.Revoke(pb.RevokeTokenRequest(id=token.id), timeout=CALL_S)
    assert again == first
    assert (first.token.state, first.token.revision) == ("revoked", revision)
    assert await instance.store.revision() == revision


async def test_revoking_what_is_not_there_or_has_changed(instance: Instance, stub: Any) -> None:
    error = await refused(stub.Revoke(pb.RevokeTokenRequest(id="nope"), timeout=CALL_S))
    assert (error.code, "swarmctl token list" in error.message) == (Code.NOT_FOUND, True)
    token = await instance.token(uses=2)
    at = (await stub.List(pb.ListTokensRequest(), timeout=CALL_S)).tokens[0].revision
    await instance.enroll(token)
    request = pb.RevokeTokenRequest(id=token.id, expected_revision=at)
    error = await refused(stub.Revoke(request, timeout=CALL_S))
    assert error.code is Code.CONFLICT
    assert int(error.details["revision"]) > at


async def test_an_operator_can_not_revoke_an_admins_token(instance: Instance) -> None:
    token = await instance.token(role="admin")
    operator: Any = token_pb2_grpc.TokenServiceStub(await instance.channel(await instance.member("operator")))
    error = await refused(operator.Revoke(pb.RevokeTokenRequest(id=token.id), timeout=CALL_S))
    assert error.code is Code.FORBIDDEN


async def test_fields_of_newer_versions_survive_a_spending(instance: Instance) -> None:
    token = await instance.token(uses=2)
    kv = await instance.store.get(keyspace.token(token.id))
    assert kv is not None
    unknown = b"\xa2\x06\x03new"  # field 100, a string
    await instance.store.put(kv.key, kv.value + unknown)
    await instance.enroll(token)
    kv = await instance.store.get(keyspace.token(token.id))
    assert kv is not None
    assert unknown in kv.value
    assert records.Token.FromString(kv.value).used == 1
