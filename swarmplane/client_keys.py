"""API keys of clients: what a swarm knows of each, which is everything but the key itself."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Final

from swarmplane.aliases import matches

PREFIX: Final = "sk-swarm-"
"""Keys begin with it: programs that look for secrets know them by it, and some clients want ``sk-``."""
SECRET_BYTES: Final = 24
_LATEST: Final = ":latest"


@dataclass(frozen=True, slots=True)
class ClientKey:
    """What a key permits. Figures that are 0 limit nothing."""

    id: str
    digest: bytes = field(repr=False)
    """SHA-256 of the key; it has 192 random bits, so no slow hash is needed."""
    name: str = ""
    """For people."""
    models: tuple[str, ...] = ()
    """Names, or patterns of names, of the models it may use; empty: all."""
    manage: bool = False
    """Whether it may change this host's backends as clients of this host may."""
    requests_per_minute: int = 0
    tokens_per_day: int = 0
    concurrency: int = 0
    """Requests at a time."""
    expires_at_s: int = 0
    """Unix seconds; 0: until revoked."""

    def permits(self, *names: str) -> bool:
        """Whether it may use a model that is called by ``names``, of which one must be on its list.

        A name without a tag stands for the one with ``latest`` too.
        """
        if not self.models:
            return True
        called = {*names, *(name.removesuffix(_LATEST) for name in names)} - {""}
        return any(matches(one, name) for one in self.models for name in called)

    def expired(self, now_s: float) -> bool:
        """Whether it is over at ``now_s``, unix seconds."""
        return bool(self.expires_at_s) and now_s >= self.expires_at_s


def key_text(secret: bytes) -> str:
    """The key with ``secret``, :data:`SECRET_BYTES` random bytes, as clients send it."""
    return PREFIX + base64.urlsafe_b64encode(secret).decode()


def key_digest(text: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(text).digest()
