"""The swarm as an instance holds it: its id, its certificate authority, its secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controlplane.services.sealing import SwarmSecret
from swarmplane.credentials.authority import Authority, issue
from swarmplane.credentials.certificate import is_issued_by
from swarmplane.credentials.lifetime import LIFETIME_S
from swarmplane.credentials.names import Profile, Subject
from swarmplane.ids import SwarmId

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True, slots=True)
class SwarmAuthority:
    """What signs certificates and seals answers, in memory only."""

    swarm: SwarmId
    name: str
    """The name people gave the swarm."""
    ca: Authority = field(repr=False)
    secret: SwarmSecret = field(repr=False)
    certificate_life_s: float = LIFETIME_S[Profile.NODE]
    """How long new certificates of nodes and instances live."""

    @property
    def ca_pem(self) -> bytes:
        """The CA certificate."""
        return self.ca.certificate_pem

    @property
    def fingerprint(self) -> str:
        """What join tokens pin."""
        return self.ca.fingerprint

    def certificate(self, public_key: ec.EllipticCurvePublicKey, subject: Subject, now_s: float) -> bytes:
        """A new certificate (PEM) for ``subject``. Whether it may have one was decided before."""
        return issue(self.ca, public_key, subject, now_s, lifetime_s=self.lifetime_s(subject.profile))

    def lifetime_s(self, profile: Profile) -> float:
        """How long a new certificate of ``profile`` lives; people's live as ever."""
        return LIFETIME_S[profile] if profile is Profile.USER else self.certificate_life_s

    def signed(self, certificate_pem: bytes) -> bool:
        """Whether a certificate is one of ours, whatever its dates."""
        return is_issued_by(certificate_pem, self.ca.certificate_pem)
