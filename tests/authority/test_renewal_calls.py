"""Renewal over mutual TLS, after the end by proof of the key, and never for whoever was removed."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest

from controlplane.services import keyspace
from controlplane.services.denials import denial
from swarmplane import enrollment
from swarmplane.channels import rpc_error_to_swarm_error, swarm_errors
from swarmplane.credentials import csr, keys
from swarmplane.credentials.authority import issue
from swarmplane.credentials.files import Credential, load_credential, save_credential
from swarmplane.credentials.lifetime import DAY_S
from swarmplane.credentials.names import Subject
from swarmplane.credentials.renewal import prove
from swarmplane.errors import Code, SwarmError
from swarmplane.ids import NodeId, SubjectId
from swarmplane.v1 import certificate_pb2, certificate_pb2_grpc, enrollment_pb2, enrollment_pb2_grpc
from tests.fakes.authority import CALL_S, Instance


def aged(instance: Instance, credential: Credential, *, ended_days_ago: float) -> Credential:
    """The same subject and key with a certificate that ended some time ago."""
    key = keys.private_key_from_pem(credential.key_pem)
    subject = credential.facts().subject
    ended_s = time.time() - ended_days_ago * DAY_S
    certificate = issue(instance.authority.ca, key.public_key(), subject, ended_s, lifetime_s=0)
    return credential.with_certificate(certificate)


def let_end(instance: Instance, credential: Credential, *, days_ago: float) -> None:
    """Move the instance's clock to where the certificate ended some time ago."""
    instance.wall.ahead_s = credential.facts().not_after_s + days_ago * DAY_S - time.time()


async def renewed_by_proof(
    instance: Instance, credential: Credential, signer: Credential | None = None, **other: Any
) -> Credential:
    stub: Any = enrollment_pb2_grpc.EnrollmentServiceStub(await instance.join_channel())
    key = keys.private_key_from_pem((signer or credential).key_pem)
    with swarm_errors():
        fetched = await stub.FetchAuthority(enrollment_pb2.FetchAuthorityRequest(), timeout=CALL_S)
        challenge = other.get("challenge", fetched.challenge)
        csr_der = csr.make_csr(key)
        request = enrollment_pb2.RenewExpiredRequest(
            certificate_pem=credential.certificate_pem.decode(),
            csr_der=csr_der,
            challenge=challenge,
            signature=other.get("signature", prove(key, challenge, csr_der)),
        )
        answer = await stub.Renew(request, timeout=CALL_S)
    return credential.with_certificate(answer.certificate_pem.encode())


@pytest.mark.parametrize("role", ["node", "viewer", "instance"])
async def test_a_certificate_is_renewed_over_mutual_tls(instance: Instance, role: str) -> None:
    credential = await instance.member(role)
    instance.wall.ahead_s = 1 * DAY_S
    stub: Any = certificate_pb2_grpc.CertificateServiceStub(await instance.channel(credential))
    request = csr.make_csr(keys.private_key_from_pem(credential.key_pem))
    answer = await stub.Renew(certificate_pb2.RenewRequest(csr_der=request), timeout=CALL_S)
    renewed = credential.with_certificate(answer.certificate_pem.encode())
    before, after = credential.facts(), renewed.check()
    assert after.subject == before.subject
    assert after.not_after_s - before.not_after_s == pytest.approx(DAY_S, abs=60)
    assert answer.lifetime_s == (30 if role == "viewer" else 7) * DAY_S
    assert answer.ca_pem.encode() == instance.authority.ca_pem


async def test_renewal_takes_only_the_key_of_a_request(instance: Instance) -> None:
    credential = await instance.member("node")
    new = keys.new_private_key()
    stub: Any = certificate_pb2_grpc.CertificateServiceStub(await instance.channel(credential))
    answer = await stub.Renew(certificate_pb2.RenewRequest(csr_der=csr.make_csr(new)), timeout=CALL_S)
    other = Credential(answer.ca_pem.encode(), answer.certificate_pem.encode(), keys.private_key_to_pem(new))
    assert other.check().subject == credential.facts().subject


