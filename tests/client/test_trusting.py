"""Whose certificates are taken from a server, whatever the Python."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from swarmplane.trusting import trust
from tests.store.etcd_certificates import TestAuthority


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Both ends in memory; what the client thinks of the certificate is raised."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (asking, answering):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert asking.getpeercert()


@pytest.fixture
def signer(monkeypatch: pytest.MonkeyPatch) -> TestAuthority:
    """It leaves out what Python 3.13 and newer want of a form; this Python wants it, too."""
    create = ssl.create_default_context

    def strict() -> ssl.SSLContext:
        context = create()
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    return TestAuthority()


def _served(signer: TestAuthority, directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*signer.pair("home").write(directory, "home"))
    return context


def test_a_named_authority_is_trusted_whatever_the_form_of_its_certificates(
    signer: TestAuthority, tmp_path: Path
) -> None:
    """Kills: the form that newer Pythons want, of those that are named."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(signer.pem)
    _shake_hands(trust(ca_file), _served(signer, tmp_path))


def test_whom_nobody_named_is_not_trusted_beside_one_that_is(signer: TestAuthority, tmp_path: Path) -> None:
    """Kills: no check at all."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(TestAuthority().pem)
    for context in (trust(), trust(ca_file)):
        with pytest.raises(ssl.SSLCertVerificationError):
            _shake_hands(context, _served(signer, tmp_path))
