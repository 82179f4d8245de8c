"""An answer on its way: frames of the backend's stream, read and written anew."""

from __future__ import annotations

from sidecar.dialects.answer import BackendReader, ClientWriter
from sidecar.dialects.failures import BackendAnswerError, cut_off
from sidecar.dialects.framing import Frames


class Transcoding:
    """See :class:`sidecar.dialects.translate.AnswerReader`. After an error nothing more comes of it."""

    __slots__ = ("_failed", "_frames", "_reader", "_said", "_writer", "content_type", "streams")

    def __init__(self, reader: BackendReader, writer: ClientWriter, frames: Frames, *, streams: bool) -> None:
        self.streams = streams
        self.content_type = writer.stream_type if streams else b"application/json"
        self._reader = reader
        self._writer = writer
        self._frames = frames
        self._said = False
        self._failed = False

    @property
    def ended(self) -> bool:
        """See :class:`sidecar.dialects.translate.AnswerReader`."""
        return self._reader.finished and not self._failed

    def push(self, data: bytes) -> bytes:
        """See :class:`sidecar.dialects.translate.AnswerReader`."""
        if self._said:
            return b""
        if self._failed:
            raise cut_off()
        try:
            return self._passed(self._frames.push(data))
        except BackendAnswerError:
            self._failed = True
            raise

    def end(self) -> bytes:
        """See :class:`sidecar.dialects.translate.AnswerReader`."""
        if self._said:
            return b""
        if self._failed:
            raise cut_off()
        try:
            last = self._passed(self._frames.rest())
            if self._said:
                return last
            if not self._reader.finished:
                raise cut_off()
            last += self._writer.end(self._reader.ending)
        except BackendAnswerError:
            self._failed = True
            raise
        self._said = True
        return last

    def whole(self, body: bytes) -> bytes:
        """See :class:`sidecar.dialects.translate.AnswerReader`."""
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
