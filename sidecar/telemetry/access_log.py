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
_LONGEST_TEXT: Final = 256
_PRIVATE: Final = 0o600
_USUAL_PRIORITY: Final = "default"
"""Of a request for a model that names none."""
_encode: Final = msgspec.json.Encoder().encode


class Line(msgspec.Struct, gc=False):
    """The members of a line, all of which always stand there; null is not known, or none."""

    time: str
    request_id: str
    trace_id: str | None
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
    streamed: bool
    bytes_in: int
    bytes_out: int
    duration_ms: float
    route_ms: float | None
    queue_ms: float
    first_byte_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    client: str | None
    key: str | None
    priority: str | None
    stale: bool
    route_version: str | None


class Lines:
    """Writes lines, each with its line end. They never hold prompts, answers, keys or queries."""

    __slots__ = ("_second", "_to_second")

    def __init__(self) -> None:
        self._second = -1
        self._to_second = ""

    def line(self, record: Record, usage: Usage, wall_offset_s: float) -> bytes:
        """The line for ``record`` and the ``usage`` of its answer; costs about 4 microseconds.

        ``wall_offset_s`` is added to the record's times for Unix time.
        """
        started_s = record.started_s
        trace = record.trace
        planned_s, first_byte_s = record.planned_s, record.first_byte_s
        line = Line(
            self._time(started_s + wall_offset_s),
            record.request_id.decode("latin-1"),
            f"{trace.context.trace_id:032x}" if trace is not None else None,
            record.method.decode("latin-1") or None,
            record.path[:_LONGEST_TEXT].decode("latin-1") or None,
            dialect_of(record.path),
            record.status,
            record.code or None,
            record.outcome,
            response_flags(record),
            record.asked[:_LONGEST_TEXT] or None,
            record.model or None,
            record.node or None,
            record.backend or None,
            record.origin or None,
            record.attempts,
            record.retries,
            record.moves,
            record.replays,
            record.streamed,
            record.bytes_in,
            record.bytes_out,
            _ms(record.ended_s - started_s),
            _ms(planned_s - started_s) if planned_s else None,
            _ms(record.queue_s),
            _ms(first_byte_s - started_s) if first_byte_s else None,
            usage.input_tokens,
            usage.output_tokens,
            record.client or None,
            record.key or None,
            record.priority or (_USUAL_PRIORITY if record.attempts else None),
            record.stale,
            record.route_version or None,
        )
        return _encode(line) + b"\n"

    def _time(self, unix_s: float) -> str:
        second = int(unix_s)
        if second != self._second:
            self._second = second
            self._to_second = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._to_second}{int((unix_s - second) * 1000):03}Z"


def _ms(seconds: float) -> float:
    return int(seconds * 1e6) / 1e3


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
