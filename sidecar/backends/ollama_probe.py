"""Asking an Ollama server which models it has, which are loaded and with which context."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp

from sidecar.backends.listing import ListingError, loaded_first
from sidecar.backends.ollama import (
    completed,
    read_residents,
    read_show,
    read_tags,
    shown_key,
)
from sidecar.core.residents import Resident
from sidecar.core.shown import Shown
from swarmplane.inventory import BackendModel

MOST_SHOWN: Final = 32
"""Models that one look asks about: a shelf of hundreds is known after a few looks, not after a minute."""
MOST_MODELS: Final = 512
"""Models of one server, unless somebody says otherwise: more are not asked about."""
_OK: Final = 200


class Ask(Protocol):
    """One request to the server: status and body. With ``body`` it is a POST."""

    async def __call__(self, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """May raise :class:`aiohttp.ClientError`, :class:`OSError` and :class:`ListingError`."""


@dataclass(slots=True)
class Shelf:
    """What a server was asked once, and is then kept, for as long as it is the same server."""

    shown: dict[str, Shown] = field(default_factory=dict)
    """Of each model of Ollama's, by :func:`sidecar.backends.ollama.shown_key`."""
    missing: bool = False
    """Whether the last look left models for the next one."""
    listed: bool = False
    """Whether what is asked once only was asked."""
    slots: int = 0
    """Requests served at a time; 0: not told."""
    embeds: bool | None = None
    """Whether it makes embeddings; None: not asked yet."""
    abilities: tuple[str, ...] = ()
    """What all its models can do; empty: not told."""
    most: int = MOST_MODELS
    """Models that are offered, and so worth a question each."""

    def forget(self) -> None:
        """Another server may be there."""
        self.shown.clear()
        self.missing = self.listed = False
        self.slots = 0
        self.embeds = None
        self.abilities = ()


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found."""

    models: tuple[BackendModel, ...]
    residents: Mapping[str, Resident]


async def look(ask: Ask, shelf: Shelf) -> Look | int:
    """What it has now, or the status with which it refused to say. Adds to ``shelf`` what is new.

    Raises:
        ListingError: It answered something else.
        aiohttp.ClientError, OSError: It can't be asked.
    """
    status, tags = await ask("/api/tags")
    if status != _OK:
        return status
    status, body = await ask("/api/ps")
    residents = read_residents(body) if status == _OK else {}
    listed = read_tags(tags, residents)
    # As they are offered where they are too many.
    await _show(ask, shelf, loaded_first(listed, shelf.most))
    return Look(completed(listed, shelf.shown), residents)


async def _show(ask: Ask, shelf: Shelf, offered: tuple[BackendModel, ...]) -> None:
    wanted = {shown_key(model): model.name for model in offered}
    for gone in shelf.shown.keys() - wanted.keys():
        del shelf.shown[gone]
    new = [(key, name) for key, name in wanted.items() if key not in shelf.shown]
    shelf.missing = len(new) > MOST_SHOWN
    for key, name in new[:MOST_SHOWN]:
        try:
            status, body = await ask("/api/show", json.dumps({"model": name}).encode())
            shelf.shown[key] = read_show(body) if status == _OK else Shown()
        except ListingError:
            shelf.shown[key] = Shown()
        except (aiohttp.ClientError, OSError):
            # It lists, but shows nothing now: the next look asks again.
            shelf.missing = False
            return
