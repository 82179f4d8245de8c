"""How long certificates live, and how one says that its life is not the usual one.

Every certificate starts with its authority (PROTOCOL section 1), so its dates do not tell its length of life,
which its holder must know to renew it in time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarmplane.credentials.names import Profile

if TYPE_CHECKING:
    from cryptography import x509

DAY_S: Final = 86_400.0
LIFETIME_S: Final = {
    Profile.NODE: 7 * DAY_S,
    Profile.CONTROL: 7 * DAY_S,
    Profile.USER: 30 * DAY_S,
}
"""Seconds a new certificate lives, unless an operator sets something else."""
# An arc that is made of a UUID needs no registration (X.667).
_OID: Final = "2.25.187126893406921823270146517716531062511"
_LONGEST_S: Final = 365 * DAY_S


def lifetime_extension(lifetime_s: float) -> x509.UnrecognizedExtension:
    """Says that a certificate is to live ``lifetime_s`` seconds; whoever does not know it ignores it."""
    from cryptography import x509

    return x509.UnrecognizedExtension(x509.ObjectIdentifier(_OID), b"%.3f" % lifetime_s)


def lifetime_of(certificate: x509.Certificate, profile: Profile) -> float:
    """Seconds that ``certificate`` was made to live: as it says, else as its profile has it."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(_OID)).value
        said_s = float(found.value) if isinstance(found, x509.UnrecognizedExtension) else 0.0
    except (x509.ExtensionNotFound, ValueError):
        return LIFETIME_S[profile]
    return min(max(said_s, 0.0), _LONGEST_S) or LIFETIME_S[profile]
