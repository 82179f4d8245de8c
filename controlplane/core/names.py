"""Which names may stand in the store."""

from __future__ import annotations

from typing import Final

MOST_CHARACTERS: Final = 256
MOST_BYTES: Final = 1_000
"""Below the store's limit of a key, prefix included."""


def is_model_name(text: str) -> bool:
    """Whether ``text`` may name a model: 1 to 256 printable characters, at most 1,000 bytes."""
    return (
        bool(text)
        and len(text) <= MOST_CHARACTERS
        and text.isprintable()
        and len(text.encode()) <= MOST_BYTES
    )
