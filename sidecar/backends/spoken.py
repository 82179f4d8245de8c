"""Which dialects a backend speaks itself: what it does not speak is translated for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from sidecar.backends.target import OPENAI_ONLY
from sidecar.dialects.translate import ANTHROPIC, COUNTS, OLLAMA, RESPONSES
from swarmplane.providers import EMPTY_REQUEST

_REFUSES: Final = frozenset({400, 422})
_STUMBLES: Final = 500
"""llama-server's status for a request that lacks something; its words tell it from a fault."""
_LACKS: Final = b"' is required"
_ASKED_AT: Final[Mapping[str, tuple[str, tuple[bytes, ...]]]] = {
    ANTHROPIC: ("/v1/messages", (b"messages", b"model", b"max_tokens")),
    COUNTS: ("/v1/messages/count_tokens", (b"messages", b"model")),
    RESPONSES: ("/v1/responses", (b"input", b"model")),
}
"""Dialect → where a backend is asked for it, and members of which an empty request lacks one."""

Ask = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]
"""POST to a path: status and body."""


async def spoken(kind: str, ask: Ask) -> frozenset[str]:
    """The dialects of a backend of this ``kind``: who would read a full request says what an empty one lacks.

    All are asked for at once: what one answer may take, they take together.

    Ollama is not asked for those that it speaks besides its own: translated, they keep its model loaded as
    it is.
    """
    if kind == OLLAMA:
        return OPENAI_ONLY | {OLLAMA}
    async with asyncio.TaskGroup() as group:
        asked = {
            dialect: group.create_task(_speaks(ask, path, members))
            for dialect, (path, members) in _ASKED_AT.items()
        }
    return OPENAI_ONLY.union(dialect for dialect, task in asked.items() if task.result())


async def _speaks(ask: Ask, path: str, members: tuple[bytes, ...]) -> bool:
    return _understood(*await ask(path, EMPTY_REQUEST), members)


def _understood(status: int, body: bytes, members: tuple[bytes, ...]) -> bool:
    """Who does not know the path says 404 or 405, and a few say 200 with a sentence about it."""
    if status == _STUMBLES:
        return any(b"'" + member + _LACKS in body for member in members)
    return status in _REFUSES and any(member in body for member in members)
