"""GGUF files byte by byte, well-formed or not."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

_CODES = {"u32": (4, "<I"), "i32": (5, "<i"), "f32": (6, "<f"), "bool": (7, "<?"), "u64": (10, "<Q")}

Typed = tuple[str, object]
"""As ``("u32", 7)``, ``("string", "x")`` or ``("array", ("u32", [1, 2]))``."""

LLAMA: Mapping[str, Typed] = {
    "general.architecture": ("string", "llama"),
    "general.name": ("string", "Test Model"),
    "general.file_type": ("u32", 15),
    "llama.context_length": ("u32", 8192),
    "llama.embedding_length": ("u32", 4096),
    "llama.feed_forward_length": ("u32", 14336),
    "llama.block_count": ("u32", 32),
    "llama.attention.head_count": ("u32", 32),
    "llama.attention.head_count_kv": ("u32", 8),
    "tokenizer.chat_template": ("string", "{{ messages }}"),
}


def text(value: str) -> bytes:
    """A GGUF string."""
    content = value.encode()
    return struct.pack("<Q", len(content)) + content


def value(typed: Typed) -> bytes:
    """Type and content of a metadata value."""
    kind, content = typed
    if kind == "string":
        return struct.pack("<I", 8) + text(str(content))
    if kind == "array":
        element, items = content  # type: ignore[misc]
        body = b"".join(value((element, item))[4:] for item in items)  # type: ignore[has-type]
        number = 8 if element == "string" else _CODES[element][0]  # type: ignore[has-type]
        return struct.pack("<IIQ", 9, number, len(items)) + body  # type: ignore[has-type]
    number, code = _CODES[kind]
    return struct.pack("<I", number) + struct.pack(code, content)


def tensor(name: str, shape: Sequence[int], kind: int = 0, offset: int = 0) -> bytes:
    """One entry of the tensor list."""
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


def header(
    metadata: Mapping[str, Typed],
    tensors: Sequence[bytes] = (),
    *,
    version: int = 3,
    magic: bytes = b"GGUF",
    keys: int | None = None,
    tensor_count: int | None = None,
) -> bytes:
    """A whole header; counts may be made to lie."""
    counts = (len(tensors) if tensor_count is None else tensor_count, len(metadata) if keys is None else keys)
    start = magic + struct.pack("<IQQ", version, *counts)
    return start + b"".join(text(k) + value(v) for k, v in metadata.items()) + b"".join(tensors)


def write(path: Path, content: bytes, *, weights: int = 0) -> Path:
    """``content``, aligned, and ``weights`` zero bytes after it."""
    padding = -len(content) % 32
    path.write_bytes(content + b"\0" * (padding + weights))
    return path
