"""What a GGUF file tells about its model: name, shape, size, and the memory its context takes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmplane.gguf_formats import FILE_TYPES
from swarmplane.gguf_header import GgufError, Header, Skipped, Value, read_header

__all__ = ["Facts", "GgufError", "kv_cache_bytes", "model_name", "parts", "read_facts"]

_PART: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\Z")
_POOLING: Final = ("none", "mean", "cls", "last", "rank")
_MAX_LAYERS: Final = 16_384
_CONTEXT_STEP: Final = 256
"""llama.cpp rounds its context up to a multiple of this."""
_F16_BYTES: Final = 2.0


@dataclass(frozen=True, slots=True)
class Facts:
    """A model as its file describes it. Figures are 0, and texts empty, where the file does not tell."""

    name: str
    """``general.name``; the name users ask for is :func:`model_name`."""
    architecture: str
    quantization: str
    """As ``Q4_K_M``."""
    parameters: int
    weights_bytes: int
    """Of all parts."""
    context_length: int
    """Tokens it was trained for."""
    embedding_length: int
    feed_forward_length: int
    block_count: int
    heads: tuple[int, ...]
    """Attention heads of each layer; 0 in layers without attention."""
    kv_heads: tuple[int, ...]
    key_length: int
    """Elements a key has in one head."""
    value_length: int
    vocabulary: int
    has_chat_template: bool
    pooling: str
    """``mean``, ``cls``, ``last``, ``rank`` or ``none``; empty: not told."""
    embedding_only: bool
    """Whether it makes embeddings (or ranks) and no text."""
    parts: int = 1


def model_name(path: Path) -> str:
    """The canonical name of a model file: its stem, without the number of a part."""
    match = _PART.match(path.stem)
    return match["stem"] if match else path.stem


def parts(path: Path) -> tuple[Path, ...]:
    """Every file of the model that ``path`` is the file, or a part, of; they need not exist."""
    match = _PART.match(path.stem)
    if match is None:
        return (path,)
    count = int(match["count"])
    names = (f"{match['stem']}-{n:05}-of-{match['count']}{path.suffix}" for n in range(1, count + 1))
    return tuple(path.with_name(name) for name in names)


def read_facts(path: Path) -> Facts:
    """Describe the model in ``path``; of a model in parts, any part may be named. It blocks on the disk.

    Raises:
        GgufError: A file is missing, is no GGUF, is malformed, or is cut short.
    """
    files = parts(path)
    first = read_header(files[0])
    try:
        return _facts(first, [first, *(read_header(part) for part in files[1:])])
    except GgufError as error:
        if error.message.startswith(tuple(part.name for part in files)):
            raise
        raise GgufError(f"{files[0].name}: {error.message}") from error


def kv_cache_bytes(facts: Facts, context: int, slots: int = 1, *, element_bytes: float = _F16_BYTES) -> int:
    """Memory of the key and value cache of ``slots`` requests of ``context`` tokens each.

    Exact for plain attention; an upper bound for sliding windows, latent attention and hybrid models.
    ``element_bytes``: 2 for f16, 34/32 for q8_0, 18/32 for q4_0.
    """
    tokens = -(-context * slots // _CONTEXT_STEP) * _CONTEXT_STEP
    per_token = sum(facts.kv_heads) * (facts.key_length + facts.value_length)
    return round(tokens * per_token * element_bytes)


def _facts(first: Header, headers: list[Header]) -> Facts:
    keys = _Keys(first)
    layers = keys.number("block_count")
    if layers > _MAX_LAYERS:
        raise GgufError(f"malformed: {layers:,} layers")
    embedding = keys.number("embedding_length")
    heads = keys.per_layer("attention.head_count", layers)
    kv_heads = keys.per_layer("attention.head_count_kv", layers) or heads
    head_length = embedding // max(heads, default=0) if any(heads) else 0
    pooling = keys.pooling()
    tensors = [tensor for header in headers for tensor in header.tensors]
    return Facts(
        name=keys.text("general.name"),
        architecture=keys.architecture,
        quantization=_quantization(first, headers),
        parameters=sum(tensor.elements for tensor in tensors),
        weights_bytes=sum(_weights_bytes(header) for header in headers),
        context_length=keys.number("context_length"),
        embedding_length=embedding,
        feed_forward_length=max(keys.per_layer("feed_forward_length", 1), default=0),
        block_count=layers,
        heads=heads,
        kv_heads=kv_heads,
        key_length=keys.number("attention.key_length") or head_length,
        value_length=keys.number("attention.value_length") or head_length,
        vocabulary=keys.vocabulary(),
        has_chat_template="tokenizer.chat_template" in first.metadata,
        pooling=pooling,
        embedding_only=pooling not in {"", "none"} or keys.flag("attention.causal") is False,
        parts=len(headers),
    )


class _Keys:
    """Metadata by name, with types checked: a hostile file may put anything anywhere."""

    def __init__(self, header: Header) -> None:
        self._metadata = header.metadata
        self.architecture = self.text("general.architecture")
        if not self.architecture:
            raise GgufError("malformed: it names no architecture")

    def text(self, key: str) -> str:
        value = self._metadata.get(key, "")
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int:
        """A count of the architecture: whole and not negative; 0 where it is absent."""
        return _count(key, self._own(key)) if self._own(key) is not None else 0

    def flag(self, key: str) -> bool | None:
        value = self._own(key)
        return value if isinstance(value, bool) else None

    def per_layer(self, key: str, layers: int) -> tuple[int, ...]:
        """One count for each layer, whether the file gives one for all or a list; empty where absent."""
        value = self._own(key)
        if value is None:
            return ()
        if isinstance(value, tuple):
            return tuple(_count(key, one) for one in value)
        return (_count(key, value),) * layers

    def pooling(self) -> str:
        value = self._own("pooling_type")
        known = isinstance(value, int) and 0 <= value < len(_POOLING)
        return _POOLING[int(value)] if known and isinstance(value, int) else ""

    def vocabulary(self) -> int:
        tokens = self._metadata.get("tokenizer.ggml.tokens", ())
        if isinstance(tokens, Skipped):
            return tokens.length
        return len(tokens) if isinstance(tokens, tuple) else self.number("vocab_size")

    def _own(self, key: str) -> Value | None:
        return self._metadata.get(f"{self.architecture}.{key}")


def _count(key: str, value: Value | None) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise GgufError(f"malformed: {key} is {str(value)[:32]!r}")
    return value


def _quantization(first: Header, headers: Iterable[Header]) -> str:
    """What the file says; else the type that most bytes have."""
    told = first.metadata.get("general.file_type")
    if isinstance(told, int) and told in FILE_TYPES:
        return FILE_TYPES[told]
    by_type: Counter[str] = Counter()
    for header in headers:
        for tensor in header.tensors:
            by_type[tensor.type_name] += tensor.size_bytes
    return by_type.most_common(1)[0][0] if by_type else ""


def _weights_bytes(header: Header) -> int:
    """Bytes of weights in one file; of types this version does not know, all that follows the header."""
    if any(tensor.size_bytes == 0 and tensor.elements for tensor in header.tensors):
        return max(header.file_bytes - header.data_start, 0)
    return sum(tensor.size_bytes for tensor in header.tensors)
