"""Embeddings: OpenAI's, and both of Ollama's, read from clients, written for backends, and back."""

from __future__ import annotations

import array
import base64
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from sidecar.dialects.failures import BackendAnswerError, broken, refused, reported
from sidecar.dialects.fields import Coded, Fate, Ignored, Surface, members_of, sort_out
from sidecar.dialects.settings import OLLAMA, OPENAI, TEXT, decoded

_MEMORY: Final = Ignored("how the model is held in memory is the backend's own affair")

EMBEDDINGS: Final = Surface(
    OPENAI,
    {
        "model": Coded(ollama="model"),
        "input": Coded(ollama="input; LLM tokens are refused"),
        "dimensions": Coded(ollama="dimensions"),
        "encoding_format": Coded(ollama="not sent; base64 is made here"),
        "keep_alive": Coded(ollama="keep_alive"),
        "user": Ignored("names the caller"),
    },
    (OLLAMA,),
)
_SHARED: Final[Mapping[str, Fate]] = {
    "model": Coded(openai="model"),
    "keep_alive": _MEMORY,
    "options": Ignored("embeddings have no sampling, and memory is the backend's own affair"),
    "truncate": Ignored("an input that is too long is refused by the backend"),
}
EMBED: Final = Surface(
    OLLAMA,
    {**_SHARED, "input": Coded(openai="input"), "dimensions": Coded(openai="dimensions")},
    (OPENAI,),
)
LEGACY: Final = Surface(OLLAMA, {**_SHARED, "prompt": Coded(openai="input")}, (OPENAI,))


@dataclass(frozen=True, slots=True)
class Embedding:
    """Texts to embed."""

    texts: str | list[str]
    dimensions: int | None = None
    keep_alive: msgspec.Raw | None = None
    in_base64: bool = False


_INPUT: Final = msgspec.json.Decoder(str | list[str | int | list[int]])
_FORMAT: Final = msgspec.json.Decoder(str)
_COUNT: Final = msgspec.json.Decoder(int)


def read_openai(body: bytes) -> Embedding:
    """A request to ``/v1/embeddings``.

    Raises:
        InvalidRequestError: Something in it is wrong or can't be put into Ollama's dialect.
    """
    coded, _ = sort_out(members_of(body), EMBEDDINGS.fields)
    form = decoded(coded["encoding_format"], _FORMAT, "encoding_format") if "encoding_format" in coded else ""
    if form not in {"", "float", "base64"}:
        raise refused("encoding_format", "must be float or base64")
    return Embedding(_texts(coded, "input"), _dimensions(coded), coded.get("keep_alive"), form == "base64")


def read_ollama(body: bytes) -> Embedding:
    """A request to ``/api/embed``.

    Raises:
        InvalidRequestError: Something in it is wrong.
    """
    coded, _ = sort_out(members_of(body), EMBED.fields)
    return Embedding(_texts(coded, "input"), _dimensions(coded))


def read_legacy(body: bytes) -> Embedding:
    """A request to ``/api/embeddings``.

    Raises:
        InvalidRequestError: Something in it is wrong.
    """
    coded, _ = sort_out(members_of(body), LEGACY.fields)
    if "prompt" not in coded:
        raise refused("prompt", "is missing")
    return Embedding(decoded(coded["prompt"], TEXT, "prompt"))


def _texts(coded: dict[str, msgspec.Raw], name: str) -> str | list[str]:
    if name not in coded:
        raise refused(name, "is missing")
    found = decoded(coded[name], _INPUT, name)
    if isinstance(found, str):
        return found
    texts = [text for text in found if isinstance(text, str)]
    if len(texts) != len(found):
        raise refused(name, "this model's backend embeds text, not LLM tokens")
    return texts


def _dimensions(coded: dict[str, msgspec.Raw]) -> int | None:
    return decoded(coded["dimensions"], _COUNT, "dimensions") if "dimensions" in coded else None


def write_ollama(asked: Embedding, model: str) -> bytes:
    """The body of a request to a backend's ``/api/embed``. OpenAI cuts no input: nor may Ollama."""
    body: dict[str, object] = {"model": model, "input": asked.texts, "truncate": False}
    if asked.dimensions is not None:
        body["dimensions"] = asked.dimensions
    if asked.keep_alive is not None:
        body["keep_alive"] = asked.keep_alive
    return msgspec.json.encode(body)


