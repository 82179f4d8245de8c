"""The seam to the data plane: one request into a backend's dialect, its answer back into the client's.

Nothing here reads or waits. Where :func:`translates` says no, bytes pass as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from sidecar.dialects import (
    anthropic_chat,
    anthropic_request,
    completions,
    embeddings,
    ollama_chat,
    openai_chat,
    responses_request,
)
from sidecar.dialects.answer import BackendReader, ClientWriter, Clock
from sidecar.dialects.anthropic_answer import AnthropicAnswer
from sidecar.dialects.anthropic_writing import AnthropicWriter
from sidecar.dialects.chat import Chat, Completion
from sidecar.dialects.completion_writing import CompletionWriter
from sidecar.dialects.errors import error_answer
from sidecar.dialects.failures import BackendAnswerError
from sidecar.dialects.forced_calls import ForcedCall, forced_tools
from sidecar.dialects.framing import Events, Lines
from sidecar.dialects.ollama_answer import OllamaAnswer
from sidecar.dialects.ollama_writing import OllamaWriter
from sidecar.dialects.openai_answer import OpenAIAnswer
from sidecar.dialects.openai_writing import OpenAIChatWriter
from sidecar.dialects.responses_writing import ResponsesWriter
from sidecar.dialects.settings import ANTHROPIC, COUNTS, OLLAMA, OPENAI, RESPONSES
from sidecar.dialects.token_count import count_tokens
from sidecar.dialects.transcoding import Transcoding
from swarmplane.errors import InvalidRequestError

__all__ = [
    "ANTHROPIC",
    "COUNTS",
    "COUNT_TOKENS",
    "OLLAMA",
    "OPENAI",
    "RESPONSES",
    "AnswerReader",
    "BackendAnswerError",
    "Outgoing",
    "count_tokens",
    "error_answer",
    "translate",
    "translates",
]


class AnswerReader(Protocol):
    """One request's answer, from the backend's dialect into the client's. Used once, then dropped."""

    @property
    def streams(self) -> bool:
        """What the client asked for; the backend is asked alike."""
        ...

    @property
    def content_type(self) -> bytes:
        """Of the answer, for the client."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the backend said, in its stream, that the answer is whole."""
        ...

    def push(self, data: bytes) -> bytes:
        """What the client gets for a piece of a stream, cut anywhere; may be nothing.

        Raises:
            BackendAnswerError: The stream is broken or reports an error.
        """
        ...

    def end(self) -> bytes:
        """What the client still gets once the backend's body ended properly.

        Raises:
            BackendAnswerError: The backend never said that the answer is whole.
        """
        ...

    def whole(self, body: bytes) -> bytes:
        """The answer to a request that did not ask for a stream.

        Raises:
            BackendAnswerError: It is no such answer, or reports an error.
        """
        ...


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What goes to the backend, and what becomes of its answer."""

    path: bytes
    body: bytes
    """With the backend's spelling of the model."""
    answer: AnswerReader


@dataclass(frozen=True, slots=True)
class _Asked:
    """What :func:`translate` was told besides the body."""

    path: bytes
    to_ollama: bool
    to_anthropic: bool
    """Because it speaks neither Ollama's nor OpenAI's."""
    model: str
    asked: str
    answer_id: str
    now_s: int
    clock_ns: Clock
    thinks: bool


_CHAT: Final = b"/v1/chat/completions"
_MESSAGES: Final = b"/v1/messages"
_COMPLETIONS: Final = b"/v1/completions"
_EMBEDDINGS: Final = b"/v1/embeddings"
_OLLAMA_CHAT: Final = b"/api/chat"
_GENERATE: Final = b"/api/generate"
_EMBED: Final = b"/api/embed"
COUNT_TOKENS: Final = b"/v1/messages/count_tokens"
"""Needs no backend: where it is translated, :func:`count_tokens` has the answer."""

NATIVE: Final[Mapping[bytes, str]] = {
    _CHAT: OPENAI,
    _COMPLETIONS: OPENAI,
    _EMBEDDINGS: OPENAI,
    b"/v1/responses": RESPONSES,
    _MESSAGES: ANTHROPIC,
    COUNT_TOKENS: COUNTS,
    _OLLAMA_CHAT: OLLAMA,
    _GENERATE: OLLAMA,
    _EMBED: OLLAMA,
    b"/api/embeddings": OLLAMA,
}
"""Whose language each path is."""


def translates(path: bytes, spoken: frozenset[str]) -> bool:
    """Whether a request to ``path`` has to be put into another dialect for a backend that speaks ``spoken``.

    ``spoken`` holds names of this module's dialects. A backend that speaks Ollama's is called in it by
    OpenAI's clients too: its own ``/v1`` drops fields and loads models anew. One that speaks Anthropic's
    alone is called in that. Constant time.
    """
    native = NATIVE.get(path)
    if native is None:
        return False
    if native is OPENAI:
        return OLLAMA in spoken or OPENAI not in spoken
    return native not in spoken


