"""Private keys: P-256, PKCS#8."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from swarmplane.errors import FailedPreconditionError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec


def new_private_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def private_key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS#8 PEM, not encrypted: the file's mode protects it."""
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def private_key_from_pem(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The inverse of :func:`private_key_to_pem`.

    Raises:
        FailedPreconditionError: It is no P-256 key.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise FailedPreconditionError("the private key can't be read; restore it or join again") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FailedPreconditionError("the private key is not a P-256 key; restore it or join again")
    return key


def public_key_to_der(key: ec.EllipticCurvePublicKey) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(certificate_pem: bytes) -> str:
    """SHA-256 of the public key of a certificate, as join tokens have it: lower-case base32, 52 characters.

    Raises:
        FailedPreconditionError: It is no certificate.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        public = x509.load_pem_x509_certificate(certificate_pem).public_key()
    except ValueError as error:
        raise FailedPreconditionError("what was presented is no certificate") from error
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b32encode(hashlib.sha256(der).digest()).decode().rstrip("=").lower()
