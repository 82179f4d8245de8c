"""Look into a JSON body without decoding it: the routing keys' values, and where in the bytes they stand.

Duplicate top-level keys, and routing keys spelled by case or escapes, are refused: parsers disagree on what
they mean, so a gate that reads one value and a backend that reads another could be played against each other.
"""

from __future__ import annotations

import functools
import re
from typing import Final

import msgspec

from swarmplane.errors import InvalidRequestError

ROUTING_KEYS: Final = frozenset(
    {
        "model",
        "stream",
        "store",
        "fallback",
        "fallback_models",
        "metadata",
        "previous_response_id",
        "keep_alive",
        "user",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "options",
    }
)
EXTRAS: Final = ("fallback_models", "fallback")
"""Members of the body that are ours; removed before it goes on."""
_VALIDATED_BYTES: Final = 4 * 1024 * 1024
"""Larger bodies are not searched for bad UTF-8: that would hold the loop; their routing values still are."""

MOST_MEMBERS: Final = 1_000
"""At the top level. Every one costs the loop about 2 µs."""
_CHECKED_BYTES: Final = 512 * 1024
"""In shorter bodies stand fewer members than that many quotes delimit: one takes five bytes at least."""
MOST_QUOTES: Final = 250_000
"""That delimit text in a body: the decoder makes a value of every top-level member before any can be
counted, 3 million of them in seconds. Text does not count, so long conversations have far fewer."""

MOST_METADATA_BYTES: Final = 64 * 1024
"""Of ``metadata``, which is looked into when it may hold ``tags``."""
_LONGEST_KEY: Final = 256
MOST_FALLBACKS: Final = 16
"""Models that a request may name to answer in place of its own."""

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_names = msgspec.json.Decoder(tuple[str, ...]).decode
_KEY: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_SPACE: Final = re.compile(rb"[ \t\n\r]*")

Body = bytes | bytearray


class Peek:
    """What routing needs of a body. Spans are byte offsets of values, end exclusive."""

    __slots__ = (
        "_spans",
        "has_store",
        "keeps",
        "members",
        "model",
        "model_span",
        "removals",
        "stored",
        "stream",
        "wish",
    )

    def __init__(
        self,
        model: str,
        model_span: tuple[int, int],
        members: dict[str, msgspec.Raw] | None = None,
        spans: dict[str, Span] | None = None,
    ) -> None:
        self.model = model
        self.model_span = model_span
        self.members = members
        """All top-level members, undecoded; None for a body that is not JSON."""
        self._spans = spans
        self.stream = False
        self.removals: tuple[tuple[int, int], ...] = ()
        """Spans that must not go on: our extras, with their commas."""
        self.wish: Wish | None = None
        """What the body says of fallbacks; None: nothing."""
        self.has_store = False
        self.stored = False
        """Whether ``store`` is true."""
        self.keeps = False
        """Whether ``keep_alive`` unloads the model after the answer, or keeps it for good."""

    @property
    def spans(self) -> dict[str, Span]:
        """Where the members stand."""
        if self._spans is None:
            self._spans = _compact_spans(self.members or {})
        return self._spans


class Wish:
    """Which models may answer in place of the one that is asked for."""

    __slots__ = ("models", "off")

    def __init__(self, models: tuple[str, ...], *, off: bool) -> None:
        self.models = models
        self.off = off
        """Whether none may, whatever policies say."""


Span = tuple[int, int, int]
"""Where one top-level member stands: ``"key"`` from, value from, value to."""


def peek(body: Body) -> Peek:
    """Read the routing values of a JSON ``body``; about 2 µs for 1 KB.

    Raises:
        InvalidRequestError: It is not a JSON object in UTF-8, is nested too deeply, has no text ``model``, or
            has keys on which parsers would disagree.
    """
    members = read_members(body)
    between = len(body) - sum(map(len, members.values()))
    shape = _shape(tuple(members)) if between <= _REMEMBERED_SHAPE else _ANY_SHAPE
    spans = None if shape.size == between else locate(body, members)
    raw = members.get("model")
    if raw is None:
        raise InvalidRequestError("you must provide a model parameter", param="model")
    if spans is not None:
        span = spans["model"][1:]
    elif shape.model_first:
        span = (_FIRST_VALUE, _FIRST_VALUE + len(raw))
    else:
        span = _compact_spans(members)["model"][1:]
    found = Peek(read_text(raw, "model"), span, members, spans)
    if not found.model:
        raise InvalidRequestError("model must not be empty", param="model")
    raw = members.get("stream")
    if raw is not None:
        found.stream = _flag(raw, "stream")
    if shape.rare:
        raw = members.get("store")
        if raw is not None:
            found.has_store = True
            found.stored = _flag(raw, "store")
        raw = members.get("keep_alive")
        if raw is not None:
            found.keeps = _keeps(raw)
        if not members.keys().isdisjoint(_EDITED):
            found.removals = _removals(members, found.spans)
            found.wish = _wish(members)
    return found


