"""The access log: one line of JSON per request that ended, in a file that is turned over, or on stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from sidecar.telemetry.figures import dialect_of
from sidecar.telemetry.flags import response_flags
from sidecar.telemetry.record import Record
from sidecar.telemetry.usage import Usage

STDOUT: Final = "-"
LONGEST_TEXT: Final = 256
_PRIVATE: Final = 0o600
_MOST_KEPT: Final = 1024
_USUAL_PRIORITY: Final = "default"
"""Of a request for a model that names none."""
_encode: Final = msgspec.json.Encoder().encode


class Before(msgspec.Struct, gc=False):
    """What a line says before its figures; null is not known, or none."""

    method: str | None
    path: str | None
    dialect: str
    status: int
    code: str | None
    outcome: str
    flags: str
    asked: str | None
    model: str | None
    node: str | None
    backend: str | None
    origin: str | None
    attempts: int
    retries: int
    moves: int
    replays: int
    hedges: int
    streamed: bool


class After(msgspec.Struct, gc=False):
    """What it says after them."""

    client: str | None
    key: str | None
    priority: str | None
    stale: bool
    route_version: str | None


class Lines:
    """Writes lines, each with its line end. They never hold prompts, answers, keys or queries.

    Every line has all members, in one order. What hardly differs between the requests of a client is kept as
    text.
    """

    __slots__ = ("_kept", "_second", "_to_second")

    def __init__(self) -> None:
        self._second = -1
        self._to_second = ""
        self._kept: dict[tuple[object, ...], tuple[str, str]] = {}

    def line(self, record: Record, usage: Usage, wall_offset_s: float) -> bytes:
        """The line for ``record`` and its ``usage``; ``wall_offset_s`` makes its times Unix time. 2 µs."""
        started_s, planned_s, first_byte_s = record.started_s, record.planned_s, record.first_byte_s
        trace = record.trace
        # All that the two parts are made of, as it is.
        same = (
            record.path,
            record.asked,
            record.method,
            record.status,
            record.code,
            record.outcome,
            record.failure,
            record.model,
            record.node,
            record.backend,
            record.origin,
            record.attempts,
            record.retries,
            record.moves,
            record.replays,
            record.hedges,
            record.streamed,
            record.client,
            record.key,
            record.priority,
            record.stale,
            record.route_version,
        )
        before, after = self._kept.get(same) or self._parts(record, same)
        unix_s = started_s + wall_offset_s
        second = int(unix_s)
        if second != self._second:
            self._second = second
            self._to_second = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        trace_id = "null" if trace is None else f'"{trace.context.trace_id:032x}"'
        route_ms = f"{(planned_s - started_s) * 1e3:.3f}" if planned_s else "null"
        first_byte_ms = f"{(first_byte_s - started_s) * 1e3:.3f}" if first_byte_s else "null"
        queue_ms = f"{record.queue_s * 1e3:.3f}" if record.queue_s else "0.0"
        taken, made, _ = usage
        return (
            f'{{"time":"{self._to_second}{int((unix_s - second) * 1e3):03}Z",'
            f'"request_id":{_quoted(record.request_id)},"trace_id":{trace_id},{before},'
            f'"bytes_in":{record.bytes_in},"bytes_out":{record.bytes_out},'
            f'"duration_ms":{(record.ended_s - started_s) * 1e3:.3f},"route_ms":{route_ms},'
            f'"queue_ms":{queue_ms},"first_byte_ms":{first_byte_ms},'
            f'"input_tokens":{"null" if taken is None else taken},'
            f'"output_tokens":{"null" if made is None else made},{after}}}\n'
        ).encode()

    def _parts(self, record: Record, same: tuple[object, ...]) -> tuple[str, str]:
        before = Before(
            record.method.decode("latin-1") or None,
            record.path[:LONGEST_TEXT].decode("latin-1") or None,
            dialect_of(record.path),
            record.status,
            record.code or None,
            record.outcome,
            response_flags(record),
            record.asked[:LONGEST_TEXT] or None,
            record.model or None,
            record.node or None,
            record.backend or None,
            record.origin or None,
            record.attempts,
            record.retries,
            record.moves,
            record.replays,
            record.hedges,
            record.streamed,
        )
        after = After(
            record.client or None,
            record.key or None,
            record.priority or (_USUAL_PRIORITY if record.attempts else None),
            record.stale,
            record.route_version or None,
        )
        parts = (_encode(before)[1:-1].decode(), _encode(after)[1:-1].decode())
        if len(record.path) <= LONGEST_TEXT and len(record.asked) <= LONGEST_TEXT:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[same] = parts
        return parts


def _quoted(request_id: bytes) -> str:
    return _encode(request_id.decode("latin-1")).decode()


class LineFile:
    """A file of whole lines that is turned over when it is full: ``F``, ``F.1``, … the oldest goes.

    A file that was moved away or deleted, as logrotate does, is made anew. Calls block for disk.

    Args:
        path: Its folder is made if it is missing.
        max_bytes: A file is turned over before a write would make it larger.
        files: Files kept, the current one included.
    """

    def __init__(self, path: Path, *, max_bytes: int, files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._file: BinaryIO | None = None
        self._size = 0

    def write(self, lines: Sequence[bytes]) -> None:
        """Append ``lines``.

        Raises:
            OSError: They are not all written; a part may be.
        """
        data = b"".join(lines)
        file = self._ready(len(data))
        self._size += len(data)
        file.write(data)
        file.flush()

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _ready(self, needed: int) -> BinaryIO:
        if self._file is not None and not self._still_there(self._file):
            self.close()
        if self._file is None:
            self._file = self._open()
        if self._size and self._size + needed > self._max_bytes:
            self.close()
            self._turn_over()
            self._file = self._open()
        return self._file

    def _still_there(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False

    def _open(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        opened = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _PRIVATE)
        file = os.fdopen(opened, "ab")
        self._size = os.fstat(file.fileno()).st_size
        return file

    def _turn_over(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._files))]
        if self._files == 1:
            self._path.unlink(missing_ok=True)
        for older, newer in reversed(list(zip(names[1:], names, strict=False))):
            if newer.exists():
                newer.replace(older)


def write_stdout(lines: Sequence[bytes]) -> None:
    """Write ``lines`` to standard output; blocks while nobody reads it.

    Raises:
        OSError: Nobody ever will.
    """
    output = sys.stdout.buffer
    output.write(b"".join(lines))
    output.flush()
