"""What the swarm secret protects: the CA's key, answers kept for repeats, and challenges."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass, field
from typing import Final

from swarmplane.errors import FailedPreconditionError, UnauthenticatedError

SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 12
CHALLENGE_S: Final = 120
_CHALLENGE: Final = struct.Struct(">16sQ32s")


@dataclass(frozen=True, slots=True)
class Sealed:
    """AES-256-GCM ciphertext and its nonce, which is never used twice."""

    nonce: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class SwarmSecret:
    """32 bytes that every instance holds in a file and that never enter the store."""

    value: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.value) != SECRET_BYTES:
            raise FailedPreconditionError(f"a swarm secret has {SECRET_BYTES} bytes, not {len(self.value)}")

    def seal(self, plain: bytes, context: bytes, *, purpose: str = "") -> Sealed:
        """Encrypt; ``context`` must be given again to open it, ``purpose`` keeps kinds of keys apart."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(_NONCE_BYTES)
        return Sealed(nonce, AESGCM(self._key(purpose)).encrypt(nonce, plain, context))

    def unseal(self, sealed: Sealed, context: bytes, *, purpose: str = "") -> bytes:
        """The inverse of :meth:`seal`.

        Raises:
            FailedPreconditionError: It was sealed under another secret or for another context.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            return AESGCM(self._key(purpose)).decrypt(sealed.nonce, sealed.ciphertext, context)
        except (InvalidTag, ValueError) as error:
            raise FailedPreconditionError(
                "the swarm secret is not the one this store was made with"
            ) from error

    def prefix_key(self) -> bytes:
        """Key of the hashes of prompts, which nodes are told: it says nothing about the secret."""
        return self._key("prefix")

    def new_challenge(self, now_s: float) -> bytes:
        """Random bytes that :meth:`check_challenge` of any instance accepts for 120 seconds."""
        nonce, at_s = secrets.token_bytes(16), int(now_s)
        return _CHALLENGE.pack(nonce, at_s, self._mac(nonce, at_s))

    def check_challenge(self, challenge: bytes, now_s: float) -> None:
        """That an instance of this swarm made it, not long ago.

        Raises:
            UnauthenticatedError: It did not, or too long ago.
        """
        try:
            nonce, at_s, mac = _CHALLENGE.unpack(challenge)
        except struct.error:
            raise UnauthenticatedError("the challenge is not one of this swarm") from None
        if not hmac.compare_digest(mac, self._mac(nonce, at_s)):
            raise UnauthenticatedError("the challenge is not one of this swarm")
        if abs(now_s - at_s) > CHALLENGE_S:
            raise UnauthenticatedError("the challenge is too old; fetch a new one and try again")

    def _mac(self, nonce: bytes, at_s: int) -> bytes:
        return hmac.digest(self._key("challenge"), nonce + struct.pack(">Q", at_s), hashlib.sha256)

    def _key(self, purpose: str) -> bytes:
        # One block of HKDF's expand step: the secret is uniformly random, so it needs no extraction.
        if not purpose:
            return self.value
        return hmac.digest(self.value, f"swarmplane {purpose}".encode() + b"\x01", hashlib.sha256)
