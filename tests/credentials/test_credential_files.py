"""Keys, requests, certificates and their files."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from swarmplane.credentials import csr, keys
from swarmplane.credentials.authority import Authority, found_authority, issue
from swarmplane.credentials.certificate import is_issued_by, read_certificate
from swarmplane.credentials.files import (
    Credential,
    credential_exists,
    load_credential,
    save_credential,
    save_renewed,
)
from swarmplane.credentials.lifetime import DAY_S, LIFETIME_S
from swarmplane.credentials.names import Profile, Subject, control_subject, node_subject, user_subject
from swarmplane.credentials.renewal import is_proven, next_try_s, prove, renewal_due_s, retry_s
from swarmplane.errors import (
    FailedPreconditionError,
    InvalidRequestError,
    NotFoundError,
    UnauthenticatedError,
)
from swarmplane.ids import NodeId
from tests.credentials.conftest import SWARM, Make

NODE = node_subject(NodeId("nodea"), SWARM)


def test_a_credential_goes_to_disk_and_back(make: Make) -> None:
    directory = make(NODE)
    credential = load_credential(directory)
    facts = credential.check()
    assert facts.subject == NODE
    assert facts.not_after_s == pytest.approx(time.time() + 7 * DAY_S, abs=60)
    assert credential_exists(directory)
    assert "PRIVATE" not in repr(credential)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes")
def test_its_files_are_the_owners_alone(make: Make) -> None:
    directory = make(NODE)
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    assert not credential_exists(tmp_path)
    with pytest.raises(NotFoundError, match="no credential"):
        load_credential(tmp_path)


def test_a_half_written_credential_is_none(make: Make, tmp_path: Path) -> None:
    credential = load_credential(make(NODE))
    target = tmp_path / "half"
    (target / "cert.pem").mkdir(parents=True)
    with pytest.raises(OSError, match=r"cert\.pem"):
        save_credential(target, credential)
    with pytest.raises((NotFoundError, FailedPreconditionError)):
        load_credential(target)


def test_a_renewed_certificate_replaces_only_itself(authority: Authority, make: Make) -> None:
    directory = make(NODE, ended_days_ago=3)
    before = load_credential(directory)
    key = keys.private_key_from_pem(before.key_pem)
    save_renewed(directory, issue(authority, key.public_key(), NODE, time.time()))
    after = load_credential(directory)
    assert (after.key_pem, after.ca_pem) == (before.key_pem, before.ca_pem)
    assert after.check().not_after_s > time.time()


def test_files_that_do_not_belong_together_are_refused(authority: Authority, make: Make) -> None:
    mine, other = load_credential(make(NODE)), load_credential(make(control_subject(SWARM)))
    with pytest.raises(UnauthenticatedError, match="another key"):
        Credential(mine.ca_pem, other.certificate_pem, mine.key_pem).check()
    stranger = found_authority(SWARM, time.time()).certificate_pem
    with pytest.raises(UnauthenticatedError, match="authority"):
        Credential(stranger, mine.certificate_pem, mine.key_pem).check()
    assert is_issued_by(mine.certificate_pem, authority.certificate_pem)
    assert not is_issued_by(b"nonsense", authority.certificate_pem)


@pytest.mark.parametrize(
    ("subject", "days"), [(NODE, 7), (control_subject(SWARM), 7), (user_subject("ada", SWARM), 30)]
)
def test_profiles_live_as_long_as_they_should(authority: Authority, subject: Subject, days: float) -> None:
    pem = issue(authority, keys.new_private_key().public_key(), subject, time.time())
    assert read_certificate(pem).not_after_s == pytest.approx(time.time() + days * DAY_S, abs=60)


def test_certificates_start_with_their_authority(authority: Authority) -> None:
    """A host whose clock is behind must not refuse what was just made."""
    from cryptography import x509

    pem = issue(authority, keys.new_private_key().public_key(), NODE, time.time())
    ca = x509.load_pem_x509_certificate(authority.certificate_pem)
    assert x509.load_pem_x509_certificate(pem).not_valid_before_utc == ca.not_valid_before_utc
    assert ca.not_valid_before_utc.timestamp() < time.time() - 30 * DAY_S


def test_long_names_fit(authority: Authority) -> None:
    subject = user_subject("x" * 63, SWARM)
    pem = issue(authority, keys.new_private_key().public_key(), subject, time.time())
    assert read_certificate(pem).subject == subject


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\n\n"])
def test_what_is_no_certificate(pem: bytes) -> None:
    with pytest.raises(UnauthenticatedError):
        read_certificate(pem)
    with pytest.raises(FailedPreconditionError):
        keys.fingerprint(pem)


def test_the_authority_itself_is_nobody(authority: Authority) -> None:
    with pytest.raises(UnauthenticatedError):
        read_certificate(authority.certificate_pem)


def test_a_fingerprint_is_of_the_key(authority: Authority) -> None:
    again = found_authority(SWARM, time.time())
    assert len(authority.fingerprint) == 52
    assert authority.fingerprint != again.fingerprint
    assert authority.fingerprint == keys.fingerprint(authority.certificate_pem)


def test_requests_prove_their_key() -> None:
    key = keys.new_private_key()
    made = csr.make_csr(key)
    assert keys.public_key_to_der(csr.public_key_of(made)) == keys.public_key_to_der(key.public_key())
    for wrong in (b"", made[:-1], made[:-1] + bytes([made[-1] ^ 1])):
        with pytest.raises(InvalidRequestError):
            csr.public_key_of(wrong)


def test_requests_with_other_keys_are_refused() -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ec.generate_private_key(ec.SECP384R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(InvalidRequestError, match="P-256"):
        csr.public_key_of(request.public_bytes(Encoding.DER))


def test_keys_that_can_not_be_read() -> None:
    pem = keys.private_key_to_pem(keys.new_private_key())
    assert keys.private_key_to_pem(keys.private_key_from_pem(pem)) == pem
    with pytest.raises(FailedPreconditionError):
        keys.private_key_from_pem(b"nonsense")


def test_a_proof_is_bound_to_key_challenge_and_request() -> None:
    key, other = keys.new_private_key(), keys.new_private_key()
    der = keys.public_key_to_der(key.public_key())
    signature = prove(key, b"challenge", b"request")
    assert is_proven(der, signature, b"challenge", b"request")
    assert not is_proven(der, signature, b"other", b"request")
    assert not is_proven(der, signature, b"challenge", b"other")
    assert not is_proven(der, prove(other, b"challenge", b"request"), b"challenge", b"request")
    assert not is_proven(der, b"", b"challenge", b"request")


@pytest.mark.parametrize("life_s", [4.0, 20.0, *LIFETIME_S.values()])
def test_renewal_is_due_when_a_third_is_over(life_s: float) -> None:
    ends_s = 1_000_000.0 + life_s
    assert renewal_due_s(ends_s, life_s) == pytest.approx(1_000_000 + life_s / 3)
    assert renewal_due_s(ends_s, life_s, 1.0) <= 1_000_000 + life_s * 0.4
    assert next_try_s(1_000_000, ends_s, life_s) == pytest.approx(life_s / 3)
    assert next_try_s(ends_s + 5, ends_s, life_s) == 0
    assert 0 < retry_s(life_s) <= life_s / 20


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("life_s", [None, 4.0, 20.5])
def test_a_certificate_tells_how_long_it_was_made_to_live(profile: Profile, life_s: float | None) -> None:
    ca, key = found_authority(SWARM, 1_000_000), keys.new_private_key()
    subject = {
        Profile.NODE: node_subject(NodeId("n"), SWARM),
        Profile.CONTROL: control_subject(SWARM),
        Profile.USER: user_subject("ann", SWARM),
    }[profile]
    facts = read_certificate(issue(ca, key.public_key(), subject, 1_000_000, lifetime_s=life_s))
    assert facts.lifetime_s == (LIFETIME_S[profile] if life_s is None else life_s)
    assert facts.subject == subject
