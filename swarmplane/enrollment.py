"""Joining a swarm, seen from the one who joins: trust first, secret after (PROTOCOL section 1).

The certificate of the enrolment listener is fetched without trusting it, the swarm's CA is asked for, and
its key is compared with the fingerprint in the token. Only over a new channel that is rooted in that CA is
the token's secret sent. What fails before leaves nothing behind, here or there.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import grpc

from swarmplane.addresses import Address
from swarmplane.channels import enrollment_channel, swarm_errors
from swarmplane.credentials import csr, keys
from swarmplane.credentials.files import Credential, load_credential, save_renewed
from swarmplane.credentials.join_token import JoinToken
from swarmplane.credentials.renewal import prove
from swarmplane.errors import (
    Code,
    FailedPreconditionError,
    SwarmError,
    UnauthenticatedError,
    UnavailableError,
    reason_of,
)
from swarmplane.ids import random_id
from swarmplane.locating import Located, addresses_of, locate
from swarmplane.ports import CONTROL_PORT
from swarmplane.v1 import common_pb2, enrollment_pb2_grpc
from swarmplane.v1 import enrollment_pb2 as pb

CONNECT_S: Final = 5.0
CALL_S: Final = 20.0
_TRIES: Final = 3
_AGAIN_S: Final = 0.3
_SLOW_WORDS: Final = ("timed out", "timeout", "deadline", "handshaker shutdown")
"""In what gRPC says of a connection that was given up, in lower case; of a wrong one it says otherwise."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a join token bought."""

    credential: Credential
    subject_id: str
    """A node id, ``control``, or ``user:<name>``."""
    role: str
    name: str
    """Differs from the wish after a clash."""
    swarm_id: str
    swarm_name: str
    control_addresses: tuple[str, ...]
    """``host:port`` of control planes, most preferred first; never empty."""
    join_addresses: tuple[str, ...]
    swarm_secret: bytes
    """To role ``instance`` alone."""


class _Authority(Protocol):
    """The stub of ``EnrollmentService``; generated code carries no types."""

    def FetchAuthority(  # noqa: N802 - as in enrollment.proto, like the next two
        self, request: pb.FetchAuthorityRequest, *, timeout: float
    ) -> Awaitable[pb.FetchAuthorityResponse]: ...

    def Enroll(self, request: pb.EnrollRequest, *, timeout: float) -> Awaitable[pb.EnrollResponse]: ...  # noqa: N802

    def Renew(  # noqa: N802
        self, request: pb.RenewExpiredRequest, *, timeout: float
    ) -> Awaitable[pb.RenewExpiredResponse]: ...


async def enroll(
    address: str,
    token: JoinToken,
    *,
    name: str,
    labels: Mapping[str, str] | None = None,
    profile: Literal["", "node", "instance", "person"] = "",
) -> Enrolled:
    """Spend one use of ``token`` on a certificate. Nothing is written here.

    Args:
        address: A control plane's enrolment listener (``host``, ``host:port``) or a member's client URL.
        token: As the operator made it.
        name: Wished name of the node or person, a DNS label.
        labels: Of the node.
        profile: What the caller wants to become; a token that makes something else is not spent. Empty: any.

    Raises:
        UnavailableError: Nobody answers there.
        SwarmError: Each cause in its own sentence: nobody answers, no enrolment listener, another swarm's
            authority, and what the authority says of the token.
    """
    located = await locate(address)
    target, authority = await _authority_at(located)
    ca_pem = authority.ca_pem.encode()
    _check_fingerprint(ca_pem, token, located)
    key = keys.new_private_key()
    request = _request(token, csr.make_csr(key), name, labels or {})
    request.profile = profile
    async with _stub(target, ca_pem) as stub:
        answer = await _enroll(stub, request)
    credential = Credential(ca_pem, answer.certificate_pem.encode(), keys.private_key_to_pem(key))
    facts = credential.check()
    if facts.subject.swarm != answer.swarm_id or facts.subject.id != answer.subject_id:
        raise UnauthenticatedError("the authority answered with a certificate for somebody else")
    reached = str(Address(located.host, answer.control_port or CONTROL_PORT))
    return Enrolled(
        credential=credential,
        subject_id=answer.subject_id,
        role=answer.role,
        name=answer.name,
        swarm_id=answer.swarm_id,
        swarm_name=answer.swarm_name,
        # The way we came is known to work; it may not be among those that the authority knows of itself.
        control_addresses=tuple(dict.fromkeys([*answer.control_addresses, reached])),
        join_addresses=(str(located.address),),
        swarm_secret=answer.swarm_secret,
    )