def write_openai(asked: Embedding, model: str) -> bytes:
    """The body of a request to a backend's ``/v1/embeddings``."""
    body: dict[str, object] = {"model": model, "input": asked.texts, "encoding_format": "float"}
    if asked.dimensions is not None:
        body["dimensions"] = asked.dimensions
    return msgspec.json.encode(body)


class _OllamaAnswer(msgspec.Struct):
    embeddings: list[list[float]] | None = None
    prompt_eval_count: int = 0
    total_duration: int = 0
    load_duration: int = 0
    error: object = None


class _Item(msgspec.Struct):
    embedding: list[float] | str
    index: int = 0


class _Counts(msgspec.Struct):
    prompt_tokens: int | None = None


class _OpenAIAnswer(msgspec.Struct):
    data: list[_Item] | None = None
    usage: _Counts | None = None
    error: object = None


_OLLAMA: Final = msgspec.json.Decoder(_OllamaAnswer)
_OPENAI: Final = msgspec.json.Decoder(_OpenAIAnswer)


class EmbeddingAnswer:
    """See :class:`sidecar.dialects.translate.AnswerReader`. Embeddings never stream."""

    __slots__ = ("_asked", "_model", "_path", "_to_ollama")
    streams = False
    content_type = b"application/json"
    ended = False

    def __init__(self, path: bytes, asked: Embedding, model: str, *, to_ollama: bool) -> None:
        self._path = path
        self._asked = asked
        self._model = model
        self._to_ollama = to_ollama

    def push(self, data: bytes) -> bytes:  # noqa: ARG002
        """See :class:`sidecar.dialects.translate.AnswerReader`: a stream was never asked for."""
        raise broken()

    def end(self) -> bytes:
        """See :class:`sidecar.dialects.translate.AnswerReader`: a stream was never asked for."""
        raise broken()

    def whole(self, body: bytes) -> bytes:
        """See :class:`sidecar.dialects.translate.AnswerReader`."""
        vectors, answer = self._read_ollama(body) if self._to_ollama else self._read_openai(body)
        texts = self._asked.texts
        if len(vectors) != (1 if isinstance(texts, str) else len(texts)):
            raise BackendAnswerError("The backend's answer has not one embedding for every input")
        if self._path == b"/v1/embeddings":
            return self._openai(vectors, answer.prompt_eval_count)
        if self._path == b"/api/embed":
            return msgspec.json.encode(
                {
                    "model": self._model,
                    "embeddings": vectors,
                    "total_duration": answer.total_duration,
                    "load_duration": answer.load_duration,
                    "prompt_eval_count": answer.prompt_eval_count,
                }
            )
        return msgspec.json.encode({"embedding": vectors[0]})

    def _read_ollama(self, body: bytes) -> tuple[list[list[float]], _OllamaAnswer]:
        try:
            answer = _OLLAMA.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise broken() from error
        if answer.error is not None:
            raise reported()
        if answer.embeddings is None:
            raise broken()
        return answer.embeddings, answer

    def _read_openai(self, body: bytes) -> tuple[list[list[float]], _OllamaAnswer]:
        try:
            answer = _OPENAI.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise broken() from error
        if answer.error is not None:
            raise reported()
        if answer.data is None:
            raise broken()
        vectors = [_floats(item.embedding) for item in sorted(answer.data, key=lambda item: item.index)]
        counted = (answer.usage.prompt_tokens or 0) if answer.usage else 0
        return vectors, _OllamaAnswer(prompt_eval_count=counted)

    def _openai(self, vectors: list[list[float]], counted: int) -> bytes:
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _base64(vector) if self._asked.in_base64 else vector,
            }
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": counted, "total_tokens": counted}
        return msgspec.json.encode({"object": "list", "data": data, "model": self._model, "usage": usage})


def _base64(vector: list[float]) -> str:
    """Little-endian 32-bit floats, as OpenAI packs them."""
    packed = array.array("f", vector)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode()


def _floats(vector: list[float] | str) -> list[float]:
    if not isinstance(vector, str):
        return vector
    packed = array.array("f")
    try:
        packed.frombytes(base64.b64decode(vector, validate=True))
    except ValueError as error:
        raise broken() from error
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()
