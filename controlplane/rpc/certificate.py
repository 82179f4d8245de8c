"""``CertificateService``: renewal over mutual TLS."""

from __future__ import annotations

from typing import Any

import grpc

from controlplane.rpc.caller import caller
from controlplane.services.renewal import Renewal
from swarmplane.v1 import certificate_pb2 as pb
from swarmplane.v1 import certificate_pb2_grpc


class CertificateServicer(certificate_pb2_grpc.CertificateServiceServicer):
    """See certificate.proto."""

    def __init__(self, renewal: Renewal) -> None:
        self._renewal = renewal

    async def Renew(  # noqa: N802 - as in the contract
        self, request: pb.RenewRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RenewResponse:
        """See ``CertificateService.Renew`` in certificate.proto."""
        del context
        certificate, lifetime_s = self._renewal.renew(caller().subject, request.csr_der)
        return pb.RenewResponse(
            certificate_pem=certificate.decode(),
            ca_pem=self._renewal.authority.ca_pem.decode(),
            lifetime_s=int(lifetime_s),
        )
