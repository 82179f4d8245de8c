"""``EnrollmentService``: the enrolment listener's only service."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from controlplane.services.enrolment import Enrolled, Enrolment, Wish
from controlplane.services.renewal import Renewal
from swarmplane.ids import TokenId
from swarmplane.v1 import enrollment_pb2 as pb
from swarmplane.v1 import enrollment_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class EnrollmentServicer(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """See enrollment.proto. ``control_addresses`` and ``control_port`` tell where control planes are."""

    def __init__(
        self,
        enrolment: Enrolment,
        renewal: Renewal,
        control_addresses: Callable[[], Sequence[str]],
        control_port: Callable[[], int],
    ) -> None:
        self._enrolment = enrolment
        self._renewal = renewal
        self._control_addresses = control_addresses
        self._control_port = control_port

    async def FetchAuthority(  # noqa: N802 - as in the contract, like the rest
        self, request: pb.FetchAuthorityRequest, context: Context
    ) -> pb.FetchAuthorityResponse:
        """See ``EnrollmentService.FetchAuthority`` in enrollment.proto."""
        del request, context
        authority = self._renewal.authority
        return pb.FetchAuthorityResponse(
            ca_pem=authority.ca_pem.decode(),
            swarm_id=authority.swarm,
            swarm_name=authority.name,
            open=(await self._enrolment.openness.state()).open,
            challenge=self._renewal.challenge(),
            control_port=self._control_port(),
        )

    async def Enroll(self, request: pb.EnrollRequest, context: Context) -> pb.EnrollResponse:  # noqa: N802
        """See ``EnrollmentService.Enroll`` in enrollment.proto."""
        del context
        wish = Wish(
            token_id=TokenId(request.token_id),
            secret=request.secret,
            csr_der=request.csr_der,
            name=request.name,
            labels={label.key: label.value for label in request.labels},
            profile=request.profile,
        )
        committed = await self._enrolment.enroll(
            wish,
            request_id=request.request_id,
            fingerprint=fingerprint_of(request),
            encode=lambda enrolled: self._response(enrolled).SerializeToString(),
        )
        return pb.EnrollResponse.FromString(committed.response)

    async def Renew(  # noqa: N802
        self, request: pb.RenewExpiredRequest, context: Context
    ) -> pb.RenewExpiredResponse:
        """See ``EnrollmentService.Renew`` in enrollment.proto."""
        del context
        certificate = await self._renewal.renew_expired(
            request.certificate_pem.encode(), request.csr_der, request.challenge, request.signature
        )
        return pb.RenewExpiredResponse(
            certificate_pem=certificate.decode(), ca_pem=self._renewal.authority.ca_pem.decode()
        )

    def _response(self, enrolled: Enrolled) -> pb.EnrollResponse:
        authority = self._renewal.authority
        return pb.EnrollResponse(
            certificate_pem=enrolled.certificate_pem.decode(),
            ca_pem=authority.ca_pem.decode(),
            subject_id=enrolled.subject.id,
            role=enrolled.role.value,
            name=enrolled.name,
            swarm_id=authority.swarm,
            swarm_name=authority.name,
            control_addresses=self._control_addresses(),
            swarm_secret=enrolled.swarm_secret,
            control_port=self._control_port(),
        )


def fingerprint_of(request: Message) -> bytes:
    """What makes two requests the same."""
    name = type(request).__name__.encode()
    return hashlib.sha256(name + b"\0" + request.SerializeToString(deterministic=True)).digest()
