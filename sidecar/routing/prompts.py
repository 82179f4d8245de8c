"""Prompts that were served without a choice, a few at a time, to be hashed when there is time for it.

Where a model has one endpoint nothing is weighed and no prompt is hashed on the path. Other nodes want to
know what is cached here nevertheless: a sample of prompts is enough, those worth knowing come often.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sidecar.core.prefix import block_hashes
from sidecar.core.prefix_index import PrefixIndex
from swarmplane.routes import Endpoint

MOST: Final = 4
"""Kept until they are read; reading so many of the longest holds the loop for 1.6 ms."""
MOST_BODY_BYTES: Final = 1024 * 1024

Span = tuple[int, int]


class Prompts:
    """Keeps references to bodies, no copies. ``room`` is looked at on the path: 0 while nobody reads."""

    __slots__ = ("_kept", "room")

    def __init__(self) -> None:
        self.room = 0
        self._kept: list[tuple[str, Endpoint, bytes | bytearray, Sequence[Span]]] = []

    def keep(self, model: str, endpoint: Endpoint, body: bytes | bytearray, spans: Sequence[Span]) -> None:
        """A request for canonical ``model`` goes to the own ``endpoint``; its prompt stands at ``spans``."""
        if self.room > 0 and len(body) <= MOST_BODY_BYTES:
            self.room -= 1
            self._kept.append((model, endpoint, body, spans))

    def read(self, index: PrefixIndex, key: bytes, capacity: Callable[[Endpoint], int]) -> None:
        """Hash what was kept into ``index``, and make room for more."""
        kept, self._kept, self.room = self._kept, [], MOST
        for model, endpoint, body, spans in kept:
            index.insert(model, endpoint.id, block_hashes(body, spans, key), capacity(endpoint))
