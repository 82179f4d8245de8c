"""What an operator says of one inference server, or of a provider in the cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, field_validator

from swarmplane.providers import PROVIDERS
from swarmplane.settings.section import Section


class BackendSettings(Section):
    """An inference server on this host, or a provider in the cloud."""

    url: str
    """``http://host:port[/base]``; without ``/v1``."""
    name: str = ""
    """Unique on this host; empty: from the URL, or the provider."""
    key_file: Path | None = None
    """API key sent as ``Authorization: Bearer``, or as the provider wants it; sealed by ``backend add``."""
    slots: NonNegativeInt = 0
    """Requests served at a time; 0: unknown."""
    provider: str = ""
    """A provider in the cloud, whose requests cost: ``openai``, ``anthropic``, ``openai-compatible``…"""
    use: Literal["never", "last", "named"] = "named"
    """Of a provider: ask it never; when nobody else can, too; or only for models asked for by its name."""
    models: tuple[str, ...] = ()
    """Of a provider: names, or patterns, of the models that are offered; empty: all."""
    ca_file: Path | None = None
    """Authorities trusted besides the machine's own, as of a proxy that looks into TLS."""

    @field_validator("provider")
    @classmethod
    def _is_known(cls, provider: str) -> str:
        if provider and provider not in PROVIDERS:
            raise ValueError(f"no provider is called {provider!r}; there are {', '.join(PROVIDERS)}")
        return provider
