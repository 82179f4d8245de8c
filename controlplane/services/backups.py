"""Backups of a founder: its store, its secret and its own credentials, sealed in one file.

The file is `SWPB`, a version, the length of a head, the head (JSON in the clear, for people and for choosing
among backups; authenticated with the rest), a nonce, and AES-256-GCM of a compressed archive. The key comes
from a recovery key, 32 random bytes that people keep elsewhere: the swarm secret can't be it, as it is in the
backup and goes down with the disk.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from swarmplane.errors import FailedPreconditionError, InvalidRequestError

SUFFIX: Final = ".swarmbackup"
KEY_BYTES: Final = 32
_MAGIC: Final = b"SWPB"
_FORMAT: Final = 1
_START: Final = struct.Struct(">4sBI")
_PART: Final = struct.Struct(">HI")
_NONCE_BYTES: Final = 12
_MAX_HEAD_BYTES: Final = 64 * 1024
_MAX_PLAIN_BYTES: Final = 1 << 30
_KEY_PREFIX: Final = "swr1-"


@dataclass(frozen=True, slots=True)
class BackupHead:
    """What a backup says of itself without its key."""

    swarm: str
    swarm_name: str
    created_at_s: int
    """Unix seconds."""
    generation: int
    revision: int
    key_id: str
    """Which recovery key opens it; says nothing about the key."""
    moved: bool = False
    """Whether the host it was made on gave its swarm up with it."""


def new_recovery_key() -> str:
    """A recovery key, as people keep it."""
    return _KEY_PREFIX + secrets.token_bytes(KEY_BYTES).hex()


def recovery_key(text: str) -> bytes:
    """The key in ``text``.

    Raises:
        InvalidRequestError: It is no recovery key.
    """
    digits = text.strip().removeprefix(_KEY_PREFIX)
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        key = b""
    if not text.strip().startswith(_KEY_PREFIX) or len(key) != KEY_BYTES:
        raise InvalidRequestError(f"this is no recovery key: it should read {_KEY_PREFIX}<64 hex digits>")
    return key


def key_id(key: bytes) -> str:
    """A name for ``key`` that says nothing about it."""
    return hmac.digest(key, b"swarmplane backup id", hashlib.sha256)[:6].hex()


def seal_backup(head: BackupHead, files: Mapping[str, bytes], key: bytes) -> bytes:
    """A backup of ``files`` by their names. Costs memory of about thrice their size."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    document = json.dumps(asdict(head), sort_keys=True).encode()
    start = _START.pack(_MAGIC, _FORMAT, len(document)) + document
    nonce = secrets.token_bytes(_NONCE_BYTES)
    plain = b"".join(
        _PART.pack(len(name.encode()), len(content)) + name.encode() + content
        for name, content in sorted(files.items())
    )
    return start + nonce + AESGCM(_sealing_key(key)).encrypt(nonce, zlib.compress(plain), start)


def read_head(content: bytes, name: str) -> BackupHead:
    """The head of the backup in ``content`` (its beginning is enough), not authenticated.

    Raises:
        FailedPreconditionError: It is no backup of ours, or of a newer version; ``name`` is in the words.
    """
    return _split(content, name)[0]


def open_backup(content: bytes, key: bytes, name: str) -> tuple[BackupHead, Mapping[str, bytes]]:
    """Head and files of the backup in ``content``, whole and as they were sealed.

    Raises:
        FailedPreconditionError: It is none, damaged, cut short, or sealed under another key.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    head, start, rest = _split(content, name)
    if head.key_id != key_id(key):
        raise FailedPreconditionError(
            f"{name} was sealed under another recovery key ({head.key_id}, this one is {key_id(key)})"
        )
    try:
        packed = AESGCM(_sealing_key(key)).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], start)
    except (InvalidTag, ValueError) as error:
        raise FailedPreconditionError(
            f"{name} is damaged: it was changed or cut short after it was made; use another backup"
        ) from error
    return head, _files(_inflated(packed, name), name)


def _split(content: bytes, name: str) -> tuple[BackupHead, bytes, bytes]:
    if len(content) < _START.size or not content.startswith(_MAGIC):
        raise FailedPreconditionError(f"{name} is no backup of a swarm")
    _, version, length = _START.unpack_from(content)
    if version != _FORMAT:
        raise FailedPreconditionError(f"{name} was made by a newer version: install that one")
    end = _START.size + length
    if length > _MAX_HEAD_BYTES or end > len(content):
        raise FailedPreconditionError(f"{name} is damaged: it is cut short; use another backup")
    try:
        head = BackupHead(**json.loads(content[_START.size : end]))
    except (ValueError, TypeError) as error:
        raise FailedPreconditionError(
            f"{name} is damaged: its head can't be read; use another backup"
        ) from error
    return head, content[:end], content[end:]


def _inflated(packed: bytes, name: str) -> bytes:
    inflating = zlib.decompressobj()
    plain = inflating.decompress(packed, _MAX_PLAIN_BYTES)
    if inflating.unconsumed_tail:
        raise FailedPreconditionError(f"{name} is too large")
    return plain


def _files(plain: bytes, name: str) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    at = 0
    while at < len(plain):
        if at + _PART.size > len(plain):
            raise FailedPreconditionError(f"{name} is damaged: its archive ends early; use another backup")
        name_bytes, size = _PART.unpack_from(plain, at)
        at += _PART.size
        files[plain[at : at + name_bytes].decode()] = plain[at + name_bytes : at + name_bytes + size]
        at += name_bytes + size
    return files


def _sealing_key(key: bytes) -> bytes:
    return hmac.digest(key, b"swarmplane backup\x01", hashlib.sha256)
