"""Renewal of this node's certificate: one third over by mutual TLS, after its end by proof of its key."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import structlog

from swarmplane.channels import swarm_errors
from swarmplane.credentials import csr, keys
from swarmplane.credentials.files import load_credential, save_renewed
from swarmplane.credentials.renewal import next_try_s, retry_s
from swarmplane.enrollment import renew_expired
from swarmplane.v1 import certificate_pb2, certificate_pb2_grpc

log: structlog.stdlib.BoundLogger = structlog.get_logger()

CALL_S: Final = 20.0


class NodeCertificate:
    """The node's certificate in ``directory``; ``renewed`` is called after every replacement."""

    def __init__(self, directory: Path, renewed: Callable[[], None]) -> None:
        self.directory = directory
        """Holds ``ca.pem``, ``cert.pem`` and ``key.pem``."""
        self._renewed = renewed
        self._draw = random.random()  # noqa: S311 - spreads a fleet, guards nothing

    async def due_in_s(self) -> float:
        """Seconds until it should be renewed; at least the pause between two tries."""
        facts = (await asyncio.to_thread(load_credential, self.directory)).facts()
        wait_s = next_try_s(time.time(), facts.not_after_s, facts.lifetime_s, self._draw)
        return max(retry_s(facts.lifetime_s), wait_s)

    async def expired(self) -> bool:
        """Whether it has ended."""
        credential = await asyncio.to_thread(load_credential, self.directory)
        return credential.facts().not_after_s <= time.time()

    async def renew(self, channel: grpc.aio.Channel) -> None:
        """Renew it over ``channel``. The key stays, so that the files never disagree.

        Raises:
            SwarmError: The control plane refused, or did not answer.
            OSError: It could not be written.
        """
        credential = await asyncio.to_thread(load_credential, self.directory)
        key = keys.private_key_from_pem(credential.key_pem)
        stub: Any = certificate_pb2_grpc.CertificateServiceStub(channel)
        request = certificate_pb2.RenewRequest(csr_der=csr.make_csr(key))
        with swarm_errors():
            answer = await stub.Renew(request, timeout=CALL_S)
        renewed = credential.with_certificate(answer.certificate_pem.encode())
        renewed.check()
        await asyncio.to_thread(save_renewed, self.directory, renewed.certificate_pem)
        self._renewed()
        log.info("certificate.renewed", lifetime_s=answer.lifetime_s)

    async def renew_by_proof(self, join_addresses: Sequence[str]) -> None:
        """Renew it after its end, at the enrolment listener.

        Raises:
            SwarmError: Nobody answers, or it is refused.
            OSError: It could not be written.
        """
        await renew_expired(self.directory, join_addresses)
        self._renewed()
        log.info("certificate.renewed", after="its end")