@dataclass(frozen=True, slots=True)
class Authority:
    """Who enrols somewhere, as it says of itself: a name and a fingerprint to compare, no proof."""

    address: str
    """``host:port`` of the enrolment listener."""
    swarm_id: str
    swarm_name: str
    fingerprint: str
    """Of its CA key, as join tokens have it."""
    open: bool
    """Whether nodes need no token."""


async def ask_authority(address: str) -> Authority:
    """Who enrols at ``address``. Nothing secret is sent, nothing is spent.

    Raises:
        UnavailableError: Nobody answers there.
        SwarmError: There is no enrolment listener.
    """
    located = await locate(address)
    _, told = await _authority_at(located)
    fingerprint = keys.fingerprint(told.ca_pem.encode())
    return Authority(str(located.address), told.swarm_id, told.swarm_name, fingerprint, told.open)


@dataclass(frozen=True, slots=True)
class Found:
    """Where an instance of one's own swarm answered."""

    swarm_id: str
    control: str
    """``host:port`` of its control listener."""
    join: str
    """``host:port`` of its enrolment listener."""


async def find_own(address: str, ca_pem: bytes) -> Found:
    """The swarm of ``ca_pem`` at ``address``, which proves that it is. No secret is sent, nothing is spent.

    Args:
        address: As for :func:`enroll`.
        ca_pem: The authority of the swarm one is in.

    Raises:
        UnavailableError: Nobody answers there.
        UnauthenticatedError: What answers is of another swarm.
        SwarmError: There is no enrolment listener.
    """
    located = await locate(address)
    target, told = await _authority_at(located)
    if keys.fingerprint(told.ca_pem.encode()) != keys.fingerprint(ca_pem):
        raise UnauthenticatedError(
            f"at {located.address} is another swarm, {told.swarm_name!r}; nothing was changed"
        )
    # What it told proves nothing yet; only over this channel does it show a certificate of that authority.
    async with _stub(target, ca_pem) as stub:
        authority = await _fetch_authority(stub, located)
    control = Address(located.host, authority.control_port or CONTROL_PORT)
    return Found(authority.swarm_id, str(control), str(located.address))


async def renew_expired(directory: Path, join_addresses: Sequence[str]) -> None:
    """Renew the ended certificate in ``directory`` by proof of its key, at the first address that answers.

    Raises:
        SwarmError: No address answers, or the authority refuses (revoked, or ended more than 90 days ago).
    """
    credential = await asyncio.to_thread(load_credential, directory)
    failure: SwarmError = FailedPreconditionError("no address of an enrolment listener is known")
    for address in join_addresses:
        try:
            renewed = await _renewed_at(address, credential)
        except SwarmError as error:
            failure = error
            if error.code.retryable or isinstance(error, FailedPreconditionError):
                continue
            break
        await asyncio.to_thread(save_renewed, directory, renewed.certificate_pem)
        return
    raise failure


async def _renewed_at(address: str, credential: Credential) -> Credential:

    located = await locate(address)
    target = (await addresses_of(located.address))[0]
    key = keys.private_key_from_pem(credential.key_pem)
    async with _stub(target, credential.ca_pem) as stub:
        authority = await _fetch_authority(stub, located)
        csr_der = csr.make_csr(key)
        request = pb.RenewExpiredRequest(
            certificate_pem=credential.certificate_pem.decode(),
            csr_der=csr_der,
            challenge=authority.challenge,
            signature=prove(key, authority.challenge, csr_der),
        )
        with swarm_errors():
            answer = await stub.Renew(request, timeout=CALL_S)
    renewed = credential.with_certificate(answer.certificate_pem.encode())
    renewed.check()
    return renewed


async def _reach(located: Located) -> tuple[Address, bytes]:
    """The first resolved address that presents a certificate, and that certificate, not trusted yet."""
    failure: SwarmError | None = None
    for target in await addresses_of(located.address):
        try:
            return target, await asyncio.to_thread(_presented, target, str(located.address))
        except SwarmError as error:
            failure = failure or error
    raise failure or FailedPreconditionError(f"{located.host} has no address")


