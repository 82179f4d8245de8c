"""What a certificate of ours says, and whether it is ours."""

from __future__ import annotations

from dataclasses import dataclass

from swarmplane.credentials.lifetime import lifetime_of
from swarmplane.credentials.names import Profile, Subject, parse_san
from swarmplane.errors import UnauthenticatedError


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """Whom a certificate names and until when."""

    subject: Subject
    not_after_s: float
    """Unix seconds."""
    lifetime_s: float
    """How long it was made to live."""
    public_key_der: bytes
    """SubjectPublicKeyInfo."""


def read_certificate(certificate_pem: bytes) -> CertificateFacts:
    """What ``certificate_pem`` says; whether to believe it is not asked here.

    Raises:
        UnauthenticatedError: It is no certificate, or names nobody of a swarm.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from swarmplane.credentials.keys import public_key_to_der

    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns_names = names.get_values_for_type(x509.DNSName)
        key = certificate.public_key()
    except (ValueError, x509.ExtensionNotFound) as error:
        raise UnauthenticatedError("this is no certificate of a swarm") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UnauthenticatedError("this is no certificate of a swarm")
    subject = subject_of_names(dns_names)
    return CertificateFacts(
        subject,
        certificate.not_valid_after_utc.timestamp(),
        lifetime_of(certificate, subject.profile),
        public_key_to_der(key),
    )


def subject_of_names(dns_names: list[str]) -> Subject:
    """The one subject that a certificate's DNS names stand for.

    Raises:
        UnauthenticatedError: None or several; or a node or person with further names.
    """
    subjects = [subject for name in dns_names if (subject := parse_san(name)) is not None]
    if len(subjects) != 1 or (subjects[0].profile is not Profile.CONTROL and len(dns_names) != 1):
        raise UnauthenticatedError("the certificate names nobody of a swarm")
    return subjects[0]


def is_issued_by(certificate_pem: bytes, ca_pem: bytes) -> bool:
    """Whether the CA signed it; its dates are not looked at."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
