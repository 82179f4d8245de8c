"""What an inference server is, by what it answers: ports and names say nothing.

Sans-IO: :func:`identify` names the path to be asked next, or says who answers so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

GENERIC: Final = "openai"
LLAMA_SERVER: Final = "llama-server"
LLAMA_CPP_PYTHON: Final = "llama-cpp-python"
VLLM: Final = "vllm"
SGLANG: Final = "sglang"
OLLAMA: Final = "ollama"
LM_STUDIO: Final = "lm-studio"
LOCALAI: Final = "localai"
OMLX: Final = "omlx"
MLX: Final = "mlx"

WELL_KNOWN: Final = "/.well-known/swarmplane"
"""Asked first, and without a key: a node must not be taken for a backend."""
MODELS: Final = "/v1/models"
VERSION: Final = "/api/version"
TAGS: Final = "/api/tags"
LOADED: Final = "/api/ps"
REST: Final = "/api/v0/models"
"""LM Studio's own list."""
AGENTS: Final = "/.well-known/localai.json"
SYSTEM: Final = "/system"
"""LocalAI's, before it had :data:`AGENTS`."""

SIGNATURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "llamacpp": LLAMA_SERVER,
        "me": LLAMA_CPP_PYTHON,
        "vllm": VLLM,
        "sglang": SGLANG,
        "omlx": OMLX,
        "vllm-mlx": MLX,
        "mlx-community": MLX,
    }
)
"""``owned_by`` of a listed model → who lists it."""
_OK: Final = 200
_REFUSED: Final = frozenset({401, 403})
_UNAVAILABLE: Final = 503
_UNKNOWN_PATH: Final = frozenset({404, 405})
_PLAIN_PYTHON: Final = "basehttp/"
"""Begins the ``Server`` header of Python's own HTTP server, which is mlx-lm's."""


class Standing(Enum):
    """What is to be done with who answers so."""

    BACKEND = "backend"
    NEEDS_KEY = "needs key"
    """An inference server, by the shape of its refusal; which one shows once it has a key."""
    LOADING = "loading"
    """An inference server that is not ready, by the shape of its refusal."""
    NODE = "node"
    """A node of a swarm: forwarding to it could go round in circles."""
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came for one path."""

    status: int = 0
    """0: nothing that can be read."""
    document: object = None
    """Its JSON, decoded; None: it was none."""
    server: str = ""
    """Its ``Server`` header."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answers."""

    standing: Standing
    kind: str = ""
    """Of a backend."""


_ANYBODY: Final = Identity(Standing.BACKEND, GENERIC)
_STRANGER: Final = Identity(Standing.STRANGER)


def identify(answers: Mapping[str, Answer]) -> Identity | str:
    """Who gave these ``answers``, by path, or the path that must be asked to know. O(models listed).

    No path is named twice, and at most eight are.
    """
    node = answers.get(WELL_KNOWN)
    if node is None:
        return WELL_KNOWN
    if node.status == _OK and "swarm" in _object(node):
        return Identity(Standing.NODE)
    listed = answers.get(MODELS)
    if listed is None:
        return MODELS
    entries = entries_of(listed.document, "data") if listed.status == _OK else None
    kind = signature(entries or ())
    if kind:
        return Identity(Standing.BACKEND, kind)
    if entries is None and listed.status not in _UNKNOWN_PATH:
        return _turned_away(listed)
    return _unsigned(answers, entries)


def signature(entries: tuple[Mapping[str, Any], ...]) -> str:
    """The kind that a list of models tells by itself; empty: it does not."""
    for entry in entries:
        owner = entry.get("owned_by")
        if isinstance(owner, str) and owner in SIGNATURES:
            return SIGNATURES[owner]
    return ""


def entries_of(document: object, name: str) -> tuple[Mapping[str, Any], ...] | None:
    """The objects of the list ``name`` in ``document``; None: there is no such list.

    null is an empty one where it says that it is a list, as servers in Go write it.
    """
    if not isinstance(document, dict):
        return None
    entries = document.get(name)
    if entries is None and document.get("object") == "list":
        return ()
    return tuple(one for one in entries if isinstance(one, dict)) if isinstance(entries, list) else None


def _turned_away(listed: Answer) -> Identity:
    """A refusal in JSON is an inference server's; a web page's is not."""
    if _object(listed):
        if listed.status in _REFUSED:
            return Identity(Standing.NEEDS_KEY, GENERIC)
        if listed.status == _UNAVAILABLE:
            return Identity(Standing.LOADING, GENERIC)
    return _STRANGER


def _unsigned(answers: Mapping[str, Answer], entries: tuple[Mapping[str, Any], ...] | None) -> Identity | str:
    """Of those whose list does not tell; ``entries`` None: it has no such list."""
    ollama = _ollama(answers)
    if isinstance(ollama, str):
        return ollama
    if ollama:
        return Identity(Standing.BACKEND, OLLAMA)
    if entries is None:
        return _STRANGER
    for path, fits, kind in ((REST, _of_lm_studio, LM_STUDIO), (AGENTS, _of_localai, LOCALAI)):
        answer = answers.get(path)
        if answer is None:
            return path
        if answer.status == _OK and fits(answer.document):
            return Identity(Standing.BACKEND, kind)
    return _plain(answers, entries)


def _plain(answers: Mapping[str, Answer], entries: tuple[Mapping[str, Any], ...]) -> Identity | str:
    system = answers.get(SYSTEM)
    if system is None:
        return SYSTEM
    if system.status == _OK and {"backends", "loaded_models"} <= _object(system).keys():
        return Identity(Standing.BACKEND, LOCALAI)
    unowned = not any("owned_by" in entry for entry in entries)
    if unowned and answers[MODELS].server.lower().startswith(_PLAIN_PYTHON):
        return Identity(Standing.BACKEND, MLX)
    return _ANYBODY


def _ollama(answers: Mapping[str, Answer]) -> bool | str:
    """Whether it answers as Ollama does at three of its paths, or the one to ask.

    Others imitate one or two of them, and a server of web pages answers the same to all.
    """
    for path, needs, lacks in ((VERSION, "version", "models"), (TAGS, "models", "version")):
        answer = answers.get(path)
        if answer is None:
            return path
        document = _object(answer)
        if answer.status != _OK or needs not in document or lacks in document:
            return False
    if not isinstance(_object(answers[VERSION])["version"], str):
        return False
    loaded = answers.get(LOADED)
    if loaded is None:
        return LOADED
    return all(
        one.status == _OK and entries_of(one.document, "models") is not None
        for one in (answers[TAGS], loaded)
    )


def _of_lm_studio(document: object) -> bool:
    entries = entries_of(document, "data")
    return bool(entries) and all(
        isinstance(one.get("state"), str) and isinstance(one.get("type"), str) for one in entries or ()
    )


def _of_localai(document: object) -> bool:
    return isinstance(document, dict) and {"version", "endpoints"} <= document.keys()


def _object(answer: Answer) -> Mapping[str, Any]:
    return answer.document if isinstance(answer.document, dict) else {}
