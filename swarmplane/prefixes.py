"""Which prompts are cached where, as owners report it. Never stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarmplane.ids import EndpointId, ModelName

HASH_BYTES: Final = 8
MOST_BLOCKS: Final = 256
"""Hashes that an owner reports of each endpoint."""


@dataclass(frozen=True, slots=True)
class EndpointPrefixes:
    """The blocks that an endpoint used last; no ``blocks``: nothing is cached there any more."""

    endpoint: EndpointId
    model: ModelName
    """Canonical name."""
    blocks: bytes = b""
    """Hashes of 8 bytes, newest first."""
    hash_version: int = 0
