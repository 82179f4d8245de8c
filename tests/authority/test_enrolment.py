"""Enrolment over real sockets: who gets in, under which name, and what a refusal leaves behind: nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from typing import Any, Literal

import grpc
import pytest

from controlplane.services import keyspace
from swarmplane import enrollment
from swarmplane.channels import rpc_error_to_swarm_error, swarm_errors
from swarmplane.codec import records
from swarmplane.credentials import keys
from swarmplane.credentials.join_token import JoinToken, new_join_token, without_token
from swarmplane.credentials.names import Profile
from swarmplane.errors import (
    Code,
    FailedPreconditionError,
    InvalidRequestError,
    SwarmError,
    UnauthenticatedError,
)
from swarmplane.ids import NodeId, SubjectId, TokenId, random_id
from swarmplane.v1 import enrollment_pb2, enrollment_pb2_grpc, token_pb2, token_pb2_grpc
from tests.fakes.authority import CALL_S, Instance, presented_certificate


async def refused(call: Any) -> SwarmError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rpc_error_to_swarm_error(caught.value)


async def test_a_node_joins_with_a_token(instance: Instance) -> None:
    token = await instance.token()
    enrolled = await enrollment.enroll(instance.join_address, token, name="mac", labels={"gpu": "m3"})
    facts = enrolled.credential.check()
    assert facts.subject.profile is Profile.NODE
    assert (enrolled.role, enrolled.name, enrolled.swarm_name) == ("node", "mac", "test")
    assert enrolled.swarm_id == instance.authority.swarm
    assert enrolled.swarm_secret == b""
    assert enrolled.control_addresses == (instance.control_address,)
    kv = await instance.store.get(keyspace.node(NodeId(facts.subject.name)))
    assert kv is not None
    record = records.Node.FromString(kv.value)
    assert (record.name, dict(record.labels), record.token_id) == ("mac", {"gpu": "m3"}, token.id)


async def test_the_first_node_is_the_founders(instance: Instance) -> None:
    token = await instance.token(uses=2)
    first, _ = await instance.enroll(token)
    second, _ = await instance.enroll(token)
    flags = []
    for credential in (first, second):
        kv = await instance.store.get(keyspace.node(NodeId(credential.facts().subject.name)))
        flags.append(kv is not None and records.Node.FromString(kv.value).founder)
    assert flags == [True, False]


async def test_the_presented_leaf_is_enough_to_ask_which_authority_it_is(instance: Instance) -> None:
    leaf = await presented_certificate(instance.join_address)
    stub: Any = enrollment_pb2_grpc.EnrollmentServiceStub(await instance.join_channel(leaf))
    answer = await stub.FetchAuthority(enrollment_pb2.FetchAuthorityRequest(), timeout=CALL_S)
    assert keys.fingerprint(answer.ca_pem.encode()) == instance.authority.fingerprint
    assert (answer.swarm_id, answer.swarm_name, answer.open) == (instance.authority.swarm, "test", False)
    assert len(answer.challenge) >= 32


async def test_taken_names_get_a_suffix(instance: Instance) -> None:
    token = await instance.token(uses=0)
    names = [(await instance.enroll(token, name="mac"))[1].name for _ in range(3)]
    assert names == ["mac", "mac-2", "mac-3"]


async def test_names_stay_unique_when_many_ask_at_once(instance: Instance) -> None:
    token = await instance.token(uses=0)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(instance.enroll(token, name="mac")) for _ in range(12)]
    assert len({task.result()[1].name for task in asked}) == 12


async def test_the_name_of_a_removed_node_is_free_again(instance: Instance) -> None:
    token = await instance.token(uses=0)
    credential, _ = await instance.enroll(token, name="mac")
    await instance.store.delete(keyspace.node(NodeId(credential.facts().subject.name)))
    assert (await instance.enroll(token, name="mac"))[1].name == "mac"


@pytest.mark.parametrize("role", ["admin", "operator", "viewer"])
async def test_a_person_gets_a_certificate_of_its_own_profile(instance: Instance, role: str) -> None:
    credential, answer = await instance.enroll(await instance.token(role=role), name="ada")
    assert (answer.subject_id, answer.role, answer.name) == ("user:ada", role, "ada")
    assert credential.facts().subject.profile is Profile.USER
    assert answer.swarm_secret == b""


async def test_the_name_of_a_denied_person_is_never_given_again(instance: Instance) -> None:
    record = records.Denied(subject_id="user:ada").SerializeToString()
    await instance.store.put(keyspace.denied(SubjectId("user:ada")), record)
    assert (await instance.enroll(await instance.token(role="viewer"), name="ada"))[1].name == "ada-2"


async def test_only_an_instance_gets_the_swarm_secret(instance: Instance) -> None:
    credential, answer = await instance.enroll(await instance.token(role="instance"))
    assert answer.swarm_secret == instance.authority.secret.value
    first = credential.facts().subject
    other = (await instance.enroll(await instance.token(role="instance")))[0].facts().subject
    assert (first.profile, other.profile) == (Profile.CONTROL, Profile.CONTROL)
    assert answer.subject_id == first.id
    assert len({"", first.name, other.name}) == 3, "each is called otherwise"


async def _exhausted(instance: Instance) -> JoinToken:
    token = await instance.token(uses=1)
    await instance.enroll(token)
    return token


async def _revoked(instance: Instance) -> JoinToken:
    token = await instance.token()
    stub: Any = token_pb2_grpc.TokenServiceStub(await instance.channel())
    await stub.Revoke(token_pb2.RevokeTokenRequest(id=token.id), timeout=CALL_S)
    return token


async def _expired(instance: Instance) -> JoinToken:
    token = await instance.token(ttl_s=60)
    instance.wall.ahead_s = 61
    return token


async def _wrong(instance: Instance) -> JoinToken:
    token = await instance.token()
    return dataclasses.replace(token, secret=new_join_token(token.fingerprint).secret)


async def _unknown(instance: Instance) -> JoinToken:
    return new_join_token(instance.authority.fingerprint)


async def _none(instance: Instance) -> JoinToken:
    return JoinToken(TokenId(""), "", instance.authority.fingerprint)


async def _of_another_swarm(instance: Instance) -> JoinToken:
    token = await instance.token()
    return dataclasses.replace(token, fingerprint="a" * 52)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(_exhausted, "used up", id="used-up"),
        pytest.param(_revoked, "revoked", id="revoked"),
        pytest.param(_expired, "expired", id="expired"),
        pytest.param(_wrong, "wrong", id="wrong-secret"),
        pytest.param(_unknown, "no such token", id="unknown"),
        pytest.param(_none, "with a token only", id="none-towards-a-closed-swarm"),
        pytest.param(_of_another_swarm, "fingerprint", id="another-authority"),
    ],
)
async def test_a_bad_token_is_refused_in_its_own_words_and_leaves_nothing(
    instance: Instance, make: Any, words: str
) -> None:
    token = await make(instance)
    before, revision = await instance.everything(), await instance.store.revision()
    with pytest.raises(UnauthenticatedError) as caught:
        await enrollment.enroll(instance.join_address, token, name="mac")
    assert words in caught.value.message
    assert caught.value.code is Code.UNAUTHENTICATED
    assert await instance.everything() == before
    assert await instance.store.revision() == revision


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        pytest.param({"csr_der": b"no request"}, "csr_der", id="no-request"),
        pytest.param({"csr_der": b""}, "csr_der", id="no-request-at-all"),
        pytest.param({"name": "Not A Name"}, "name", id="name"),
        pytest.param({"name": "x" * 64}, "name", id="long-name"),
        pytest.param({"labels": [{"key": "NO", "value": "x"}]}, "label", id="label"),
        pytest.param({"labels": [{"key": "a", "value": "x" * 254}]}, "label", id="long-label"),
        pytest.param({"labels": [{"key": f"a{n}", "value": ""} for n in range(65)]}, "labels", id="labels"),
        pytest.param({"request_id": "\n"}, "name", id="request-id"),
    ],
)
async def test_a_malformed_request_is_refused_and_leaves_nothing(
    instance: Instance, wish: dict[str, Any], words: str
) -> None:
    token = await instance.token()
    before = await instance.everything()
    error = await refused(instance.enroll(token, **wish))
    assert error.code is Code.INVALID_REQUEST
    assert words in error.message
    assert await instance.everything() == before


async def test_a_request_signed_by_another_key_is_refused(instance: Instance) -> None:
    from swarmplane.credentials import csr

    good = csr.make_csr(keys.new_private_key())
    error = await refused(instance.enroll(await instance.token(), csr_der=good[:-1] + bytes([good[-1] ^ 1])))
    assert error.code is Code.INVALID_REQUEST


async def test_a_token_is_spent_exactly_as_often_as_it_may_be(instance: Instance) -> None:
    token = await instance.token(uses=3)
    channels = [await instance.join_channel() for _ in range(4)]

    async def attempt(number: int) -> str:
        try:
            await instance.enroll(token, channel=channels[number % 4])
        except grpc.aio.AioRpcError as error:
            return rpc_error_to_swarm_error(error).details["token"]
        return "enrolled"

    async with asyncio.TaskGroup() as group:
        attempts = [group.create_task(attempt(number)) for number in range(20)]
    assert Counter(task.result() for task in attempts) == {"enrolled": 3, "used_up": 17}
    assert len((await instance.store.range(keyspace.NODES)).items) == 3
    kv = await instance.store.get(keyspace.token(token.id))
    assert kv is not None
    assert records.Token.FromString(kv.value).used == 3


async def test_the_same_request_gets_the_same_answer_and_spends_one_use(instance: Instance) -> None:
    token, key, request_id = await instance.token(uses=1), keys.new_private_key(), random_id()
    from swarmplane.credentials import csr

    wish: dict[str, Any] = {"csr_der": csr.make_csr(key), "request_id": request_id, "name": "mac"}
    _, first = await instance.enroll(token, key=key, **wish)
    _, again = await instance.enroll(token, key=key, **wish)
    assert again == first
    error = await refused(instance.enroll(token, key=key, **{**wish, "name": "other"}))
    assert "request_id" in error.message
    kept = (await instance.store.range(keyspace.REQUESTS)).items
    assert kept
    assert all(kv.lease for kv in kept)
    assert all(first.certificate_pem.encode() not in kv.value for kv in kept)


async def test_the_same_request_at_the_same_time_enrols_once(instance: Instance) -> None:
    from swarmplane.credentials import csr

    token, key = await instance.token(uses=0), keys.new_private_key()
    wish: dict[str, Any] = {"csr_der": csr.make_csr(key), "request_id": random_id()}
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(instance.enroll(token, key=key, **wish)) for _ in range(8)]
    assert len({task.result()[1].subject_id for task in asked}) == 1
    assert len((await instance.store.range(keyspace.NODES)).items) == 1


async def _set_open(instance: Instance, *, is_open: bool) -> None:
    kv = await instance.store.get(keyspace.SWARM)
    assert kv is not None
    record = records.Swarm.FromString(kv.value)
    record.open = is_open
    await instance.store.put(keyspace.SWARM, record.SerializeToString())


async def test_an_open_swarm_takes_nodes_without_a_token(instance: Instance) -> None:
    nobody = without_token(instance.authority.fingerprint)
    await _set_open(instance, is_open=True)
    _, answer = await instance.enroll(nobody)
    assert answer.role == "node"
    asked = await enrollment.ask_authority(instance.join_address)
    assert (asked.open, asked.fingerprint) == (True, instance.authority.fingerprint)
    await _set_open(instance, is_open=False)
    with pytest.raises(UnauthenticatedError, match="swarmctl token create"):
        await enrollment.enroll(instance.join_address, nobody, name="late")
    assert not (await enrollment.ask_authority(instance.join_address)).open


async def test_an_open_swarm_refuses_a_nodes_token_and_does_not_spend_it(instance: Instance) -> None:
    token = await instance.token()
    await _set_open(instance, is_open=True)
    with pytest.raises(FailedPreconditionError, match="without a token"):
        await enrollment.enroll(instance.join_address, token, name="mac")
    await _set_open(instance, is_open=False)
    assert (await enrollment.enroll(instance.join_address, token, name="mac")).name == "mac"


@pytest.mark.parametrize("profile", ["instance", "person"])
async def test_an_open_swarm_makes_nodes_only(
    instance: Instance, profile: Literal["instance", "person"]
) -> None:
    await _set_open(instance, is_open=True)
    nobody = without_token(instance.authority.fingerprint)
    with pytest.raises(InvalidRequestError, match="nodes only"):
        await enrollment.enroll(instance.join_address, nobody, name="eve", profile=profile)
    token = await instance.token(role="operator")
    assert (await enrollment.enroll(instance.join_address, token, name="ann")).role == "operator"


async def test_whoever_stands_in_between_is_not_enrolled_with(instance: Instance) -> None:
    await _set_open(instance, is_open=True)
    with pytest.raises(UnauthenticatedError, match="fingerprint"):
        await enrollment.enroll(instance.join_address, without_token("f" * 52), name="mac")


async def test_every_enrolment_is_audited_in_its_own_transaction(instance: Instance) -> None:
    token = await instance.token()
    await instance.enroll(token, name="mac")
    audits = (await instance.store.range(keyspace.AUDITS)).items
    actions = [records.Audit.FromString(kv.value).action for kv in audits]
    assert actions == ["swarm.found", "token.create", "node.enroll"]
    last = records.Audit.FromString(audits[-1].value)
    kv = await instance.store.get(keyspace.node(NodeId(last.subject)))
    assert kv is not None
    assert kv.mod_revision == audits[-1].mod_revision
    assert last.actor == f"token:{token.id}"
    assert all(token.secret.encode() not in kv.value for kv in (await instance.store.range("")).items)


async def test_only_enrolment_is_served_without_a_certificate(instance: Instance) -> None:
    stub: Any = token_pb2_grpc.TokenServiceStub(await instance.join_channel())
    with pytest.raises(SwarmError) as caught, swarm_errors():
        await stub.List(token_pb2.ListTokensRequest(), timeout=CALL_S)
    assert caught.value.code is Code.METHOD_NOT_ALLOWED


async def test_the_control_listener_refuses_callers_without_a_certificate(instance: Instance) -> None:
    from swarmplane.channels import enrollment_channel

    async with await enrollment_channel(instance.control_address, instance.authority.ca_pem) as channel:
        stub: Any = token_pb2_grpc.TokenServiceStub(channel)
        with pytest.raises(SwarmError) as caught, swarm_errors():
            await stub.List(token_pb2.ListTokensRequest(), timeout=CALL_S)
    assert caught.value.code is Code.UNAVAILABLE


@pytest.mark.parametrize(
    ("role", "profile", "words"),
    [
        ("node", "person", "swarmctl join ADDRESS"),
        ("operator", "node", "swarmctl login ADDRESS"),
        ("instance", "node", "an instance (instance), not a node"),
        ("node", "instance", "swarmctl token create --role instance"),
        ("node", "pet", "say one of node, instance, person"),
    ],
)
async def test_a_token_of_another_role_is_not_spent(
    instance: Instance, role: str, profile: Any, words: str
) -> None:
    token = await instance.token(role=role, uses=1)
    before = await instance.everything()
    with pytest.raises(SwarmError) as caught:
        await enrollment.enroll(instance.join_address, token, name="mac", profile=profile)
    assert caught.value.code is Code.INVALID_REQUEST
    assert words in caught.value.message
    assert await instance.everything() == before, "neither spent nor enrolled"
    right = {"operator": "person"}.get(role, role)
    _, answer = await instance.enroll(token, profile=right)
    assert answer.role == role
