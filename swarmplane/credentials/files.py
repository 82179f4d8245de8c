"""A credential as three files of one directory: ``ca.pem``, ``cert.pem``, ``key.pem``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from swarmplane.credentials.certificate import CertificateFacts, is_issued_by, read_certificate
from swarmplane.credentials.keys import private_key_from_pem, public_key_to_der
from swarmplane.datadir import write_atomically
from swarmplane.errors import FailedPreconditionError, NotFoundError, UnauthenticatedError

CA: Final = "ca.pem"
CERTIFICATE: Final = "cert.pem"
KEY: Final = "key.pem"


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate, its key, and the CA that its holder trusts. All PEM."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes = field(repr=False)

    def facts(self) -> CertificateFacts:
        """Whom the certificate names and until when."""
        return read_certificate(self.certificate_pem)

    def with_certificate(self, certificate_pem: bytes) -> Credential:
        """The same key and CA with a renewed certificate."""
        return replace(self, certificate_pem=certificate_pem)

    def check(self) -> CertificateFacts:
        """That the three belong together: what a holder checks before it keeps an answer of an authority.

        Raises:
            UnauthenticatedError: The CA did not sign the certificate, or it is for another key.
        """
        facts = self.facts()
        if not is_issued_by(self.certificate_pem, self.ca_pem):
            raise UnauthenticatedError("the certificate was not signed by the swarm's authority")
        if facts.public_key_der != public_key_to_der(private_key_from_pem(self.key_pem).public_key()):
            raise UnauthenticatedError("the certificate is for another key")
        return facts


def credential_exists(directory: Path) -> bool:
    """Whether a whole credential was written there: the certificate is written last."""
    return (directory / CERTIFICATE).exists()


def load_credential(directory: Path) -> Credential:
    """The credential in ``directory``. It blocks.

    Raises:
        NotFoundError: There is none.
        FailedPreconditionError: It can't be read.
    """
    try:
        return Credential(
            (directory / CA).read_bytes(),
            (directory / CERTIFICATE).read_bytes(),
            (directory / KEY).read_bytes(),
        )
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no credential in {directory}") from error
    except OSError as error:
        raise FailedPreconditionError(f"the credential in {directory} can't be read: {error}") from error


def save_credential(directory: Path, credential: Credential) -> None:
    """Write all three, the certificate last, each atomically and 0600. It blocks."""
    write_atomically(directory / KEY, credential.key_pem)
    write_atomically(directory / CA, credential.ca_pem)
    write_atomically(directory / CERTIFICATE, credential.certificate_pem)


def save_renewed(directory: Path, certificate_pem: bytes) -> None:
    """Replace the certificate alone, atomically: renewal keeps the key, so the files never disagree."""
    write_atomically(directory / CERTIFICATE, certificate_pem)
