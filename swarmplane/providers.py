"""Providers of models in the cloud: where they are, how they are asked, and when they may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

OPENAI: Final = "openai"
ANTHROPIC: Final = "anthropic"
ANTHROPIC_VERSION: Final = "2023-06-01"
"""Of the API; sent where a client names none."""

Use = Literal["never", "last", "named"]
NEVER: Final = "never"
LAST: Final = "last"
NAMED: Final = "named"

_CLOUD: Final = "cloud-"
_REFUSED: Final = frozenset({401, 403})
_PAYMENT: Final = 402
_OK: Final = 200
EMPTY_REQUEST: Final = b"{}"
"""Costs nothing: whoever would answer it says what it lacks, and whoever does not know the key says that."""


@dataclass(frozen=True, slots=True)
class Provider:
    """Who answers requests for money."""

    name: str
    url: str
    """Without ``/v1``; empty: whoever names it says where it is."""
    dialect: str = OPENAI

    @property
    def models_path(self) -> str:
        """Where it lists its models, all on one page."""
        return "/v1/models?limit=1000" if self.dialect == ANTHROPIC else "/v1/models"

    @property
    def chat_path(self) -> str:
        """Where conversations go."""
        return "/v1/messages" if self.dialect == ANTHROPIC else "/v1/chat/completions"

    def credentials(self, key: str) -> tuple[tuple[bytes, bytes], ...]:
        """Header lines that ``key`` is shown in."""
        if self.dialect == ANTHROPIC:
            return ((b"x-api-key", key.encode("ascii")),)
        return ((b"authorization", f"Bearer {key}".encode("ascii")),)

    @property
    def defaults(self) -> tuple[tuple[bytes, bytes], ...]:
        """Header lines sent where the client says nothing of that name."""
        version = ((b"anthropic-version", ANTHROPIC_VERSION.encode()),)
        return version if self.dialect == ANTHROPIC else ()


PROVIDERS: Final[Mapping[str, Provider]] = MappingProxyType(
    {
        one.name: one
        for one in (
            Provider("anthropic", "https://api.anthropic.com", ANTHROPIC),
            Provider("cerebras", "https://api.cerebras.ai"),
            Provider("deepseek", "https://api.deepseek.com"),
            Provider("fireworks", "https://api.fireworks.ai/inference"),
            Provider("groq", "https://api.groq.com/openai"),
            Provider("mistral", "https://api.mistral.ai"),
            Provider("openai", "https://api.openai.com"),
            Provider("openrouter", "https://openrouter.ai/api"),
            Provider("together", "https://api.together.xyz"),
            Provider("xai", "https://api.x.ai"),
            Provider("openai-compatible", ""),
            Provider("anthropic-compatible", "", ANTHROPIC),
        )
    }
)


def kind_of(provider: str, use: str) -> str:
    """The kind of a backend of ``provider``: routes carry it, so that every node keeps to its ``use``."""
    return f"{_CLOUD}{use}:{provider}"


def use_of(kind: str) -> str:
    """When endpoints of backends of this ``kind`` may be asked; empty: they cost nothing, whenever."""
    if not kind.startswith(_CLOUD):
        return ""
    return kind[len(_CLOUD) :].partition(":")[0]


def plain(model: str) -> str:
    """What a model called ``provider:model`` is called there."""
    return model.partition(":")[2]


def verdict(listed: int, asked: int) -> str:
    """Why a key is not taken, for people; empty: it is.

    Args:
        listed: Status of the list of models with the key.
        asked: Status of an empty request for a conversation with it; 0: not asked. Some list their models to
            everybody: only this one shows that they know the key.
    """
    for status in (listed, asked):
        if status in _REFUSED:
            return "it refuses the key"
        if status == _PAYMENT:
            return "it takes the key, and wants to be paid first"
    return "" if listed == _OK else f"it answers its list of models with HTTP status {listed}"