def _presented(target: Address, shown: str) -> bytes:
    try:
        return ssl.get_server_certificate((target.host, target.port), timeout=CONNECT_S).encode()
    except ConnectionRefusedError:
        raise UnavailableError(
            f"nobody answers at {shown}: is `swarmctl up --lan` running there, and is this its join address?"
        ) from None
    except TimeoutError:
        raise UnavailableError(
            f"{shown} does not answer within {CONNECT_S:g} s: a firewall, or a machine that is off"
        ) from None
    except (ssl.SSLError, ConnectionResetError, EOFError):
        raise FailedPreconditionError(
            f"{shown} is no enrolment listener of a swarm; `swarmctl status` there shows its join address"
        ) from None
    except OSError as error:
        raise UnavailableError(f"{shown} can't be reached: {reason_of(error)}") from None


@asynccontextmanager
async def _stub(target: Address, root_pem: bytes) -> AsyncIterator[_Authority]:

    async with await enrollment_channel(target, root_pem) as channel:
        stub: _Authority = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        yield stub


async def _authority_at(located: Located) -> tuple[Address, pb.FetchAuthorityResponse]:
    target, leaf_pem = await _reach(located)
    try:
        async with _stub(target, leaf_pem) as stub:
            return target, await _fetch_authority(stub, located)
    except FailedPreconditionError:
        target, renewed_pem = await _reach(located)
        if renewed_pem == leaf_pem:
            raise
    # The instance renewed its certificate between the two connections.
    async with _stub(target, renewed_pem) as stub:
        return target, await _fetch_authority(stub, located)


async def _fetch_authority(stub: _Authority, located: Located) -> pb.FetchAuthorityResponse:
    """Who signs there. It changes nothing, so a listener that is too busy is asked again.

    Raises:
        UnavailableError: It did not answer in time.
        FailedPreconditionError: What answers is no enrolment listener.
        SwarmError: It refused.
    """
    ends_s = time.monotonic() + CALL_S
    for left in reversed(range(_TRIES)):
        try:
            with swarm_errors():
                return await stub.FetchAuthority(pb.FetchAuthorityRequest(), timeout=CALL_S)
        except SwarmError as error:
            if _is_slow(error):
                if not left or time.monotonic() >= ends_s:
                    raise UnavailableError(
                        f"{located.address} does not answer in time: it has much to do, or the network loses "
                        "what is sent; try again"
                    ) from error
            elif (
                error.code is not Code.UNAVAILABLE
                and error.code.grpc_status != Code.METHOD_NOT_ALLOWED.grpc_status
            ):
                raise
            else:
                raise FailedPreconditionError(
                    f"{located.address} is no enrolment listener of a swarm ({error.message}); "
                    "`swarmctl status` there shows its join address"
                ) from error
        await asyncio.sleep(_AGAIN_S)
    raise AssertionError("unreachable: the last try returns or raises")


def _is_slow(error: SwarmError) -> bool:
    """Whether nothing was said of who listens: time ran out, of the call or of the connection's handshake."""
    cause = error.__cause__
    if not isinstance(cause, grpc.aio.AioRpcError):
        return False
    said = (cause.details() or "").lower()
    return cause.code() is grpc.StatusCode.DEADLINE_EXCEEDED or (
        cause.code() is grpc.StatusCode.UNAVAILABLE and any(word in said for word in _SLOW_WORDS)
    )


def _check_fingerprint(ca_pem: bytes, token: JoinToken, located: Located) -> None:
    if keys.fingerprint(ca_pem) != token.fingerprint:
        raise UnauthenticatedError(
            f"the authority at {located.address} has another fingerprint than the token: the token is of "
            "another swarm, or somebody stands in between. The token's secret was not sent."
        )


def _request(token: JoinToken, csr_der: bytes, name: str, labels: Mapping[str, str]) -> pb.EnrollRequest:

    return pb.EnrollRequest(
        token_id=token.id,
        secret=token.secret,
        csr_der=csr_der,
        name=name,
        labels=[common_pb2.Label(key=key, value=value) for key, value in labels.items()],
        request_id=random_id(),
    )


async def _enroll(stub: _Authority, request: pb.EnrollRequest) -> pb.EnrollResponse:
    """The answer; where it may have been lost, asked for again under the same id, so one use is spent."""
    ends_s = time.monotonic() + CALL_S
    for left in reversed(range(_TRIES)):
        try:
            with swarm_errors():
                return await stub.Enroll(request, timeout=CALL_S)
        except SwarmError as error:
            if not (left and error.code is Code.UNAVAILABLE and time.monotonic() < ends_s):
                raise
        await asyncio.sleep(0.2)
    raise AssertionError("unreachable: the last try returns or raises")
