"""An answer on its way: frames of the backend's stream, read and written anew."""

from __future__ import annotations

from sidecar.dialects.answer import BackendReader, ClientWriter
from sidecar.dialects.failures import BackendAnswerError, cut_off
from sidecar.dialects.framing import Frames


class Transcoding:
    """See :class:`sidecar.dialects.translate.AnswerReader`.

    What stood before a fault goes out first, and the next call raises: how the network cut the stream makes
    no difference to what the client gets. After a fault nothing but the fault comes out.
    """

    __slots__ = ("_fault", "_frames", "_reader", "_said", "_writer", "content_type", "streams")

    def __init__(self, reader: BackendReader, writer: ClientWriter, frames: Frames, *, streams: bool) -> None:
        self.streams = streams
        self.content_type = writer.stream_type if streams else b"application/json"
        self._reader = reader
        self._writer = writer
        self._frames = frames
        self._said = False
        self._fault: BackendAnswerError | None = None

    @property
    def ended(self) -> bool:
        """See :class:`sidecar.dialects.translate.AnswerReader`."""
        return self._reader.finished and self._fault is None

    def push(self, data: bytes) -> bytes:
        """See :class:`sidecar.dialects.translate.AnswerReader`."""
        if self._said:
            return b""
        if self._fault is not None:
            raise self._fault
        try:
            frames = self._frames.push(data)
        except BackendAnswerError as fault:
            self._fault = fault
            raise
        return self._passed(frames)

    def end(self) -> bytes:
        """See :class:`sidecar.dialects.translate.AnswerReader`."""
        if self._said:
            return b""
        if self._fault is not None:
            raise self._fault
        last = self._passed(self._frames.rest())
        if self._said:
            return last
        if self._fault is None and not self._reader.finished:
            self._fault = cut_off()
        if self._fault is not None:
            raise self._fault
        self._said = True
        return last + self._writer.end(self._reader.ending)

    def whole(self, body: bytes) -> bytes:
        """See :class:`sidecar.dialects.translate.AnswerReader`."""
        return self._writer.whole(self._reader.whole(body))

    def _passed(self, frames: list[bytes]) -> bytes:
        reader, writer = self._reader, self._writer
        out = b""
        try:
            for frame in frames:
                delta = reader.read(frame)
                if delta is not None:
                    out += writer.delta(delta)
                if reader.closed:
                    out += writer.end(reader.ending)
                    self._said = True
                    break
        except BackendAnswerError as fault:
            self._fault = fault
            if not out:
                raise
        return out