def translate(
    path: bytes,
    body: bytes,
    *,
    spoken: frozenset[str],
    model: str,
    asked: str,
    answer_id: str,
    now_s: int,
    clock_ns: Clock = lambda: 0,
    thinks: bool = True,
) -> Outgoing:
    """Put ``body``, sent to ``path``, into a dialect of ``spoken``; only where :func:`translates` says so.

    ``model`` is the backend's spelling and goes into the request, ``asked`` the client's and into the answer,
    ``answer_id`` random text that ids in the answer are made of, ``now_s`` seconds since 1970.
    ``clock_ns`` measures the durations that Ollama's clients expect, where the backend tells none. Where the
    model is known not to think (``thinks``), what is said of that is left out: Ollama would refuse it.
    Costs time in proportion to the body.

    Raises:
        InvalidRequestError: A field is wrong, or the backend cannot honour it; ``param`` names it.
    """
    way = _WAYS.get(path)
    if way is None:
        raise InvalidRequestError("this model's backend does not serve this path")
    alone = ANTHROPIC in spoken and not spoken & {OLLAMA, OPENAI}
    return way(body, _Asked(path, OLLAMA in spoken, alone, model, asked, answer_id, now_s, clock_ns, thinks))


def _chat(body: bytes, a: _Asked) -> Outgoing:
    chat = openai_chat.read(body)
    return _talk(chat, OpenAIChatWriter(a.asked, a.answer_id, a.now_s, with_usage=chat.with_usage), a)


def _responses(body: bytes, a: _Asked) -> Outgoing:
    chat, echoed, kinds = responses_request.read(body)
    return _talk(chat, ResponsesWriter(a.asked, a.answer_id, a.now_s, echoed, kinds), a)


def _messages(body: bytes, a: _Asked) -> Outgoing:
    return _talk(anthropic_request.read(body), AnthropicWriter(a.asked, a.answer_id), a)


def _ollama_chat(body: bytes, a: _Asked) -> Outgoing:
    chat = ollama_chat.read(body)
    return _talk(chat, OllamaWriter(a.asked, a.now_s, a.clock_ns, loads=chat.loads), a)


def _generate(body: bytes, a: _Asked) -> Outgoing:
    asked = completions.read_generate(body)
    if isinstance(asked, Chat):
        return _talk(asked, OllamaWriter(a.asked, a.now_s, a.clock_ns, generates=True, loads=asked.loads), a)
    return _go_on(asked, OllamaWriter(a.asked, a.now_s, a.clock_ns, generates=True), a)


def _completions(body: bytes, a: _Asked) -> Outgoing:
    asked = completions.read_completion(body)
    return _go_on(asked, CompletionWriter(a.asked, a.answer_id, a.now_s, with_usage=asked.with_usage), a)


def _embeddings(body: bytes, a: _Asked) -> Outgoing:
    if a.to_anthropic:
        raise InvalidRequestError("this model's provider makes no embeddings", param="model")
    texts = _EMBEDDING_READERS[a.path](body)
    answer = embeddings.EmbeddingAnswer(a.path, texts, a.asked, to_ollama=a.to_ollama)
    if a.to_ollama:
        return Outgoing(_EMBED, embeddings.write_ollama(texts, a.model), answer)
    return Outgoing(_EMBEDDINGS, embeddings.write_openai(texts, a.model), answer)


def _talk(chat: Chat, writer: ClientWriter, a: _Asked) -> Outgoing:
    if a.to_ollama:
        body = ollama_chat.write_chat(chat if a.thinks else replace(chat, thinking=None), a.model)
        reader: BackendReader = OllamaAnswer(a.answer_id, one_call=chat.parallel is False)
        forced = forced_tools(chat)
        if forced:
            reader = ForcedCall(reader, forced, a.answer_id)
        return Outgoing(_OLLAMA_CHAT, body, Transcoding(reader, writer, Lines(), streams=chat.stream))
    if a.to_anthropic:
        body = anthropic_chat.write_messages(chat, a.model)
        return Outgoing(
            _MESSAGES, body, Transcoding(AnthropicAnswer(), writer, Events(), streams=chat.stream)
        )
    body = openai_chat.write_chat(chat, a.model)
    return Outgoing(_CHAT, body, Transcoding(OpenAIAnswer(), writer, Events(), streams=chat.stream))


def _go_on(asked: Completion, writer: ClientWriter, a: _Asked) -> Outgoing:
    if a.to_ollama:
        body = completions.write_generate(asked, a.model)
        reader = OllamaAnswer(a.answer_id)
        return Outgoing(_GENERATE, body, Transcoding(reader, writer, Lines(), streams=asked.stream))
    if a.to_anthropic:
        raise InvalidRequestError("this model's provider only answers conversations", param="prompt")
    body = completions.write_completion(asked, a.model)
    return Outgoing(_COMPLETIONS, body, Transcoding(OpenAIAnswer(), writer, Events(), streams=asked.stream))


_EMBEDDING_READERS: Final[Mapping[bytes, Callable[[bytes], embeddings.Embedding]]] = {
    _EMBEDDINGS: embeddings.read_openai,
    _EMBED: embeddings.read_ollama,
    b"/api/embeddings": embeddings.read_legacy,
}
_WAYS: Final[Mapping[bytes, Callable[[bytes, _Asked], Outgoing]]] = {
    _CHAT: _chat,
    _COMPLETIONS: _completions,
    _EMBEDDINGS: _embeddings,
    b"/v1/responses": _responses,
    _MESSAGES: _messages,
    _OLLAMA_CHAT: _ollama_chat,
    _GENERATE: _generate,
    _EMBED: _embeddings,
    b"/api/embeddings": _embeddings,
}
