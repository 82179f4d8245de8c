"""What a set of endpoints can do in common: most requests suit all of them, and that is seen at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from sidecar.core.capability import AUDIO, BY_PATH, CHAT, TOOLS, VISION
from sidecar.core.context import RELOADING
from sidecar.core.cost import RESERVED_TOKENS
from sidecar.core.prefix import BYTES_PER_TOKEN
from swarmplane.routes import Endpoint

ANSWER_KEYS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""Members of bodies that say how long an answer may get, as OpenAI and Anthropic call them."""
_ANSWER_KEYS: Final = frozenset(ANSWER_KEYS)
_DIGITS: Final = 9
_MARKS: Final = ((VISION, rb'"i(?:mage|nput_)'), (AUDIO, rb'"audio|"input_'))
"""What a body that needs more than text has in it somewhere: one search, not a ``find`` for each."""


class Text(Protocol):
    """Bytes, in whatever they stand."""

    def __bytes__(self) -> bytes:
        """Them."""
        ...


class Limits:
    """Of endpoints that never change."""

    __slots__ = ("_bytes", "_common", "_reloading", "_seen", "_tokens", "unknown")

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        there = list(endpoints)
        known = [endpoint.context_length for endpoint in there if endpoint.context_length]
        self._tokens = min(known, default=0)
        # Prompts of a body so small fit everywhere, with a short answer.
        self._bytes = max((min(known) - RESERVED_TOKENS - 1) * BYTES_PER_TOKEN, 1) if known else 0
        told = [frozenset(e.traits.capabilities) for e in there if e.traits.capabilities]
        common = frozenset[str]().union(*told).intersection(*told) if told else None
        if common is not None and "completion" in common:
            common |= {CHAT}
        self._common = common
        senses = common if common is not None else ()
        lacking = [marks for sense, marks in _MARKS if sense not in senses]
        self._seen = re.compile(b"|".join(lacking)).search if lacking else None
        self._reloading = any(endpoint.kind == RELOADING for endpoint in there)
        self.unknown = common is None and not known and not self._reloading
        """Whether nothing is known of them that a request could fail to suit."""

    def suit(self, path: bytes, members: Mapping[str, Text], body: bytes | bytearray) -> bool:
        """Whether a request suits all of them, whatever it means in detail. 0.2 µs where nothing is known.

        False does not say that it does not: then it has to be looked at.

        Args:
            path: What is asked for.
            members: Top-level members of the body, as JSON text.
            body: The whole of it.
        """
        if self._reloading:
            return False
        if self._bytes and (len(body) > self._bytes or not self._hold(members, len(body))):
            return False
        common = self._common
        if common is None:
            return True
        word = BY_PATH.get(path)
        if word is None:
            return True
        if word not in common or ("tools" in members and TOOLS not in common):
            return False
        return self._seen is None or self._seen(body) is None

    def _hold(self, members: Mapping[str, Text], size: int) -> bool:
        """Whether all of a body of ``size``, and the longest answer that it allows, fit everywhere."""
        if _ANSWER_KEYS.isdisjoint(members):
            return True
        room = self._tokens - size // BYTES_PER_TOKEN - 1
        for key in ANSWER_KEYS:
            if key in members:
                text = bytes(members[key])
                if not text.isdigit() or len(text) > _DIGITS or int(text) > room:
                    return False
        return True
