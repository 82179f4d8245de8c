"""When to renew a certificate, and what proves the key of one that has ended. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarmplane.credentials.lifetime import DAY_S

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

EXPIRED_RENEWAL_S: Final = 90 * DAY_S
"""How long after its end a certificate may still be renewed by proof of its key."""
RETRY_S: Final = 60.0
"""Least time between two tries, of certificates that live for days."""
_RETRIES: Final = 20
"""Those that live shorter are tried at least so often in their life."""
_CONTEXT: Final = b"swarmplane-renew-v1"


def retry_s(lifetime_s: float) -> float:
    """Least seconds between two tries to renew a certificate that lives ``lifetime_s``."""
    return min(RETRY_S, lifetime_s / _RETRIES)


def renewal_due_s(not_after_s: float, lifetime_s: float, draw: float = 0.0) -> float:
    """Unix time at which a certificate should be renewed: one third over, up to a tenth later by ``draw``.

    The draw (0 to 1) spreads a fleet that was enrolled at once.
    """
    return not_after_s - lifetime_s * 2 / 3 + lifetime_s / 30 * draw


def next_try_s(now_s: float, not_after_s: float, lifetime_s: float, draw: float = 0.0) -> float:
    """Seconds to wait before renewing (again): 0 where it is due and nothing failed yet."""
    return max(0.0, renewal_due_s(not_after_s, lifetime_s, draw) - now_s)


def proof_message(challenge: bytes, csr_der: bytes) -> bytes:
    """What the old key signs to renew an ended certificate."""
    return _CONTEXT + challenge + csr_der


def prove(key: ec.EllipticCurvePrivateKey, challenge: bytes, csr_der: bytes) -> bytes:
    """ECDSA-SHA256 over :func:`proof_message`."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return key.sign(proof_message(challenge, csr_der), ec.ECDSA(hashes.SHA256()))


def is_proven(public_key_der: bytes, signature: bytes, challenge: bytes, csr_der: bytes) -> bool:
    """Whether ``signature`` is the key's over this challenge and request."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    key = load_der_public_key(public_key_der)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, proof_message(challenge, csr_der), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
