"""How a fake backend speaks: what it is asked in its own dialect in, what it writes, event by event, out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Options:
    """What a test wants of an answer's form."""

    usage: bool = True
    """Counts of tokens are told."""


@dataclass(frozen=True)
class Said:
    """An answer. ``pieces`` are the events of a stream, with what frames them, or one whole body."""

    pieces: Sequence[bytes] = ()
    stream: bool = False
    status: int = 200
    content_type: str = "application/json"
    delay_s: float = 0.0
    """Before its head, as a model loads."""
    interval_s: float = 0.0
    """Between its pieces, at least."""
    failure: bytes = b""
    """The event that says in this stream that something failed."""
    junk: bytes = b""
    """An event that can't be read."""
    end: int = 0
    """So many of the last pieces say that the stream has ended well."""
    headers: tuple[str, ...] = field(default=())
    """Further lines of the head."""


class Voice(Protocol):
    """A server's endpoints."""

    def answer(self, method: str, path: str, body: bytes, options: Options) -> Said:
        """The answer to one request; ``path`` is without its query."""
        ...

    def report(self) -> dict[str, Any]:
        """What ``GET /fake`` adds."""
        ...

    def failure(self, path: str, status: int) -> Said:
        """An error as the server words it."""
        ...


def whole(document: Any, status: int = 200) -> Said:
    """One JSON document."""
    return Said((json.dumps(document).encode(),), status=status)
