"""The header of a GGUF file: metadata and tensor list, read without loading anything.

Written for files nobody vouches for: every count and length is checked against what the file can hold and
against fixed limits before anything is allocated or looped over.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from swarmplane.errors import InvalidRequestError
from swarmplane.gguf_formats import ARRAY, SCALARS, STRING, TENSOR_TYPES

KEPT_ELEMENTS: Final = 4_096
"""Longer arrays (vocabularies) are hopped over; only their length is kept."""
_MAX_HEADER_BYTES: Final = 512 * 1024 * 1024
_MAX_KEYS: Final = 65_536
_MAX_TENSORS: Final = 1_000_000
_MAX_KEY_BYTES: Final = 65_535
_MAX_STRING_BYTES: Final = 16 * 1024 * 1024
_MAX_ELEMENTS: Final = 8 * 1024 * 1024
_MAX_DIMENSIONS: Final = 4
_MAX_TENSOR_ELEMENTS: Final = 1 << 62
_LEAST_KEY_BYTES: Final = 13
_LEAST_TENSOR_BYTES: Final = 24

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


class GgufError(InvalidRequestError):
    """The file is no usable GGUF; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """An array too long to keep."""

    length: int


Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...] | Skipped


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the list."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    offset: int
    """From the start of the data, in bytes."""
    size_bytes: int
    """0 where its type is unknown to this version."""

    @property
    def elements(self) -> int:
        """Number of parameters it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the weights."""

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    data_start: int
    """Offset of the weights in the file, in bytes."""
    file_bytes: int


def read_header(path: Path) -> Header:
    """Read the header of ``path``. It blocks: 1 ms for a small file, about 60 ms for a large vocabulary.

    Raises:
        GgufError: It can't be read, is no GGUF, is malformed, or is cut short.
    """
    try:
        with path.open("rb", buffering=1 << 20) as file:
            return _Reader(file, path.stat().st_size).header()
    except OSError as error:
        raise GgufError(f"{path.name} can't be read: {error.strerror or error}") from error
    except GgufError as error:
        raise GgufError(f"{path.name}: {error.message}") from error


class _Reader:
    """A cursor that never reads past the end and never trusts a length."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._left = min(size, _MAX_HEADER_BYTES)
        self._elements_left = _MAX_ELEMENTS

    def header(self) -> Header:
        """Everything up to the weights, and the check that all weights are there."""
        if self._raw(4) != b"GGUF":
            raise GgufError("not a GGUF file")
        version = self._u32()
        if version not in {2, 3}:
            big_endian = int.from_bytes(version.to_bytes(4, "little"), "big") in {2, 3}
            what = "big-endian files" if big_endian else f"GGUF version {version}"
            raise GgufError(f"{what} can't be used; convert it to little-endian GGUF version 3")
        tensor_count, key_count = self._u64(), self._u64()
        self._fits(tensor_count, _LEAST_TENSOR_BYTES, _MAX_TENSORS, "tensors")
        self._fits(key_count, _LEAST_KEY_BYTES, _MAX_KEYS, "metadata keys")
        metadata: dict[str, Value] = {}
        for _ in range(key_count):
            key = self._string(_MAX_KEY_BYTES)
            if key in metadata:
                raise GgufError(f"malformed: metadata key {key[:64]!r} stands there twice")
            metadata[key] = self._value(self._u32())
        tensors = tuple(self._tensor() for _ in range(tensor_count))
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0 or alignment > 1 << 20:
            raise GgufError(f"malformed: alignment {alignment!r}")
        start = -(-self._file.tell() // alignment) * alignment
        wanted = start + max((tensor.offset + tensor.size_bytes for tensor in tensors), default=0)
        if tensors and wanted > self._size:
            raise GgufError(f"cut short: {self._size:,} of at least {wanted:,} bytes; fetch it again")
        return Header(version, metadata, tensors, start, self._size)

    def _fits(self, count: int, least_bytes: int, most: int, what: str) -> None:
        if count > most:
            raise GgufError(f"malformed: {count:,} {what}")
        if count * least_bytes > self._left:
            raise GgufError(f"cut short or malformed: no room for {count:,} {what}")

    def _raw(self, count: int) -> bytes:
        if count > self._left:
            raise GgufError("cut short within its header; fetch it again")
        content = self._file.read(count)
        if len(content) != count:
            raise GgufError("cut short within its header; fetch it again")
        self._left -= count
        return content

    def _skip(self, count: int) -> None:
        if count > self._left:
            raise GgufError("cut short within its header; fetch it again")
        self._file.seek(count, 1)
        self._left -= count

    def _u32(self) -> int:
        number: int = _U32.unpack(self._raw(4))[0]
        return number

    def _u64(self) -> int:
        number: int = _U64.unpack(self._raw(8))[0]
        return number

    def _string(self, most: int = _MAX_STRING_BYTES) -> str:
        length = self._u64()
        if length > most:
            raise GgufError(f"malformed: a string of {length:,} bytes")
        return self._raw(length).decode("utf-8", "replace")

    def _value(self, kind: int) -> Value:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            return self._array()
        return self._scalars(kind, 1)[0]

    def _scalars(self, kind: int, count: int) -> tuple[Scalar, ...]:
        code = _scalar_code(kind)
        return struct.unpack(f"<{count}{code}", self._raw(count * struct.calcsize(f"<{code}")))

    def _array(self) -> tuple[Scalar, ...] | Skipped:
        kind, count = self._u32(), self._u64()
        self._elements_left -= count
        if self._elements_left < 0:
            raise GgufError(f"malformed: an array of {count:,} elements")
        if kind == STRING:
            self._fits(count, 8, _MAX_ELEMENTS, "strings")
            if count <= KEPT_ELEMENTS:
                return tuple(self._string() for _ in range(count))
            for _ in range(count):  # an array of strings has no length in bytes: hop from one to the next
                self._skip(self._u64())
            return Skipped(count)
        if count <= KEPT_ELEMENTS:
            return self._scalars(kind, count)
        self._skip(count * struct.calcsize(f"<{_scalar_code(kind)}"))
        return Skipped(count)

    def _tensor(self) -> Tensor:
        name = self._string(_MAX_KEY_BYTES)
        dimensions = self._u32()
        if dimensions > _MAX_DIMENSIONS:
            raise GgufError(f"malformed: tensor {name[:64]!r} has {dimensions:,} dimensions")
        shape = tuple(self._u64() for _ in range(dimensions))
        kind, offset = self._u32(), self._u64()
        elements = math.prod(shape)
        if elements > _MAX_TENSOR_ELEMENTS:
            raise GgufError(f"malformed: tensor {name[:64]!r} has {elements:,} elements")
        type_name, block, block_bytes = TENSOR_TYPES.get(kind, (f"type {kind}", 1, 0))
        return Tensor(name, type_name, shape, offset, elements // block * block_bytes)


def _scalar_code(kind: int) -> str:
    code = SCALARS.get(kind)
    if code is None:
        raise GgufError(f"malformed: metadata of type {kind}")
    return code
