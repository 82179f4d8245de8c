"""Keys of providers as they lie on disk: sealed, each for one backend at one place.

The secret that opens them lies beside them, for this user alone: a copy of the settings, or of one file, or a
look over a shoulder shows nothing, and a key that is put under another name or another address does not open.
Whoever has all of the data directory has the keys, as any program that can work without asking a person.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from swarmplane.datadir import DataDir, write_atomically
from swarmplane.errors import FailedPreconditionError

_MAGIC: Final = b"swarmplane sealed key 1\n"
_OPENER: Final = "sealing.key"
_SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")


def sealed_file(data_dir: DataDir, name: str) -> Path:
    """Where the key of the backend called ``name`` lies."""
    return data_dir.root / "secrets" / f"{_UNSAFE.sub('-', name)}.sealed"


def seal(file: Path, key: str, *, name: str, url: str) -> None:
    """Write ``key`` of the backend called ``name`` at ``url`` into ``file``. It blocks."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    secret_file = file.parent / _OPENER
    if not secret_file.exists():
        write_atomically(secret_file, os.urandom(_SECRET_BYTES))
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(secret_file.read_bytes()).encrypt(nonce, key.encode(), _bound_to(name, url))
    write_atomically(file, _MAGIC + nonce + sealed)


def read_key(file: Path, *, name: str, url: str) -> str:
    """The key in ``file``, sealed for this backend, or as it is in a file of somebody's own. It blocks.

    Raises:
        FailedPreconditionError: It was sealed for another backend, or can't be opened here.
        ValueError: It holds no key.
        OSError: It can't be read.
    """
    content = file.read_bytes()
    if content.startswith(_MAGIC):
        content = _opened(content[len(_MAGIC) :], file.parent / _OPENER, _bound_to(name, url))
    key = content.decode("ascii").strip()
    if not key or not key.isprintable():
        raise ValueError("not a key")
    return key


def _opened(sealed: bytes, secret_file: Path, bound: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(secret_file.read_bytes()).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
    except (InvalidTag, OSError, ValueError):
        raise FailedPreconditionError(
            "its key was sealed for another backend or on another host; give it again: swarmctl backend add"
        ) from None


def _bound_to(name: str, url: str) -> bytes:
    return f"{name}\n{url}".encode()
