"""Models as each dialect lists them: complete, without nulls."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sidecar.core.shown import Shown
from swarmplane.traits import Traits

OWNED_BY: Final = "swarm"
NEVER: Final = "2318-01-01T00:00:00Z"
"""What Ollama itself says of a model that is not unloaded."""
_TEMPLATE: Final = "{{ .Prompt }}"
_FILLING: Final = "{{ .Prompt }}{{ .Suffix }}"
"""Clients look for the suffix to learn whether a model fills in the middle."""
UNSHOWN: Final = Shown()
_CHAT: Final = frozenset({"chat", "completion"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A model, whatever the dialect."""

    name: str
    nodes: Sequence[str]
    loaded: bool
    context_length: int
    aliases: Sequence[str]
    traits: Traits
    since_s: int
    """Unix seconds: of its file's last change, else since when it is known."""
    vram_bytes: int = 0
    expires_at_s: int = 0
    """Unix seconds; 0: it is not unloaded, or nobody knows when."""

    @property
    def digest(self) -> str:
        """As hexadecimal digits, as Ollama writes it; of the name where the weights' own is unknown."""
        _, _, digits = self.traits.digest.rpartition(":")
        return digits or hashlib.sha256(self.name.encode()).hexdigest()

    @property
    def swarm(self) -> dict[str, Any]:
        """What we add in every dialect; facts of the weights where they are known."""
        traits = self.traits
        facts = {
            "capabilities": list(traits.capabilities),
            "digest": traits.digest,
            "family": traits.family,
            "parameter_size": traits.parameter_size,
            "quantization": traits.quantization,
            "size_bytes": traits.size_bytes,
        }
        return {
            "nodes": list(self.nodes),
            "loaded": self.loaded,
            "context_length": self.context_length,
            "aliases": list(self.aliases),
            **{name: value for name, value in facts.items() if value},
        }


def openai_model(entry: Entry) -> dict[str, Any]:
    """One of ``/v1/models``."""
    return {
        "id": entry.name,
        "object": "model",
        "created": entry.since_s,
        "owned_by": OWNED_BY,
        "swarm": entry.swarm,
    }


def openai_models(entries: Sequence[Entry]) -> dict[str, Any]:
    """``GET /v1/models``."""
    return {"object": "list", "data": [openai_model(entry) for entry in entries]}


def anthropic_model(entry: Entry) -> dict[str, Any]:
    """One of ``/v1/models``, for who names the version of Anthropic's interface."""
    return {
        "type": "model",
        "id": entry.name,
        "display_name": entry.name,
        "created_at": moment(entry.since_s),
        "swarm": entry.swarm,
    }


def anthropic_page(
    entries: Sequence[Entry], *, limit: int, after: str = "", before: str = ""
) -> dict[str, Any]:
    """``GET /v1/models`` in pages: up to ``limit`` of those after, or before, the id that is named.

    A name that is not there begins at the start, as an id that went away between two pages.
    """
    names = [entry.name for entry in entries]
    start, end = 0, len(entries)
    if after in names:
        start = names.index(after) + 1
    if before in names:
        end = names.index(before)
    chosen = entries[start:end]
    more = len(chosen) > limit
    page = chosen[-limit:] if before in names and not after else chosen[:limit]
    return {
        "data": [anthropic_model(entry) for entry in page],
        "has_more": more,
        "first_id": page[0].name if page else None,
        "last_id": page[-1].name if page else None,
    }


def ollama_tags(entries: Sequence[Entry]) -> dict[str, Any]:
    """``GET /api/tags``."""
    return {"models": [{**_tag(entry), "modified_at": moment(entry.since_s)} for entry in entries]}


def ollama_ps(entries: Sequence[Entry]) -> dict[str, Any]:
    """``GET /api/ps``: those that are loaded anywhere."""
    return {
        "models": [
            {
                **_tag(entry),
                "expires_at": moment(entry.expires_at_s) if entry.expires_at_s else NEVER,
                "size_vram": entry.vram_bytes,
                "context_length": entry.context_length,
            }
            for entry in entries
            if entry.loaded
        ]
    }


def ollama_show(entry: Entry, shown: Shown = UNSHOWN) -> dict[str, Any]:
    """``POST /api/show``, with what its own server ``shown`` of it where that is known here."""
    traits = entry.traits
    architecture = traits.family or "unknown"
    context = traits.trained_context or entry.context_length
    information: dict[str, Any] = {"general.architecture": architecture, "general.basename": entry.name}
    if traits.quantization:
        information["general.file_type"] = traits.quantization
    if context:
        information[f"{architecture}.context_length"] = context
    information |= shown.facts
    can = _capabilities(traits.capabilities)
    template = shown.template or (_FILLING if "insert" in can else _TEMPLATE)
    return {
        "license": shown.license,
        "modelfile": _modelfile(entry.name, template, shown),
        "parameters": shown.parameters,
        "template": template,
        "system": shown.system,
        "details": _details(traits),
        "messages": [],
        "model_info": information,
        "tensors": [],
        "capabilities": can,
        "modified_at": moment(entry.since_s),
        "swarm": entry.swarm,
    }


def _modelfile(name: str, template: str, shown: Shown) -> str:
    """From which the same model is made anew; where its weights lie is its own host's business."""
    lines = [f"FROM {name}", f'TEMPLATE """{template}"""']
    if shown.system:
        lines.append(f'SYSTEM """{shown.system}"""')
    lines += [f"PARAMETER {line.strip()}" for line in shown.parameters.splitlines() if line.strip()]
    if shown.license:
        lines.append(f'LICENSE """{shown.license}"""')
    return "\n".join(lines) + "\n"


def moment(seconds: int) -> str:
    """Unix ``seconds`` as RFC 3339 has them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _tag(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "model": entry.name,
        "size": entry.traits.size_bytes,
        "digest": entry.digest,
        "details": _details(entry.traits),
        "swarm": entry.swarm,
    }


def _details(traits: Traits) -> Mapping[str, Any]:
    return {
        "parent_model": "",
        "format": traits.format or "gguf",
        "family": traits.family,
        "families": [traits.family] if traits.family else [],
        "parameter_size": traits.parameter_size,
        "quantization_level": traits.quantization,
    }


def _capabilities(told: Sequence[str]) -> list[str]:
    """In Ollama's words. Of what is unknown it is taken that it completes text: most models do."""
    completes = not told or not _CHAT.isdisjoint(told)
    return ["completion"] * completes + [word for word in told if word not in _CHAT]
