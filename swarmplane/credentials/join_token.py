"""Join tokens: ``swp1.<id>.<secret>.<SPKI fingerprint>``, everything a host needs to trust and be trusted."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from swarmplane.errors import InvalidRequestError
from swarmplane.ids import TokenId, random_id

SECRET_BITS: Final = 130
PREFIX: Final = "swp1"
# The fingerprint is base32 of 256 bits: 52 characters, of which the last carries one bit.
_FORM: Final = re.compile(rf"{PREFIX}\.([a-z2-7]{{13}})\.([a-z2-7]{{26}})\.([a-z2-7]{{52}})\Z")


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A join token. Its ``repr`` leaves the secret out, so that no log ever has it."""

    id: TokenId
    secret: str = field(repr=False)
    fingerprint: str
    """SHA-256 of the CA's public key, as :func:`swarmplane.credentials.keys.fingerprint` writes it."""

    def format(self) -> str:
        """The text that people pass on."""
        return f"{PREFIX}.{self.id}.{self.secret}.{self.fingerprint}"


def new_join_token(fingerprint: str) -> JoinToken:
    """A token nobody had before, for the swarm whose CA has ``fingerprint``."""
    return JoinToken(TokenId(random_id()), random_id(SECRET_BITS), fingerprint)


def without_token(fingerprint: str) -> JoinToken:
    """What stands for a token towards an open swarm: no secret, only the authority that is trusted."""
    return JoinToken(TokenId(""), "", fingerprint)


def parse_join_token(text: str) -> JoinToken:
    """Read a token as people paste it: surrounding white space is ignored.

    Raises:
        InvalidRequestError: It is no join token. The message never repeats the text: it may be a secret.
    """
    found = _FORM.match(text.strip())
    if found is None:
        raise InvalidRequestError(
            "this is no join token: it should read swp1.<id>.<secret>.<fingerprint>, in one piece; "
            "make one with: swarmctl token create"
        )
    return JoinToken(TokenId(found[1]), found[2], found[3])