_EDITED: Final = frozenset({*EXTRAS, "metadata"})
_RARE: Final = _EDITED | {"store", "keep_alive"}
_MORE_THAN_ZERO: Final = re.compile(r"[1-9]")


class _Shape:
    """What follows from the keys of a body and their order alone. No keys: those of no body in particular."""

    __slots__ = ("model_first", "rare", "size")

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.rare = not keys or not _RARE.isdisjoint(keys)
        """Whether there is anything to look at besides ``model`` and ``stream``."""
        self.model_first = keys[:1] == ("model",)
        self.size = 0
        """Bytes of a body besides its values, if it has no space, no escape and no key twice. Every other
        body with these keys and values is longer. 0: it has to be walked.
        """
        if keys and all(key.isascii() and len(key) <= _REMEMBERED_KEY for key in keys):
            self.size = 1 + sum(len(_quoted(key)) + 2 for key in keys)


_FIRST_VALUE: Final = len(b'{"model":')
_ANY_SHAPE: Final = _Shape(())
_REMEMBERED_SHAPE: Final = 1_024
"""Bytes between the values of a body whose shape is kept; more is nothing that comes again."""


def _compact_spans(members: dict[str, msgspec.Raw]) -> dict[str, Span]:
    """What :func:`locate` says of a body that has nothing between its members but what JSON needs."""
    spans: dict[str, Span] = {}
    position = 1
    for key, raw in members.items():
        value = position + len(key) + 3
        ends = value + len(raw)
        spans[key] = (position, value, ends)
        position = ends + 1
    return spans


def _keeps(raw: msgspec.Raw) -> bool:
    """Whether a duration, in seconds or in Go's words (``"5m"``, ``"0s"``), is zero or below."""
    written = bytes(raw)
    if written.startswith(b'"'):
        text = read_text(raw, "keep_alive").strip()
        return bool(text) and (text.startswith("-") or not _MORE_THAN_ZERO.search(text))
    try:
        return float(written) <= 0
    except ValueError:
        return False  # its backend will say what it thinks of it


