"""Who may answer for a model that can't, and what kind of model it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from swarmplane.fallbacks import FallbackRule

_BY_NAME: Final = (
    ("embedding", ("embed", "bge-", "minilm", "gte-")),
    ("vision", ("-vl", "llava", "vision", "moondream")),
    ("code", ("coder", "code", "codestral", "devstral")),
    ("reasoning", ("-r1", "qwq", "reason", "thinking", "magistral")),
)
_BY_CAPABILITY: Final = frozenset({"embedding", "vision"})


def category_of(name: str, capabilities: Iterable[str] = ()) -> str:
    """chat, code, reasoning, vision or embedding: by what the model can do, where told, and by its name."""
    known, lower = frozenset(capabilities), name.casefold()
    if "embedding" in known and not known & {"chat", "completion"}:
        return "embedding"
    if "vision" in known:
        return "vision"
    for category, marks in _BY_NAME:
        if not (known and category in _BY_CAPABILITY) and any(mark in lower for mark in marks):
            return category
    return "chat"


def chain(
    asked: str,
    size_bytes: int,
    category: str,
    *,
    wished: Sequence[str],
    own: Sequence[str],
    rules: Iterable[FallbackRule],
) -> tuple[str, ...]:
    """Names to try for ``asked``, each once: what the client wished, the model's own chain, what rules say.

    Args:
        asked: As the client wrote it.
        size_bytes: Of the model asked for; 0 where unknown.
        category: Of the model asked for.
        wished: By the request.
        own: By the policy of the model.
        rules: Of the swarm, the first first.
    """
    ruled = (name for rule in rules if rule.fits(asked, category, size_bytes) for name in rule.models)
    return tuple(dict.fromkeys(name for name in (*wished, *own, *ruled) if name != asked))


def nearest(size_bytes: int, sizes: Iterable[tuple[str, int]]) -> str | None:
    """The name whose size is nearest to ``size_bytes``, by ratio; unknown ones (0) are the last resort."""

    def distance(one: tuple[str, int]) -> tuple[float, str]:
        name, size = one
        return (abs(math.log(size / size_bytes)) if size and size_bytes else math.inf, name)

    found = min(sizes, key=distance, default=None)
    return found[0] if found is not None else None
