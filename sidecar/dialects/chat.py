"""A request for text in no dialect in particular: what readers make and writers spell out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Image:
    """One picture. ``data`` is base64; where it is empty the picture stands at ``url``."""

    data: str = ""
    media_type: str = ""
    """``image/png`` and the like; empty: not said."""
    url: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model made. ``arguments`` is the text of a JSON object, as the dialect carried it."""

    id: str
    name: str
    arguments: str


Part = str | Image
"""Text or a picture."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``calls`` and ``thinking`` are an assistant's, ``call_id`` and ``call_name`` a tool's."""

    role: Role
    parts: tuple[Part, ...] = ()
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    call_name: str = ""

    @property
    def text(self) -> str:
        """All text, joined by blank lines where it came in several pieces."""
        return "\n\n".join(part for part in self.parts if isinstance(part, str))

    @property
    def images(self) -> tuple[Image, ...]:
        """All pictures, in order."""
        return tuple(part for part in self.parts if isinstance(part, Image))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call. ``parameters`` is its JSON schema, never decoded."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools the model may or must call: none, any, or the one named."""

    mode: Literal["auto", "none", "required", "tool"] = "auto"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """The form of the answer: some JSON, or JSON that fits ``schema``."""

    schema: msgspec.Raw | None = None
    name: str = "answer"
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Thinking:
    """Whether and how much the model should think before it answers."""

    on: bool | None = None
    effort: str = ""
    """As OpenAI names it: minimal, low, medium, high; empty: not said."""
    insists: bool = True
    """Whether a model that cannot think has to refuse. Anthropic's clients say "you may"."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation to go on with."""

    messages: tuple[Message, ...]
    settings: Mapping[str, object]
    """Values that mean the same in every dialect, by neutral names (:mod:`sidecar.dialects.settings`)."""
    stream: bool
    names: Mapping[str, str]
    """Neutral name of a part of the request → the client's own, for refusals."""
    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = field(default_factory=ToolChoice)
    parallel: bool | None = None
    """False: at most one tool call in the answer."""
    form: Form | None = None
    thinking: Thinking | None = None
    with_usage: bool = True
    """Whether a stream is to end with counts."""
    loads: bool = False
    """Whether all that is wanted is that the model gets loaded; one LLM token is asked for to that end."""
    keep_alive: msgspec.Raw | None = None

    def called(self, name: str) -> str:
        """The client's name of the part ``name``."""
        return self.names.get(name, name)


@dataclass(frozen=True, slots=True)
class Completion:
    """A text to go on with, without a conversation around it."""

    prompt: str
    settings: Mapping[str, object]
    stream: bool
    names: Mapping[str, str]
    suffix: str = ""
    with_usage: bool = True
    keep_alive: msgspec.Raw | None = None

    def called(self, name: str) -> str:
        """The client's name of the part ``name``."""
        return self.names.get(name, name)
