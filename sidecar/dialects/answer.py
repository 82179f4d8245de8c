"""An answer in no dialect in particular: pieces of a stream, and the whole of it.

Made once per chunk of a stream, so these are msgspec structs: a tenth of a microsecond each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from sidecar.dialects.chat import ToolCall

Clock = Callable[[], int]
"""Nanoseconds that passed since some moment."""


class ToolDelta(msgspec.Struct):
    """More of the tool call number ``index``; ``id`` and ``name`` come with its first piece only."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Usage(msgspec.Struct):
    """LLM tokens that were read and written; ``cached`` and ``reasoning`` are parts of them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached: int = 0
    reasoning: int = 0


class Timings(msgspec.Struct):
    """What the backend measured, in nanoseconds; 0: not said."""

    total_ns: int = 0
    load_ns: int = 0
    prompt_ns: int = 0
    output_ns: int = 0


class Delta(msgspec.Struct):
    """One piece of an answer."""

    text: str = ""
    thinking: str = ""
    tools: list[ToolDelta] | None = None
    logprobs: msgspec.Raw | None = None
    """A JSON array in the shape that OpenAI's chat and Ollama share."""


class Ending(msgspec.Struct):
    """How an answer ended."""

    finish: str = "stop"
    """stop, length, tool_calls or content_filter."""
    usage: Usage | None = None
    timings: Timings | None = None
    stop_sequence: str | None = None


class Whole(msgspec.Struct):
    """An answer that came in one piece."""

    text: str
    ending: Ending
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    logprobs: msgspec.Raw | None = None


class BackendReader(Protocol):
    """Reads one answer of a backend. Every method raises BackendAnswerError for what is no such answer."""

    @property
    def ending(self) -> Ending:
        """How the answer ended, as far as is known yet."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the backend said that the model is done."""
        ...

    @property
    def closed(self) -> bool:
        """Whether the stream's last word was read: what follows means nothing."""
        ...

    def read(self, frame: bytes) -> Delta | None:
        """One event or line of a stream; None when it holds nothing for the client."""
        ...

    def whole(self, body: bytes) -> Whole:
        """A whole answer."""
        ...


class ClientWriter(Protocol):
    """Writes one answer for a client."""

    stream_type: bytes
    """Media type of a stream."""

    def delta(self, delta: Delta) -> bytes:
        """A piece of a stream."""
        ...

    def end(self, ending: Ending) -> bytes:
        """The proper end of a stream."""
        ...

    def whole(self, answer: Whole) -> bytes:
        """A whole answer."""
        ...
