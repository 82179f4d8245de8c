"""Which names may stand in the store."""

from __future__ import annotations

from typing import Final

MOST_CHARACTERS: Final = 256
MOST_BYTES: Final = 1_000
"""Below the store's limit of a key, prefix included."""
MOST_BACKEND_CHARACTERS: Final = 128
MOST_SPELLED: Final = 512


def is_model_name(text: str) -> bool:
    """Whether ``text`` may name a model: 1 to 256 printable characters, at most 1,000 bytes."""
    return (
        bool(text)
        and len(text) <= MOST_CHARACTERS
        and text.isprintable()
        and len(text.encode()) <= MOST_BYTES
    )


def is_backend_name(text: str) -> bool:
    """Whether ``text`` may name a backend in an endpoint's id: 1 to 128 printable characters."""
    return bool(text) and len(text) <= MOST_BACKEND_CHARACTERS and text.isprintable()


def is_spelling(text: str) -> bool:
    """Whether a backend may call a model ``text``, as by the path of its file: 1 to 512 characters."""
    return 0 < len(text) <= MOST_SPELLED
