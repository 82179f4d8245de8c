"""The seam to the data plane: one request into a backend's dialect, its answer back into the client's.

Nothing here reads or waits. Where :func:`translates` says no, bytes pass as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sidecar.dialects import ollama_chat, openai_chat
from sidecar.dialects.answer import BackendReader, ClientWriter
from sidecar.dialects.chat import Chat
from sidecar.dialects.failures import BackendAnswerError, cut_off
from sidecar.dialects.framing import Events, Frames, Lines
from sidecar.dialects.ollama_answer import OllamaAnswer
from sidecar.dialects.ollama_writing import OllamaWriter
from sidecar.dialects.openai_answer import OpenAIAnswer
from sidecar.dialects.openai_writing import OpenAIChatWriter
from sidecar.dialects.settings import ANTHROPIC, OLLAMA, OPENAI, RESPONSES
from swarmplane.errors import InvalidRequestError

__all__ = [
    "ANTHROPIC",
    "OLLAMA",
    "OPENAI",
    "RESPONSES",
    "AnswerReader",
    "BackendAnswerError",
    "Outgoing",
    "translate",
    "translates",
]


class AnswerReader(Protocol):
    """One request's answer, from the backend's dialect into the client's. Used once, then dropped."""

    streams: bool
    """What the client asked for; the backend is asked alike."""
    content_type: bytes
    """For the client."""

    @property
    def ended(self) -> bool:
        """Whether the backend said that the answer is whole."""
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


_CHAT = b"/v1/chat/completions"
_OLLAMA_CHAT = b"/api/chat"


def translates(path: bytes, spoken: frozenset[str]) -> bool:
    """Whether a request to ``path`` has to be put into another dialect for a backend that speaks ``spoken``.

    ``spoken`` holds names of this module's dialects. A backend that speaks Ollama's is called in it by
    OpenAI's clients too: its own ``/v1`` drops fields and loads models anew. Constant time.
    """
    if path == _CHAT:
        return OLLAMA in spoken
    return path == _OLLAMA_CHAT and OLLAMA not in spoken


def translate(
    path: bytes, body: bytes, *, spoken: frozenset[str], model: str, asked: str, answer_id: str, now_s: int
) -> Outgoing:
    """Put ``body``, sent to ``path``, into a dialect of ``spoken``; only where :func:`translates` says so.

    ``model`` is the backend's spelling and goes into the request, ``asked`` the client's and into the answer,
    ``answer_id`` random text that ids in the answer are made of, ``now_s`` seconds since 1970.

    Raises:
        InvalidRequestError: A field is wrong, or the backend cannot honour it; ``param`` names it.
    """
    writer: ClientWriter
    if path == _CHAT:
        chat = openai_chat.read(body)
        writer = OpenAIChatWriter(asked, answer_id, now_s, with_usage=chat.with_usage)
    elif path == _OLLAMA_CHAT:
        chat = ollama_chat.read(body)
        writer = OllamaWriter(asked, now_s)
    else:
        raise InvalidRequestError("this model's backend does not serve this path")
    return _outgoing(chat, writer, spoken, model, answer_id)


def _outgoing(
    chat: Chat, writer: ClientWriter, spoken: frozenset[str], model: str, answer_id: str
) -> Outgoing:
    if OLLAMA in spoken:
        body = ollama_chat.write_chat(chat, model)
        reader: BackendReader = OllamaAnswer(answer_id, one_call=chat.parallel is False)
        return Outgoing(_OLLAMA_CHAT, body, Transcoding(reader, writer, Lines(), streams=chat.stream))
    body = openai_chat.write_chat(chat, model)
    return Outgoing(_CHAT, body, Transcoding(OpenAIAnswer(), writer, Events(), streams=chat.stream))


class Transcoding:
    """See :class:`AnswerReader`: frames of the backend's stream, read and written anew."""

    __slots__ = ("_frames", "_reader", "_said", "_writer", "content_type", "streams")

    def __init__(self, reader: BackendReader, writer: ClientWriter, frames: Frames, *, streams: bool) -> None:
        self.streams = streams
        self.content_type = writer.stream_type if streams else b"application/json"
        self._reader = reader
        self._writer = writer
        self._frames = frames
        self._said = False

    @property
    def ended(self) -> bool:
        """See :class:`AnswerReader`."""
        return self._reader.finished

    def push(self, data: bytes) -> bytes:
        """See :class:`AnswerReader`."""
        return b"" if self._said else self._passed(self._frames.push(data))

    def end(self) -> bytes:
        """See :class:`AnswerReader`."""
        if self._said:
            return b""
        last = self._passed(self._frames.rest())
        if self._said:
            return last
        if not self._reader.finished:
            raise cut_off()
        self._said = True
        return last + self._writer.end(self._reader.ending)

    def whole(self, body: bytes) -> bytes:
        """See :class:`AnswerReader`."""
        return self._writer.whole(self._reader.whole(body))

    def _passed(self, frames: list[bytes]) -> bytes:
        reader, writer = self._reader, self._writer
        out = b""
        for frame in frames:
            delta = reader.read(frame)
            if delta is not None:
                out += writer.delta(delta)
            if reader.closed:
                self._said = True
                return out + writer.end(reader.ending)
        return out


def error_answer(path: bytes, status: int, body: bytes) -> bytes:
    """A backend's error of ``status`` in whatever shape, in the shape of the dialect of ``path``."""
    from sidecar.dialects.errors import error_answer as answer

    return answer(path, status, body)
