"""The access log: one line of JSON per request that ended, in a file that is turned over, or on stdout."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Final

import msgspec

from sidecar.telemetry.figures import dialect_of
from sidecar.telemetry.flags import response_flags
from sidecar.telemetry.limits import LONGEST_TEXT
from sidecar.telemetry.record import Record
from sidecar.telemetry.usage import Usage

STDOUT: Final = "-"
_PRIVATE: Final = 0o600
_MOST_KEPT: Final = 1024
_USUAL_PRIORITY: Final = "default"
"""Of a request for a model that names none."""
_encoder: Final = msgspec.json.Encoder()


class Line(msgspec.Struct, gc=False):
    """One line as it is encoded; null is not known, or none. Its members stand in this order."""

    time: str
    request_id: str
    trace_id: str | None
    method: msgspec.Raw
    """Of :class:`Before`, from its first value on: what is raw goes out as it is, further members too."""
    bytes_in: int
    bytes_out: int
    duration_ms: float
    route_ms: float | None
    queue_ms: float
    first_byte_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    client: msgspec.Raw
    """Of :class:`After`, from its first value on."""


class Before(msgspec.Struct, gc=False):
    """What a line says before its figures."""

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


def text_of(lines: Sequence[Line]) -> bytes:
    """``lines`` as they are written, each with its line end; 0.4 µs a line."""
    return _encoder.encode_lines(lines)


class Lines:
    """Makes lines. They never hold prompts, answers, keys or queries.

    Every line has all members, in one order. What hardly differs between the requests of a client is kept as
    text.
    """

    __slots__ = ("_kept", "_millisecond", "_time")

    def __init__(self) -> None:
        self._millisecond = -1
        self._time = ""
        self._kept: dict[tuple[object, ...], tuple[msgspec.Raw, msgspec.Raw]] = {}

    def of(self, record: Record, usage: Usage, wall_offset_s: float) -> Line:
        """The line for ``record`` and its ``usage``; ``wall_offset_s`` makes its times Unix time. 1.5 µs."""
        started_s, planned_s, first_byte_s = record.started_s, record.planned_s, record.first_byte_s
        trace, queue_s = record.trace, record.queue_s
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
        millisecond = int((started_s + wall_offset_s) * 1e3)
        if millisecond != self._millisecond:
            self._millisecond, self._time = millisecond, _time(millisecond)
        taken, made, _ = usage
        # Milliseconds with three decimals: a float made of whole microseconds is written no longer than that.
        return Line(
            self._time,
            record.request_id.decode("latin-1"),
            None if trace is None else f"{trace.context.trace_id:032x}",
            before,
            record.bytes_in,
            record.bytes_out,
            int((record.ended_s - started_s) * 1e6 + 0.5) / 1e3,
            int((planned_s - started_s) * 1e6 + 0.5) / 1e3 if planned_s else None,
            int(queue_s * 1e6 + 0.5) / 1e3 if queue_s else 0.0,
            int((first_byte_s - started_s) * 1e6 + 0.5) / 1e3 if first_byte_s else None,
            taken,
            made,
            after,
        )

    def _parts(self, record: Record, same: tuple[object, ...]) -> tuple[msgspec.Raw, msgspec.Raw]:
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
        parts = (_after_name(before, "method"), _after_name(after, "client"))
        if len(record.path) <= LONGEST_TEXT and len(record.asked) <= LONGEST_TEXT:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[same] = parts
        return parts


def _after_name(part: Before | After, first: str) -> msgspec.Raw:
    """``part`` without its braces and the name of its ``first`` member, which :class:`Line` writes."""
    return msgspec.Raw(_encoder.encode(part)[len(f'{{"{first}":') : -1])


def _time(unix_ms: int) -> str:
    second, millisecond = divmod(unix_ms, 1000)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{millisecond:03}Z"


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
        self._file: FileIO | None = None
        self._size = 0

    def write(self, texts: Sequence[bytes]) -> None:
        """Append ``texts``, each of one or more lines.

        Raises:
            OSError: They can't be written. None of them is in the file then, if it can be cut.
        """
        size = sum(map(len, texts))
        file = self._ready(size)
        before = os.fstat(file.fileno()).st_size
        try:
            # Not joined before: that would copy them while the event loop can not run.
            for text in texts:
                rest = memoryview(text)
                while rest:
                    rest = rest[file.write(rest) :]
        except OSError:
            # The next line would stand behind half of one.
            with contextlib.suppress(OSError):
                file.truncate(before)
            raise
        self._size = before + size

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _ready(self, needed: int) -> FileIO:
        if self._file is not None and not self._still_there(self._file):
            self.close()
        if self._file is None:
            self._file = self._open()
        if self._size and self._size + needed > self._max_bytes:
            self.close()
            self._turn_over()
            self._file = self._open()
        return self._file

    def _still_there(self, file: FileIO) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False

    def _open(self) -> FileIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        opened = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _PRIVATE)
        file = os.fdopen(opened, "ab", buffering=0)
        self._size = os.fstat(file.fileno()).st_size
        return file

    def _turn_over(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._files))]
        if self._files == 1:
            self._path.unlink(missing_ok=True)
        for older, newer in reversed(list(zip(names[1:], names, strict=False))):
            if newer.exists():
                newer.replace(older)


def write_stdout(texts: Sequence[bytes]) -> None:
    """Write ``texts``, each of one or more lines, to standard output; blocks while nobody reads it.

    Raises:
        OSError: Nobody ever will.
    """
    output = sys.stdout.buffer
    output.writelines(texts)
    output.flush()
