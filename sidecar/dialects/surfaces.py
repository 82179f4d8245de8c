"""Every path that is put into another dialect, and what becomes of each member of a body sent to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.dialects.anthropic_request import MESSAGES
from sidecar.dialects.completions import COMPLETIONS, GENERATE
from sidecar.dialects.embeddings import EMBED, EMBEDDINGS, LEGACY
from sidecar.dialects.fields import Surface
from sidecar.dialects.ollama_chat import CHAT as OLLAMA_CHAT
from sidecar.dialects.openai_chat import CHAT
from sidecar.dialects.responses_request import RESPONSE

SURFACES: Final[Mapping[str, Surface]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/responses": RESPONSE,
    "/v1/messages": MESSAGES,
    "/api/chat": OLLAMA_CHAT,
    "/api/generate": GENERATE,
    "/api/embed": EMBED,
    "/api/embeddings": LEGACY,
}
