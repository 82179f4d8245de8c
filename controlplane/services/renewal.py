"""Renewal: the same subject, a new certificate. Over mutual TLS, or by proof of the old key after its end."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.services.authority import SwarmAuthority
from controlplane.services.callers import Callers
from swarmplane.credentials import csr
from swarmplane.credentials.certificate import read_certificate
from swarmplane.credentials.names import Subject
from swarmplane.credentials.renewal import EXPIRED_RENEWAL_S, is_proven
from swarmplane.errors import UnauthenticatedError


class Renewal:
    """Nothing of it enters the store: a renewed certificate is as good as the subject's record there."""

    def __init__(self, authority: SwarmAuthority, callers: Callers, unix_s: Callable[[], float]) -> None:
        self._authority = authority
        self._callers = callers
        self._unix_s = unix_s

    @property
    def authority(self) -> SwarmAuthority:
        """Who signs."""
        return self._authority

    def renew(self, subject: Subject, csr_der: bytes) -> tuple[bytes, float]:
        """A new certificate (PEM) for a subject that proved itself, and its lifetime in seconds.

        Raises:
            InvalidRequestError: ``csr_der`` is malformed.
        """
        public_key = csr.public_key_of(csr_der)
        certificate = self._authority.certificate(public_key, subject, self._unix_s())
        return certificate, self._authority.lifetime_s(subject.profile)

    def challenge(self) -> bytes:
        """What the old key must sign."""
        return self._authority.secret.new_challenge(self._unix_s())

    async def renew_expired(
        self, certificate_pem: bytes, csr_der: bytes, challenge: bytes, signature: bytes
    ) -> bytes:
        """A new certificate (PEM) for the holder of an old one's key.

        Raises:
            UnauthenticatedError: The proof is wrong, the certificate is not ours or ended over 90 days ago,
                or its subject was removed.
            InvalidRequestError: ``csr_der`` is malformed.
        """
        now_s = self._unix_s()
        self._authority.secret.check_challenge(challenge, now_s)
        facts = read_certificate(certificate_pem)
        if not self._authority.signed(certificate_pem):
            raise UnauthenticatedError("the certificate was not signed by this swarm's authority")
        if not is_proven(facts.public_key_der, signature, challenge, csr_der):
            raise UnauthenticatedError("the signature is not by the certificate's key")
        if now_s > facts.not_after_s + EXPIRED_RENEWAL_S:
            raise UnauthenticatedError(
                "the certificate ended more than 90 days ago; join or log in again with a new token"
            )
        await self._callers.identify(facts.subject)
        return self.renew(facts.subject, csr_der)[0]
