"""What the models of a backend can do, as it tells: pure readers of JSON that nobody vouches for.

Who names some abilities is taken to lack the others; where a server does not tell enough for that, nothing is
said, and whoever asks for it finds out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sidecar.core.capability import AUDIO, CHAT, EMBEDDING, TOOLS, VISION

_CHATS: Final = "/v1/chat/completions"
_EMBEDS: Final = "/v1/embeddings"
_MODALITIES: Final = (VISION, AUDIO)
_NO_POOLING: Final = b"ooling type"
"""llama-server's words for a model that it makes no embeddings with as it was started."""
_LACKING: Final = frozenset({400, 422, 500})


def read_senses(props: Mapping[str, Any]) -> tuple[str, ...]:
    """Of tools, vision and audio, those that llama-server's ``GET /props`` says it has.

    It takes tools for any model and drops them where the template has no place for them (measured), so what
    it says of the template decides. Older ones say nothing of that, and put them into any prompt.
    """
    caps = props.get("chat_template_caps")
    told = caps if isinstance(caps, dict) else {"supports_tools": True}
    found = (
        [TOOLS] if any(told.get(name) is True for name in ("supports_tools", "supports_tool_calls")) else []
    )
    modalities = props.get("modalities")
    there = modalities if isinstance(modalities, dict) else {}
    return (*found, *(name for name in _MODALITIES if there.get(name) is True))


def of_llama_server(props: Mapping[str, Any], *, embeds: bool) -> tuple[str, ...]:
    """All that its model can do; nothing where it is too old to tell."""
    if not isinstance(props.get("modalities"), dict):
        return ()
    return (CHAT, *read_senses(props), "completion", *([EMBEDDING] if embeds else []))


def makes_embeddings(status: int, body: bytes) -> bool:
    """Whether an empty request to ``/v1/embeddings`` was answered by one who only misses the text.

    True where that can't be told: whoever asks finds out.
    """
    return status == 0 or (status in _LACKING and _NO_POOLING not in body)


def of_routes(document: Mapping[str, Any]) -> tuple[str, ...]:
    """What vLLM's list of its paths tells: it has those alone that its model can serve.

    That of one which makes text says nothing of tools and pictures, so nothing is said then.
    """
    paths = document.get("paths")
    there = paths if isinstance(paths, dict) else {}
    return (EMBEDDING,) if _EMBEDS in there and _CHATS not in there else ()
