"""Certificate requests (PKCS#10, DER): a proof that the asker holds a key. Names in them mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarmplane.errors import InvalidRequestError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec


def make_csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request for ``key``, without names: the authority chooses those."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


def public_key_of(csr_der: bytes) -> ec.EllipticCurvePublicKey:
    """The key a request asks a certificate for.

    Raises:
        InvalidRequestError: It is no request, its signature is wrong, or its key is not P-256.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        request = x509.load_der_x509_csr(csr_der)
        valid, key = request.is_signature_valid, request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidRequestError("csr_der is no certificate request (PKCS#10, DER)") from error
    if not valid:
        raise InvalidRequestError("csr_der is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidRequestError("csr_der has another key than P-256")
    return key
