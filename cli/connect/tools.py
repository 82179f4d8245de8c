"""Which programs can be pointed to a sidecar, and what each of them takes.

Files and keys are those of the programs' own documentation, as of the end of 2025.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

KEY: Final = "none"
"""Sent as a key where there is none: any passes while none is required, and programs insist on having one."""


class Form(Enum):
    """How a settings file is written."""

    JSON = "json"
    TOML = "toml"
    LINES = "lines"
    """``name: value`` or ``NAME=value``, one a line."""
    MODELS = "models"
    """YAML with a list of models, to which ours is added."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a program is pointed to."""

    url: str
    """Of the client listener, without a path."""
    model: str
    context: int = 8192
    """Of the model, in tokens."""
    key: str = field(default=KEY, repr=False)
    """The API key that the program shows."""

    @property
    def keyed(self) -> bool:
        """Whether it has a key of the swarm's."""
        return self.key != KEY

    @property
    def openai(self) -> str:
        """Base URL of clients of OpenAI's API."""
        return f"{self.url}/v1"


@dataclass(frozen=True, slots=True)
class Tool:
    """One program."""

    name: str
    title: str
    form: Form
    settings: Callable[[Place], Mapping[str, object]]
    """Nested by keys for JSON and TOML; flat for lines; of the one entry for lists of models."""
    file: str = ""
    """Below the home directory; empty: there is none that everybody has."""
    list_key: str = ""
    """Of the list, for lists of models."""
    assign: str = "="
    """Between name and value, for lines."""
    note: Callable[[Place], str] = lambda _: ""
    """Words for people beside the settings."""


def _environment(**values: Callable[[Place], str]) -> Callable[[Place], Mapping[str, object]]:
    return lambda place: {name: value(place) for name, value in values.items()}


def _claude_code(place: Place) -> Mapping[str, object]:
    names = ("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL")
    models = dict.fromkeys((*names, "ANTHROPIC_DEFAULT_OPUS_MODEL"), place.model)
    return {"env": {"ANTHROPIC_BASE_URL": place.url, "ANTHROPIC_AUTH_TOKEN": place.key, **models}}


def _codex(place: Place) -> Mapping[str, object]:
    provider: dict[str, object] = {"name": "Swarmplane", "base_url": place.openai, "wire_api": "responses"}
    if place.keyed:
        provider["http_headers"] = {"x-api-key": place.key}
    return {
        "model": place.model,
        "model_provider": "swarmplane",
        # Its search is a tool that only OpenAI's own service has: it would be left out of each request.
        "web_search": "disabled",
        "model_providers": {"swarmplane": provider},
    }


def _zed(place: Place) -> Mapping[str, object]:
    model = {"name": place.model, "display_name": place.model, "max_tokens": place.context}
    provider = {"api_url": place.openai, "available_models": [model]}
    return {"language_models": {"openai_compatible": {"Swarmplane": provider}}}


def _opencode(place: Place) -> Mapping[str, object]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Swarmplane",
        "options": {"baseURL": place.openai, "apiKey": place.key},
        "models": {place.model: {"name": place.model}},
    }
    return {"provider": {"swarmplane": provider}}


def _continue(place: Place) -> Mapping[str, object]:
    return {
        "name": "Swarmplane",
        "provider": "openai",
        "model": place.model,
        "apiBase": place.openai,
        "apiKey": place.key,
    }


def _litellm(place: Place) -> Mapping[str, object]:
    inner = {"model": f"openai/{place.model}", "api_base": place.openai, "api_key": place.key}
    return {"model_name": place.model, "litellm_params": inner}


def _aider(place: Place) -> Mapping[str, object]:
    return {
        "model": f"openai/{place.model}",
        "openai-api-base": place.openai,
        "openai-api-key": place.key,
    }


def _ollama(place: Place) -> Mapping[str, object]:
    return {"OLLAMA_HOST": place.url, **({"OLLAMA_API_KEY": place.key} if place.keyed else {})}


def _container(place: Place) -> str:
    inside = place.url.replace("127.0.0.1", "host.docker.internal").replace(
        "localhost", "host.docker.internal"
    )
    return (
        f"in a container the address is {inside}, and the sidecar has to listen where containers reach it: "
        "swarmctl up --lan"
    )


_OPENAI: Final = _environment(OPENAI_BASE_URL=lambda p: p.openai, OPENAI_API_KEY=lambda p: p.key)
_ZED_FILE: Final = (
    "AppData/Roaming/Zed/settings.json" if sys.platform == "win32" else ".config/zed/settings.json"
)
_LISTED: Final = (
    Tool(
        "open-webui",
        "Open WebUI",
        Form.LINES,
        _environment(
            OLLAMA_BASE_URL=lambda p: p.url,
            OPENAI_API_BASE_URL=lambda p: p.openai,
            OPENAI_API_KEY=lambda p: p.key,
        ),
        note=_container,
    ),
    Tool("continue", "Continue", Form.MODELS, _continue, ".continue/config.yaml", "models"),
    Tool("claude-code", "Claude Code", Form.JSON, _claude_code, ".claude/settings.json"),
    Tool("aider", "Aider", Form.LINES, _aider, ".aider.conf.yml", assign=": "),
    Tool("codex", "Codex", Form.TOML, _codex, ".codex/config.toml"),
    Tool("opencode", "OpenCode", Form.JSON, _opencode, ".config/opencode/opencode.json"),
    Tool(
        "zed",
        "Zed",
        Form.JSON,
        _zed,
        _ZED_FILE,
        note=lambda p: (
            f"Zed asks once for a key of the provider Swarmplane: {'yours' if p.keyed else KEY}; it keeps "
            "keys where the system keeps passwords, not in its settings"
        ),
    ),
    Tool(
        "cursor",
        "Cursor",
        Form.LINES,
        _environment(base_url=lambda p: p.openai, api_key=lambda p: p.key, model=lambda p: p.model),
        note=lambda _: (
            "Settings > Models: add the model, set the OpenAI key and override its base URL. Cursor calls it "
            "from its own servers: it needs a public address, and keys"
        ),
    ),
    Tool("litellm", "LiteLLM's proxy", Form.MODELS, _litellm, list_key="model_list"),
    Tool("openai", "the OpenAI packages", Form.LINES, _OPENAI),
    Tool("anthropic", "the Anthropic packages", Form.LINES,
         _environment(ANTHROPIC_BASE_URL=lambda p: p.url, ANTHROPIC_API_KEY=lambda p: p.key)),
    Tool("ollama", "Ollama's own client and packages", Form.LINES, _ollama),
)  # fmt: skip
TOOLS: Final[Mapping[str, Tool]] = MappingProxyType({tool.name: tool for tool in _LISTED})
