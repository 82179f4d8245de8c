"""What a request needs a model to be able to do, and who can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sidecar.core.context import RELOADING
from swarmplane.routes import Endpoint, ModelRoute

CHAT: Final = "chat"
EMBEDDING: Final = "embedding"
VISION: Final = "vision"
TOOLS: Final = "tools"
AUDIO: Final = "audio"
IMAGE: Final = "image"
THINKING: Final = "thinking"
MOST_NAMED: Final = 10
"""Models that a refusal names."""

BY_PATH: Final[Mapping[bytes, str]] = MappingProxyType(
    {
        b"/v1/chat/completions": CHAT,
        b"/v1/completions": CHAT,
        b"/v1/responses": CHAT,
        b"/v1/messages": CHAT,
        b"/api/chat": CHAT,
        b"/api/generate": CHAT,
        b"/v1/embeddings": EMBEDDING,
        b"/api/embed": EMBEDDING,
        b"/api/embeddings": EMBEDDING,
        b"/v1/audio/transcriptions": AUDIO,
        b"/v1/audio/translations": AUDIO,
        b"/v1/audio/speech": AUDIO,
        b"/v1/images/generations": IMAGE,
        b"/v1/images/edits": IMAGE,
        b"/v1/images/variations": IMAGE,
    }
)
"""What every request at a path needs; others need nothing that is known."""
_EITHER: Final[Mapping[str, frozenset[str]]] = MappingProxyType({CHAT: frozenset({CHAT, "completion"})})
"""Words that stand for one another: what continues text answers conversations too, if not as well."""
_SENTENCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        CHAT: "it only makes embeddings",
        EMBEDDING: "it makes no embeddings",
        VISION: "it sees no images",
        TOOLS: "it calls no tools",
        AUDIO: "it handles no audio",
        IMAGE: "it makes no images",
    }
)


def able(endpoint: Endpoint, needed: Iterable[str]) -> bool:
    """Whether ``endpoint`` can do all that is ``needed``, as far as is known: the unknown may."""
    can = endpoint.traits.capabilities
    if not can:
        return True
    return not any(_lacks(endpoint, can, word) for word in needed)


def _lacks(endpoint: Endpoint, can: Sequence[str], word: str) -> bool:
    if word == EMBEDDING and endpoint.kind == RELOADING:
        return False  # it embeds with any model, whatever it lists
    return _EITHER.get(word, frozenset((word,))).isdisjoint(can)


def missing(endpoints: Iterable[Endpoint], needed: Sequence[str]) -> str:
    """The first of ``needed`` that none of ``endpoints`` can do; empty: each can be done by one of them."""
    there = list(endpoints)
    for word in needed:
        if not any(able(endpoint, (word,)) for endpoint in there):
            return word
    return ""


def mismatch(model: str, lacking: str, routes: Iterable[ModelRoute], needed: Sequence[str]) -> str:
    """The sentence for a request that needs what ``model`` lacks; it says which of ``routes`` can do it all.

    Models of which nothing is known are not recommended. O(endpoints).
    """
    can = sorted(
        route.name
        for route in routes
        if any(e.ready and e.traits.capabilities and able(e, needed) for e in route.endpoints)
    )
    shown = ", ".join(can[:MOST_NAMED]) + (
        f" and {len(can) - MOST_NAMED} more" if len(can) > MOST_NAMED else ""
    )
    others = f"models that can: {shown}" if can else "no model of the swarm is known to"
    return f"The model {model!r} can't serve this request: {_SENTENCES.get(lacking, lacking)}; {others}"
