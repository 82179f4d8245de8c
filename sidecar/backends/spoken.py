"""Which dialects a backend speaks itself: what it does not speak is transcoded for it."""

from __future__ import annotations

from typing import Final

from sidecar.backends.target import OPENAI_ONLY

OLLAMA: Final = "ollama"
ANTHROPIC: Final = "anthropic"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"
"""Where a backend is asked whether it speaks Anthropic: an empty request costs it nothing."""
EMPTY_REQUEST: Final = b"{}"
_REFUSES: Final = frozenset({400, 422})
_MISSED: Final = (b"messages", b"model")
"""What an empty request lacks, and a server that would read it says so."""


def spoken(kind: str, *, anthropic: bool = False) -> frozenset[str]:
    """The dialects of a backend of this kind; ``anthropic``: whether it was found to speak that one."""
    own = OPENAI_ONLY | {OLLAMA} if kind == OLLAMA else OPENAI_ONLY
    return own | {ANTHROPIC} if anthropic else own


def speaks_anthropic(status: int, body: bytes) -> bool:
    """Whether who answers so to :data:`EMPTY_REQUEST` at :data:`COUNT_TOKENS` would read a full request.

    Who does not know the path says 404 or 405, and a few say 200 with a sentence about it.
    """
    return status in _REFUSES and any(word in body for word in _MISSED)
