"""Repeatable mutations: the same ``request_id`` within ten minutes gets the same answer and acts once."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

from controlplane.services import keyspace
from controlplane.services.sealing import Sealed, SwarmSecret
from controlplane.store.port import Put, Store
from swarmplane.codec import records
from swarmplane.errors import InvalidRequestError
from swarmplane.ids import SubjectId

KEPT_S: Final = 600.0
_PURPOSE: Final = "requests"


@dataclass(frozen=True, slots=True)
class Repeat:
    """What makes two calls the same: who asks, under which id, and for what."""

    subject: SubjectId
    request_id: str
    fingerprint: bytes
    """SHA-256 of the whole request."""

    @property
    def key(self) -> str:
        """Where the answer is kept."""
        return keyspace.request(self.subject, self.request_id)


@dataclass(frozen=True, slots=True)
class Recalled:
    """An answer that was given before, and the revision of the act."""

    response: bytes
    revision: int


class Answers:
    """Answers of mutations, sealed, for those who ask again."""

    def __init__(self, store: Store, secret: SwarmSecret) -> None:
        self._store = store
        self._secret = secret

    async def recall(self, repeat: Repeat) -> Recalled | None:
        """What this request was answered; None if it is new.

        Raises:
            InvalidRequestError: The id was used for another request.
        """
        kv = await self._store.get(repeat.key)
        if kv is None:
            return None
        kept = records.Request.FromString(kv.value)
        if not hmac.compare_digest(kept.fingerprint, repeat.fingerprint):
            raise InvalidRequestError("this request_id was used for another request; choose a new one")
        sealed = Sealed(kept.nonce, kept.sealed_response)
        response = self._secret.unseal(sealed, repeat.key.encode(), purpose=_PURPOSE)
        return Recalled(response, kv.create_revision)

    def remember(self, repeat: Repeat, response: bytes, lease: int) -> Put:
        """The operation that keeps ``response``; it belongs into the mutation's own transaction."""
        sealed = self._secret.seal(response, repeat.key.encode(), purpose=_PURPOSE)
        value = records.Request(
            fingerprint=repeat.fingerprint, nonce=sealed.nonce, sealed_response=sealed.ciphertext
        )
        return Put(repeat.key, value.SerializeToString(), lease)
