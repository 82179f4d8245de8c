"""The way of an answer of events, or of a document a line: whole lines, so that an error can follow them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from sidecar.dataplane.frames import EVENT_END, WHOLE, is_broken
from sidecar.dataplane.marks import MARKS, UNMARKED
from sidecar.dataplane.relay import CHUNKED, END, Relay
from sidecar.telemetry.usage import KEPT_BYTES, Tail

if TYPE_CHECKING:
    from sidecar.dataplane.exchange import Exchange
    from sidecar.dataplane.upstream import Upstream

_DONE: Final = (b"data: [DONE]", b"data:[DONE]")
_NO_EVENT: Final = "The backend's stream can't be read"
_NEWLINE: Final = 0x0A
_COLON: Final = 0x3A
_OK: Final = 200


class EventRelay(Relay):
    """Server-sent events: whole lines only, so that a failure can still be told as an event of its own."""

    events: ClassVar = True
    """Whether lines are server-sent events; else each is a document."""
    __slots__ = (
        "_documents",
        "_early",
        "_ends",
        "_finished",
        "_held",
        "_last",
        "_limit",
        "_rename",
        "_rename_in",
        "_tail",
    )

    def __init__(self, exchange: Exchange, upstream: Upstream, limit: int) -> None:
        super().__init__(exchange, upstream)
        self._limit = limit
        self._held = b""
        self._early = b""
        self._last = b"\n\n"
        self._rename = exchange.rename
        self._tail: Tail | None = None
        """Of a stream whose whole lines go on as they are, in chunks: nothing in them is changed."""
        marks = MARKS.get(exchange.request.head.path, UNMARKED)
        self._ends, self._rename_in = marks.ends, marks.rename
        self._finished = marks is UNMARKED or upstream.status != _OK
        self._documents = not self._finished
        """Whether every event has to be JSON."""

    def data(self, data: bytes, framed: bytes = b"") -> None:
        """See :class:`Relay`."""
        tail = self._tail
        if tail is not None and not self._held and (data[-3:] == EVENT_END or self._reads(data)):
            # Whether it is the last of the answer is asked once, at its end, of what is kept.
            if len(data) > KEPT_BYTES:
                self._finished = self._finished or self._ends(tail.last()) or self._ends(data)
                tail.keep(data)
            elif data[0] != _COLON or not is_silence(data):
                tail.append(data)
            self._last = data
            if framed:
                self._exchange.connection.write(framed)
            else:
                self._write(data)
            return
        self._keep(data)
        if self._held:
            data = self._held + data
            self._held = b""
        if data[-1] != _NEWLINE:
            cut = data.rfind(b"\n") + 1
            if len(data) - cut <= self._limit:
                self._held = data[cut:]
                data = data[:cut]
        if data:
            self._emit(data)

    @property
    def finished(self) -> bool:
        """See :class:`Relay`: an end marker passed, or a finish reason: some servers send no more."""
        tail = self._tail
        return self._finished or self._ends(self._held) or (tail is not None and self._ends(tail.last()))

    def _reads(self, data: bytes) -> bool:
        """Whether ``data`` is whole lines, and events as far as its end shows."""
        return data[-1] == _NEWLINE and not self._broken(data)

    def _broken(self, data: bytes) -> bool:
        """Whether what does not end as an event does is none."""
        return (
            self._documents
            and not data.endswith(WHOLE)
            and data[-1] == _NEWLINE
            and is_broken(data, events=self.events)
        )

    def _emit(self, data: bytes) -> None:
        if self._broken(data):
            self._exchange.spoiled(_NO_EVENT)
            return
        if not self._finished:
            self._finished = self._ends(data)
        if self._rename:
            data = self._rename_in(data, self._rename)
        if self.committed:
            self._last = data
            self._write(data)
            return
        self._early += data
        if len(self._early) <= self._limit and is_silence(self._early):
            return
        self._open()

    def _open(self) -> None:
        early, self._early = self._early, b""
        self._last = early or self._last
        if not self._chunked:
            self._commit(b"", early)
        else:
            self._commit(CHUNKED, b"%x\r\n%b\r\n" % (len(early), early) if early else b"")
            self._tail = None if self._rename else self._exchange.noted.tail

    def end(self) -> None:
        """See :class:`Relay`."""
        if self._held:
            self._early += self._held if not self.committed else b""
            if self.committed:
                self._write(self._held)
        if not self.committed:
            self._open()
        if self._chunked:
            self._exchange.connection.write(END)
        self._exchange.relayed(close=self._exchange.request.head.http10)

    def whole_at_eof(self) -> bool:
        """See :class:`Relay`: the stream's end marker was relayed."""
        return (self._last + self._held).rstrip().endswith(_DONE)

    def break_off(self, event: bytes) -> None:
        """See :class:`Relay`: an error event, a proper end of the body, then the connection closes."""
        last = self._last
        gap = b"" if last.endswith((b"\n\n", b"\r\n\r\n")) else b"\n" if last.endswith(b"\n") else b"\n\n"
        self._write(gap + event)
        if self._chunked:
            self._exchange.connection.write(END)
        self._exchange.relayed(close=True)


class LineRelay(EventRelay):
    """Ollama's streams: a JSON document on every line."""

    __slots__ = ()
    events = False

    def whole_at_eof(self) -> bool:
        """See :class:`Relay`: a line said that it is the last one."""
        return self.finished

    def break_off(self, event: bytes) -> None:
        """See :class:`Relay`: a line that says why, a proper end of the body, then the connection closes."""
        if not self._last.endswith(b"\n"):
            event = b"\n" + event
        self._last = b"\n\n"
        super().break_off(event)


def is_silence(data: bytes) -> bool:
    """Whether ``data``, whole lines, are nothing but SSE comments and blank lines."""
    return all(not line or line.startswith(b":") for line in data.splitlines())
