"""An impostor on the enrolment port: what it is told, and above all what it is not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from swarmplane import enrollment
from swarmplane.credentials import csr, keys
from swarmplane.credentials.authority import Authority, found_authority, issue
from swarmplane.credentials.names import control_subject
from swarmplane.errors import FailedPreconditionError, SwarmError, UnauthenticatedError, UnavailableError
from swarmplane.ids import SwarmId
from swarmplane.locating import locate
from swarmplane.v1 import enrollment_pb2 as pb
from swarmplane.v1 import enrollment_pb2_grpc
from tests.fakes.authority import Instance


class Impostor(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """Answers like an authority and keeps every byte it was sent."""

    def __init__(self, shown_ca: bytes, swarm: str) -> None:
        self.received: list[bytes] = []
        self._shown_ca = shown_ca
        self._swarm = swarm

    async def FetchAuthority(self, request: Any, context: Any) -> pb.FetchAuthorityResponse:  # noqa: N802
        del context
        self.received.append(b"FetchAuthority:" + request.SerializeToString())
        return pb.FetchAuthorityResponse(
            ca_pem=self._shown_ca.decode(), swarm_id=self._swarm, swarm_name="test", challenge=b"c" * 32
        )

    async def Enroll(self, request: Any, context: Any) -> pb.EnrollResponse:  # noqa: N802
        del context
        self.received.append(b"Enroll:" + request.SerializeToString())
        return pb.EnrollResponse()


@asynccontextmanager
async def impostor(own: Authority, shown_ca: bytes, swarm: SwarmId) -> AsyncIterator[tuple[Impostor, str]]:
    """An impostor with a certificate of ``own`` that claims to be the authority ``shown_ca``."""
    key = keys.new_private_key()
    certificate = issue(own, csr.public_key_of(csr.make_csr(key)), control_subject(swarm), time.time())
    server, servicer = grpc.aio.server(), Impostor(shown_ca, swarm)
    enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(servicer, server)
    credentials = grpc.ssl_server_credentials([(keys.private_key_to_pem(key), certificate)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def test_an_impostor_with_its_own_authority_never_gets_the_secret(instance: Instance) -> None:
    token, swarm = await instance.token(), instance.authority.swarm
    own = found_authority(swarm, time.time())
    async with impostor(own, own.certificate_pem, swarm) as (seen, address):
        with pytest.raises(UnauthenticatedError) as caught:
            await enrollment.enroll(address, token, name="mac")
    assert "fingerprint" in caught.value.message
    assert seen.received == [b"FetchAuthority:"]


async def test_an_impostor_that_shows_the_real_authority_never_gets_the_secret(instance: Instance) -> None:
    """The CA certificate is public: showing it proves nothing, the second channel does."""
    token, swarm = await instance.token(), instance.authority.swarm
    own = found_authority(swarm, time.time())
    async with impostor(own, instance.authority.ca_pem, swarm) as (seen, address):
        with pytest.raises(SwarmError):
            await enrollment.enroll(address, token, name="mac")
    assert seen.received == [b"FetchAuthority:"]


async def test_a_node_of_the_swarm_can_not_play_the_authority(instance: Instance) -> None:
    """Its certificate is of the real CA, but not for the name that joiners verify."""
    token = await instance.token(uses=2)
    credential, _ = await instance.enroll(token)
    servicer, server = Impostor(instance.authority.ca_pem, instance.authority.swarm), grpc.aio.server()
    enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(servicer, server)
    credentials = grpc.ssl_server_credentials([(credential.key_pem, credential.certificate_pem)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        with pytest.raises(SwarmError):
            await enrollment.enroll(f"127.0.0.1:{port}", token, name="mac")
    finally:
        await server.stop(0)
    assert not [sent for sent in servicer.received if token.secret.encode() in sent]
    assert not [sent for sent in servicer.received if sent.startswith(b"Enroll")]


async def test_a_listener_that_is_too_busy_is_not_called_a_wrong_one(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked as often as time allows, and an answer to a later try counts."""
    monkeypatch.setattr(enrollment, "CALL_S", 1.0)
    token = await instance.token()
    join = f"127.0.0.1:{instance.servers.join_bound.port}"
    located = await locate(join)
    busy: Any = Busy(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", times=99)
    with pytest.raises(UnavailableError, match="does not answer in time"):
        await enrollment._fetch_authority(busy, located)
    said = (
        "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Handshaker shutdown"
    )
    busy = Busy(grpc.StatusCode.UNAVAILABLE, said, times=1)
    assert (await enrollment._fetch_authority(busy, located)).swarm_name == "late"
    wrong: Any = Busy(
        grpc.StatusCode.UNAVAILABLE, "Cannot check peer: missing selected ALPN property.", times=99
    )
    with pytest.raises(FailedPreconditionError, match="no enrolment listener"):
        await enrollment._fetch_authority(wrong, located)
    assert wrong.asked == 1
    assert (await enrollment.enroll(join, token, name="mac")).role == "node"


class Busy:
    """A listener that fails ``times`` times."""

    def __init__(self, code: grpc.StatusCode, said: str, *, times: int) -> None:
        self.asked = 0
        self._left = times
        self._error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), said)

    async def FetchAuthority(self, request: Any, *, timeout: float) -> pb.FetchAuthorityResponse:  # noqa: N802
        del request, timeout
        self.asked += 1
        self._left -= 1
        if self._left >= 0:
            raise self._error
        return pb.FetchAuthorityResponse(swarm_name="late")