async def test_an_ended_certificate_opens_no_control_connection(instance: Instance) -> None:
    credential = aged(instance, await instance.member("node"), ended_days_ago=1)
    stub: Any = certificate_pb2_grpc.CertificateServiceStub(await instance.channel(credential))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Renew(certificate_pb2.RenewRequest(), timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("role", ["node", "viewer", "instance"])
async def test_an_ended_certificate_is_renewed_by_proof_of_its_key(instance: Instance, role: str) -> None:
    credential = await instance.member(role)
    let_end(instance, credential, days_ago=89)
    before = await instance.everything()
    renewed = await renewed_by_proof(instance, credential)
    assert renewed.check().subject == credential.facts().subject
    assert renewed.facts().not_after_s > time.time()
    assert await instance.everything() == before


async def test_the_client_renews_what_ended_in_its_files(instance: Instance, tmp_path: Any) -> None:
    credential = aged(instance, await instance.member("node"), ended_days_ago=5)
    save_credential(tmp_path / "node", credential)
    await enrollment.renew_expired(tmp_path / "node", [instance.join_address])
    assert load_credential(tmp_path / "node").check().not_after_s > time.time()


async def test_after_ninety_days_a_new_token_is_needed(instance: Instance) -> None:
    credential = await instance.member("node")
    let_end(instance, credential, days_ago=91)
    with pytest.raises(SwarmError, match="90 days") as caught:
        await renewed_by_proof(instance, credential)
    assert caught.value.code is Code.UNAUTHENTICATED


async def test_another_key_proves_nothing(instance: Instance) -> None:
    mine, other = await instance.member("node"), await instance.member("node")
    with pytest.raises(SwarmError, match="signature"):
        await renewed_by_proof(instance, mine, signer=other)
    with pytest.raises(SwarmError, match="signature"):
        await renewed_by_proof(instance, mine, signature=b"")


async def test_a_made_up_challenge_is_refused(instance: Instance) -> None:
    credential = await instance.member("node")
    for challenge in (b"", b"c" * 56, b"c" * 57):
        with pytest.raises(SwarmError, match="challenge"):
            await renewed_by_proof(instance, credential, challenge=challenge)


async def test_a_challenge_is_good_for_two_minutes(instance: Instance) -> None:
    credential = await instance.member("node")
    old = instance.authority.secret.new_challenge(time.time() - 121)
    with pytest.raises(SwarmError, match="too old"):
        await renewed_by_proof(instance, credential, challenge=old)


async def test_a_certificate_of_another_authority_is_refused(instance: Instance) -> None:
    from swarmplane.credentials.authority import found_authority

    mine = await instance.member("node")
    facts = mine.facts()
    key = keys.private_key_from_pem(mine.key_pem)
    other = found_authority(facts.subject.swarm, time.time())
    forged = mine.with_certificate(issue(other, key.public_key(), facts.subject, time.time()))
    with pytest.raises(SwarmError, match="authority"):
        await renewed_by_proof(instance, forged)


async def deny(instance: Instance, subject: Subject) -> None:
    put = denial(SubjectId(subject.id), "for a test", time.time())
    await instance.store.put(put.key, put.value)


@pytest.mark.parametrize("role", ["node", "viewer"])
async def test_whoever_was_denied_renews_nothing_any_way(instance: Instance, role: str) -> None:
    credential = await instance.member(role)
    channel = await instance.channel(credential)
    await deny(instance, credential.facts().subject)
    stub: Any = certificate_pb2_grpc.CertificateServiceStub(channel)
    request = csr.make_csr(keys.private_key_from_pem(credential.key_pem))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Renew(certificate_pb2.RenewRequest(csr_der=request), timeout=CALL_S)
    error = rpc_error_to_swarm_error(caught.value)
    assert (error.code, "removed" in error.message) == (Code.UNAUTHENTICATED, True)
    with pytest.raises(SwarmError, match="removed"):
        await renewed_by_proof(instance, aged(instance, credential, ended_days_ago=1))


async def test_a_node_that_the_store_forgot_renews_nothing(instance: Instance) -> None:
    credential = await instance.member("node")
    await instance.store.delete(keyspace.node(NodeId(credential.facts().subject.name)))
    with pytest.raises(SwarmError, match="does not know"):
        await renewed_by_proof(instance, aged(instance, credential, ended_days_ago=1))
