"""How many tokens an answer cost, read from its last bytes. Sans-IO, and nothing per chunk.

OpenAI, Anthropic and Ollama say it at the end: in the body's last members, or in a stream's last events.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

KEPT_BYTES: Final = 4096
_LARGEST: Final = 1 << 40
_OPENING_BYTES: Final = 1024
_KEPT_PIECES: Final = 16
"""End markers are short, and what counts stands before them; some servers send them byte by byte."""
_MOST_LOOKS: Final = 4
_OBJECT: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*(\{[^{}]{0,1024}(?:\{[^{}]{0,512}\}[^{}]{0,512}){0,8}\})")
"""A member's value that is an object of figures: no deeper than two, and no braces within strings."""
_REASON: Final = re.compile(rb'"(?:finish_reason|stop_reason|done_reason)"[ ]*:[ ]*"([a-z_]{1,32})"')
_PROMPT_EVAL: Final = re.compile(rb'"prompt_eval_count"[ ]*:[ ]*([0-9]{1,12})\b')
_EVAL: Final = re.compile(rb'"eval_count"[ ]*:[ ]*([0-9]{1,12})\b')


class Usage(NamedTuple):
    """LLM tokens of one answer; None where the answer does not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """Of the input: those that were read from a cache."""


NOTHING: Final = Usage()
_new: Final = tuple.__new__


class Tail(deque[bytes]):
    """The last pieces of a stream, kept while it passes: one reference a piece.

    Pieces up to :data:`KEPT_BYTES` may be added with ``append``, which costs a third of :meth:`keep`.

    Args:
        first: The first piece of the stream, however long.
    """

    __slots__ = ("opening",)

    def __init__(self, first: bytes) -> None:
        super().__init__((first[-KEPT_BYTES:],), _KEPT_PIECES)
        self.opening = first[:_OPENING_BYTES]
        """The stream's first bytes."""

    def keep(self, data: bytes) -> None:
        """``data`` went by; of a long piece its end counts."""
        self.append(data[-KEPT_BYTES:])

    def last(self) -> bytes:
        """The last :data:`KEPT_BYTES` of the kept pieces."""
        return b"".join(self)[-KEPT_BYTES:]


def last_of(body: bytes) -> bytes:
    """What :func:`read` needs of a whole ``body``."""
    return bytes(body[-KEPT_BYTES:])


def read(tail: bytes, opening: bytes = b"") -> Usage:
    """The usage that the end of an answer states.

    Args:
        tail: Its last bytes; may begin anywhere.
        opening: Its first bytes, for streams that count the input there.
    """
    found = _usage_object(tail) or _timings(tail) or _ollama(tail)
    if found is None:
        return NOTHING
    if found.input_tokens is None and opening:
        first = _usage_object(opening)
        if first is not None:
            return Usage(first.input_tokens, found.output_tokens, found.cached_tokens or first.cached_tokens)
    return found


def finish_reason(tail: bytes) -> str:
    """Why the model stopped, as the last of its answers says; empty where it does not."""
    found = _REASON.findall(tail)
    return found[-1].decode() if found else ""


class _Details(msgspec.Struct, gc=False):
    cached_tokens: object = None


class _Counted(msgspec.Struct, gc=False):
    prompt_tokens: object = None
    completion_tokens: object = None
    total_tokens: object = None
    input_tokens: object = None
    output_tokens: object = None
    cache_read_input_tokens: object = None
    cache_creation_input_tokens: object = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None


class _Timed(msgspec.Struct, gc=False):
    prompt_n: object = None
    predicted_n: object = None
    cache_n: object = None


_counted: Final = msgspec.json.Decoder(_Counted).decode
_timed: Final = msgspec.json.Decoder(_Timed).decode


def _usage_object(text: bytes) -> Usage | None:
    ends = len(text)
    for _ in range(_MOST_LOOKS):
        ends = text.rfind(b'"usage"', 0, ends)
        if ends < 0:
            return None
        value = _OBJECT.match(text, ends + 7)
        if value is None:
            continue
        try:
            usage = _of(_counted(value[1]))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if usage is not None:
            return usage
    return None


def _of(counted: _Counted) -> Usage | None:
    taken, made = counted.prompt_tokens, counted.completion_tokens
    if type(taken) is not int or not 0 <= taken < _LARGEST:
        taken = _count(counted.input_tokens)
    if type(made) is not int or not 0 <= made < _LARGEST:
        made = _count(counted.output_tokens)
        if made is None:
            if taken is None:
                return None
            if counted.total_tokens is not None:
                made = 0  # embeddings: all of it was input
    details = counted.prompt_tokens_details or counted.input_tokens_details
    cached = _count(details.cached_tokens) if details is not None else None
    if cached is None and counted.cache_read_input_tokens is not None:
        cached = _count(counted.cache_read_input_tokens)
        if taken is not None:
            # Anthropic counts what a cache held, or holds from now on, apart from the rest.
            taken += (cached or 0) + (_count(counted.cache_creation_input_tokens) or 0)
    return _new(Usage, (taken, made, cached))


def _timings(text: bytes) -> Usage | None:
    """llama.cpp's own figures, for a stream that was not asked for its usage."""
    for value in _objects(text, b'"timings"'):
        try:
            timed = _timed(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        read_now, made, cached = _count(timed.prompt_n), _count(timed.predicted_n), _count(timed.cache_n)
        if read_now is not None or made is not None:
            return Usage(None if read_now is None else read_now + (cached or 0), made, cached)
    return None


def _ollama(text: bytes) -> Usage | None:
    last = text.rstrip().rpartition(b"\n")[2]
    taken, made = _PROMPT_EVAL.search(last), _EVAL.search(last)
    if taken is None and made is None:
        return None
    return Usage(int(taken[1]) if taken else None, int(made[1]) if made else None)


def _objects(text: bytes, name: bytes) -> Iterator[bytes]:
    """Objects that are the values of members called ``name``, the last one first."""
    end = len(text)
    for _ in range(_MOST_LOOKS):
        end = text.rfind(name, 0, end)
        if end < 0:
            return
        found = _OBJECT.match(text, end + len(name))
        if found is not None:
            yield found[1]


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < _LARGEST else None
