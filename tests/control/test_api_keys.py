"""API keys of clients, from the call to what sidecars check by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import grpc
import pytest

from controlplane.services import keyspace
from swarmplane.channels import rpc_error_to_swarm_error
from swarmplane.client_keys import PREFIX, ClientKey, key_digest
from swarmplane.codec import records
from swarmplane.codec.table import table_from_bytes, table_to_bytes
from swarmplane.errors import Code
from swarmplane.v1 import key_pb2 as pb
from swarmplane.v1 import key_pb2_grpc
from tests.fakes.authority import until
from tests.fakes.control import Plane, SidecarEnd


async def stub(plane: Plane, role: str = "operator") -> Any:
    return key_pb2_grpc.KeyServiceStub(await plane.channel(await plane.member(role)))


async def create(keys: Any, **wanted: Any) -> pb.CreateKeyResponse:
    made: pb.CreateKeyResponse = await keys.Create(pb.CreateKeyRequest(**wanted), timeout=10)
    return made


async def refused(call: Any) -> Code:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return rpc_error_to_swarm_error(error).code
    raise AssertionError("done")


def known(end: SidecarEnd) -> tuple[ClientKey, ...]:
    return end.policy.keys if end.policy is not None else ()


async def test_a_key_reaches_the_sidecars_hashed_and_leaves_them(plane: Plane) -> None:
    """Kills: the key itself in the store or on the wire, a revoked key that stays, another one's id."""
    keys = await stub(plane)
    _, credential = await plane.node("one")
    async with plane.stream(credential) as end:
        made = await create(
            keys, name="ci", models=["m", "qwen*"], manage=True, requests_per_minute=60,
            tokens_per_day=1_000_000, concurrency=3, ttl_s=3600,
        )  # fmt: skip
        assert made.secret.startswith(PREFIX)
        await until(lambda: len(known(end)) == 1)
        (one,) = known(end)
        assert one.digest == key_digest(made.secret.encode())
        assert (one.id, one.name, one.models) == (made.key.id, "ci", ("m", "qwen*"))
        assert (one.manage, one.requests_per_minute, one.tokens_per_day) == (True, 60, 1_000_000)
        assert (one.concurrency, one.expires_at_s) == (3, made.key.expires_at_s)
        assert one.expires_at_s - made.key.created_at_s == 3600
        stored = await plane.store.range("")
        assert not any(made.secret.encode() in kv.value for kv in stored.items)
        assert table_from_bytes(table_to_bytes(replace(end.table, keys=(one,)))).keys == (one,)
        (listed,) = (await keys.List(pb.ListKeysRequest())).keys
        assert (listed.id, listed.state, listed.revision) == (one.id, "active", made.key.revision)
        ended = await keys.Revoke(pb.RevokeKeyRequest(id="ci"))
        assert ended.id == one.id
        await until(lambda: known(end) == ())
        assert not (await keys.List(pb.ListKeysRequest())).keys
        written = (await plane.store.range(keyspace.AUDITS)).items
        audits = [records.parse(records.Audit, kv.value) for kv in written]
        assert [one.action for one in audits if one.action.startswith("key.")] == ["key.create", "key.revoke"]
        assert not any(made.secret in str(one) for one in audits)


async def test_a_repeated_request_makes_one_key(plane: Plane) -> None:
    keys = await stub(plane)
    first = await create(keys, name="a", request_id="r1")
    again = await create(keys, name="a", request_id="r1")
    assert (first.secret, first.key.id) == (again.secret, again.key.id)
    assert len((await keys.List(pb.ListKeysRequest())).keys) == 1


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param({"name": "x" * 65}, id="long-name"),
        pytest.param({"name": "a\nb"}, id="control-character"),
        pytest.param({"models": ["m"] * 65}, id="many-models"),
        pytest.param({"models": [""]}, id="empty-model"),
        pytest.param({"models": ["*a*b*c*d*"]}, id="many-stars"),
        pytest.param({"ttl_s": 1 << 40}, id="long-life"),
        pytest.param({"tokens_per_day": 1 << 60}, id="large-figure"),
    ],
)
async def test_what_makes_no_key(plane: Plane, wanted: dict[str, Any]) -> None:
    assert await refused(create(await stub(plane), **wanted)) is Code.INVALID_REQUEST


async def test_who_may_and_what_there_is(plane: Plane) -> None:
    keys, viewer = await stub(plane), await stub(plane, "viewer")
    made = await create(keys, name="one")
    assert await refused(create(viewer, name="two")) is Code.FORBIDDEN
    assert await refused(viewer.Revoke(pb.RevokeKeyRequest(id=made.key.id))) is Code.FORBIDDEN
    assert [one.name for one in (await viewer.List(pb.ListKeysRequest())).keys] == ["one"]
    assert await refused(create(keys, name="one")) is Code.CONFLICT
    assert await refused(keys.Revoke(pb.RevokeKeyRequest(id="none"))) is Code.NOT_FOUND
    assert await refused(keys.Revoke(pb.RevokeKeyRequest(id=""))) is Code.NOT_FOUND
    stale = pb.RevokeKeyRequest(id="one", expected_revision=made.key.revision + 1)
    assert await refused(keys.Revoke(stale)) is Code.CONFLICT
    await keys.Revoke(pb.RevokeKeyRequest(id="one", expected_revision=made.key.revision))
