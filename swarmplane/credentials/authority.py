"""The certificate authority of a swarm, as a value: it signs, it keeps nothing."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from swarmplane.credentials.keys import (
    fingerprint,
    new_private_key,
    private_key_from_pem,
    private_key_to_pem,
)
from swarmplane.credentials.lifetime import DAY_S, LIFETIME_S, lifetime_extension
from swarmplane.credentials.names import CONTROL_NAME, JOIN_NAME, Profile, Subject
from swarmplane.ids import SwarmId

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

_AUTHORITY_LIFETIME_S: Final = 20 * 365 * DAY_S
# Every certificate starts with its authority (PROTOCOL section 1), so this is the clock skew a host may have.
_SKEW_S: Final = 30 * DAY_S


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate and its private key."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """What join tokens pin."""
        return fingerprint(self.certificate_pem)


def found_authority(swarm: SwarmId, now_s: float) -> Authority:
    """A new CA for ``swarm``, at Unix time ``now_s``."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    key = new_private_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"swarmplane {swarm}")])
    builder = (
        _builder(key.public_key(), key.public_key())
        .subject_name(name)
        .issuer_name(name)
        .not_valid_before(_instant(now_s - _SKEW_S))
        .not_valid_after(_instant(now_s + _AUTHORITY_LIFETIME_S))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return Authority(_signed(builder, key).public_bytes(Encoding.PEM), private_key_to_pem(key))


def issue(
    authority: Authority,
    public_key: ec.EllipticCurvePublicKey,
    subject: Subject,
    now_s: float,
    *,
    lifetime_s: float | None = None,
) -> bytes:
    """A certificate (PEM) that says that ``public_key`` is ``subject``, from before now until after it.

    Instances also get the fixed names that callers check. People's certificates are no servers'.

    Args:
        authority: Who signs.
        public_key: The subject's key; that the asker holds it was checked before.
        subject: Whom it names.
        now_s: Unix time.
        lifetime_s: Seconds from now on; None: as the profile has it.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    ca = x509.load_pem_x509_certificate(authority.certificate_pem)
    ca_key = private_key_from_pem(authority.key_pem)
    names = [subject.san, *((CONTROL_NAME, JOIN_NAME) if subject.profile is Profile.CONTROL else ())]
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if subject.profile is not Profile.USER:
        uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
    usual_s = LIFETIME_S[subject.profile]
    life_s = usual_s if lifetime_s is None else lifetime_s
    ends_s = now_s + life_s
    builder = (
        _builder(public_key, ca_key.public_key())
        # For people's eyes alone; nobody checks it, and it holds 64 characters.
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject.san[:64])]))
        .issuer_name(ca.subject)
        .not_valid_before(ca.not_valid_before_utc)
        .not_valid_after(min(_instant(ends_s), ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    )
    if life_s != usual_s:
        builder = builder.add_extension(lifetime_extension(life_s), critical=False)
    return _signed(builder, ca_key).public_bytes(Encoding.PEM)


def _instant(unix_s: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(unix_s), tz=dt.UTC)


def _builder(key: ec.EllipticCurvePublicKey, issuer: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    from cryptography import x509

    # Strict verifiers (Python 3.13's default) want both key identifiers.
    return (
        x509.CertificateBuilder()
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(key, hashes.SHA256())