def read_members(body: Body) -> dict[str, msgspec.Raw]:
    """The top-level members of a JSON ``body``, undecoded.

    Raises:
        InvalidRequestError: It is not a JSON object in UTF-8, is nested too deeply or has too many members.
    """
    if len(body) > _CHECKED_BYTES and _has_too_many_quotes(body):
        raise InvalidRequestError("the body has too many members")
    try:
        members = _decode(body)
        if len(body) <= _VALIDATED_BYTES and not body.isascii():
            body.decode()
    except msgspec.ValidationError as error:
        raise InvalidRequestError("the body must be a JSON object") from error
    except UnicodeDecodeError as error:
        raise InvalidRequestError("the body is not valid UTF-8") from error
    except msgspec.DecodeError as error:
        raise InvalidRequestError(f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise InvalidRequestError("the body is nested too deeply") from error
    if len(members) > MOST_MEMBERS:
        raise InvalidRequestError(f"the body has more than {MOST_MEMBERS} top-level members")
    return members


def _has_too_many_quotes(body: Body) -> bool:
    quotes = body.count(b'"')
    return quotes > MOST_QUOTES and quotes - body.count(b'\\"') > MOST_QUOTES


def locate(body: Body, members: dict[str, msgspec.Raw]) -> dict[str, Span]:
    """Where each of ``members`` stands in ``body``, from which they were decoded.

    Raises:
        InvalidRequestError: A key stands twice, or a routing key is spelled by case or escapes.
    """
    spans: dict[str, Span] = {}
    position = body.index(b"{") + 1
    for key, raw in members.items():
        size = len(key)
        if size > _LONGEST_KEY:
            raise InvalidRequestError(f"a key of the body is longer than {_LONGEST_KEY} characters")
        quoted = _quoted(key) if size <= _REMEMBERED_KEY else _quote(key)
        start = position
        if not body.startswith(quoted, start):
            start = _after_space(body, start)
            if not body.startswith(quoted, start):
                quoted = _spelled_by_escapes(body, start, key)
        value = start + len(quoted)
        if body[value] == _COLON and body[value + 1] > _BLANK:
            value += 1
        else:
            value = _after_space(body, _after_space(body, value) + 1)
        # The decoder keeps the last of two equal keys at the place of the first: the value differs, or the
        # walk comes out at the second one instead of at the next key or the end.
        if not body.startswith(raw, value):
            raise InvalidRequestError(f"the key {key!r} stands twice in the body", param=key)
        position = value + len(raw)
        spans[key] = (start, value, position)
        if body[position] <= _BLANK:
            position = _after_space(body, position)
        if body[position] == _COMMA:
            position += 1
    _check_end(body, position)
    return spans


def _check_end(body: Body, position: int) -> None:
    """That the walk came out at the end of the object, not at a key that stands twice."""
    if body[position] <= _BLANK:
        position = _after_space(body, position)
    if body[position] != _CLOSE or body[position - 1] == _COMMA:
        raise InvalidRequestError("a key stands twice in the body")


def _quote(key: str) -> bytes:
    if key not in ROUTING_KEYS and key.casefold() in ROUTING_KEYS:
        raise InvalidRequestError(f"write {key.casefold()!r}, not {key!r}", param=key.casefold())
    return b'"%b"' % key.encode()


_REMEMBERED_KEY: Final = 64
_quoted = functools.lru_cache(maxsize=4096)(_quote)
_shape = functools.lru_cache(maxsize=1024)(_Shape)
_COLON: Final = 0x3A
_COMMA: Final = 0x2C
_CLOSE: Final = 0x7D
_BLANK: Final = 0x20


def _after_space(body: Body, position: int) -> int:
    found = _SPACE.match(body, position)
    return found.end() if found else position


def _raw_key(body: Body, start: int) -> bytes:
    found = _KEY.match(body, start)
    return bytes(found.group()) if found else b""


def _spelled_by_escapes(body: Body, start: int, key: str) -> bytes:
    """How ``key`` is written at ``start``: with escapes, which only keys that are none of ours may be."""
    raw = _raw_key(body, start)
    if not raw or b"\\" not in raw or _decode_text(raw) != key:
        raise InvalidRequestError("a key stands twice in the body")
    if key in ROUTING_KEYS:
        raise InvalidRequestError(f"write the key {key!r} without escapes", param=key)
    return raw


def read_text(raw: msgspec.Raw, key: str) -> str:
    """The text that the member ``key`` is.

    Raises:
        InvalidRequestError: It is none.
    """
    try:
        return _decode_text(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"{key} must be a string", param=key) from error


def _flag(raw: msgspec.Raw, key: str) -> bool:
    value = bytes(raw)
    if value not in {b"true", b"false", b"null"}:
        raise InvalidRequestError(f"{key} must be true or false", param=key)
    return value == b"true"


def _wish(members: dict[str, msgspec.Raw]) -> Wish | None:
    fallback, listed = members.get("fallback"), members.get("fallback_models")
    if fallback is None and listed is None:
        return None
    off = fallback is not None and bytes(fallback) != b"null" and not _flag(fallback, "fallback")
    models: tuple[str, ...] = ()
    if listed is not None and bytes(listed) != b"null":
        try:
            models = _decode_names(listed)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            message = "fallback_models must be a list of names"
            raise InvalidRequestError(message, param="fallback_models") from error
    if len(models) > MOST_FALLBACKS:
        message = f"fallback_models has more than {MOST_FALLBACKS} names"
        raise InvalidRequestError(message, param="fallback_models")
    return Wish(models, off=off)


def _removals(members: dict[str, msgspec.Raw], spans: dict[str, Span]) -> tuple[tuple[int, int], ...]:
    found = _without([key for key in EXTRAS if key in members], spans)
    if "metadata" in members:
        _, base, ends = spans["metadata"]
        if ends - base > MOST_METADATA_BYTES:
            message = f"metadata is larger than {MOST_METADATA_BYTES} bytes"
            raise InvalidRequestError(message, param="metadata")
        metadata = bytes(members["metadata"])
        inner = read_members(metadata) if metadata.startswith(b"{") else {}
        if "tags" in inner:
            cuts = _without(["tags"], locate(metadata, inner))
            found += [(start + base, end + base) for start, end in cuts]
    return tuple(sorted(found))


def _without(keys: list[str], spans: dict[str, Span]) -> list[tuple[int, int]]:
    """Spans to cut so that the members named ``keys`` and their commas are gone and the rest stays JSON."""
    order = sorted(spans.values())
    doomed = {spans[key] for key in keys}
    cuts: list[tuple[int, int]] = []
    kept = False
    for index, member in enumerate(order):
        if member not in doomed:
            kept = True
        elif kept:
            cuts.append((order[index - 1][2], member[2]))
        else:
            follows = order[index + 1][0] if index + 1 < len(order) else member[2]
            cuts.append((member[0], follows))
    return cuts
