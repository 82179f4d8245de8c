"""Adds the authority's servicers to the listeners they belong to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from controlplane.rpc.certificate import CertificateServicer
from controlplane.rpc.enrollment import EnrollmentServicer
from controlplane.rpc.server import RpcServers, service_names
from controlplane.rpc.token import TokenServicer
from controlplane.services.enrolment import Enrolment
from controlplane.services.renewal import Renewal
from controlplane.services.tokens import Tokens
from swarmplane.v1 import (
    certificate_pb2,
    certificate_pb2_grpc,
    enrollment_pb2_grpc,
    token_pb2,
    token_pb2_grpc,
)


def register_authority(
    servers: RpcServers,
    *,
    enrolment: Enrolment,
    renewal: Renewal,
    tokens: Tokens,
    control_addresses: Callable[[], Sequence[str]],
    join_addresses: Callable[[], Sequence[str]],
) -> tuple[str, ...]:
    """Names of the services added to the control listener.

    Args:
        servers: Not started yet.
        enrolment: On the enrolment listener.
        renewal: On both: over mutual TLS, and by proof of an old key.
        tokens: On the control listener.
        control_addresses: What others are told, asked at every call.
        join_addresses: Likewise.
    """
    enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(
        EnrollmentServicer(enrolment, renewal, control_addresses, lambda: servers.control_bound.port),
        servers.join,
    )
    certificate_pb2_grpc.add_CertificateServiceServicer_to_server(
        CertificateServicer(renewal), servers.control
    )
    token_pb2_grpc.add_TokenServiceServicer_to_server(
        TokenServicer(tokens, enrolment.openness, join_addresses), servers.control
    )
    return service_names(certificate_pb2, token_pb2)
