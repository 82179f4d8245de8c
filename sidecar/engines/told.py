"""What a managed engine tells of itself once it is ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sidecar.backends.abilities import read_senses
from sidecar.backends.listing import ListingError, read_json
from sidecar.backends.spoken import spoken
from sidecar.backends.target import OPENAI_ONLY
from sidecar.core.capability import TOOLS
from sidecar.engines.health import Asker

_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Told:
    """Of one engine."""

    dialects: frozenset[str] = OPENAI_ONLY
    """Which it speaks itself."""
    senses: tuple[str, ...] = (TOOLS,)
    """What its model can do beyond text; where it does not tell, it is taken to have a place for tools."""


async def told_by(asker: Asker) -> Told:
    """What the engine of ``asker`` tells. Takes milliseconds; never raises."""
    if asker.program.serial:
        return Told()  # llama-cpp-python's server has neither, and would stop generating to say so
    dialects = await spoken(asker.program.kind, asker.ask)
    status, body = await asker.ask("/props")
    try:
        return Told(dialects, read_senses(read_json(body))) if status == _OK else Told(dialects)
    except ListingError:
        return Told(dialects)
