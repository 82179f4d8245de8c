"""The way of an answer to the client: collected whole, as events, or passed on as it comes.

A relay commits when it writes its head. Until then a failure is the exchange's to repair; after it, all that
is left is to end the answer so that nobody takes it for a whole one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from sidecar.dataplane.frames import EVENT_END, WHOLE, is_answer, is_broken
from sidecar.dataplane.headers import Header, relayed_lines
from sidecar.dataplane.marks import MARKS, UNMARKED
from sidecar.dataplane.splice import rename_answer
from sidecar.dialects.translate import error_answer
from sidecar.telemetry.usage import last_of

if TYPE_CHECKING:
    from sidecar.dataplane.exchange import Exchange
    from sidecar.dataplane.upstream import Upstream, Whole

END: Final = b"0\r\n\r\n"
CHUNKED: Final = b"transfer-encoding: chunked\r\n"
_DONE: Final = (b"data: [DONE]", b"data:[DONE]")
_EVENTS: Final = b"text/event-stream"
_LINES: Final = b"application/x-ndjson"
_EVENT_KINDS: Final = (_EVENTS, _LINES)
_EVENT_NAMES: Final = tuple(kind.decode() for kind in _EVENT_KINDS)
_STREAM_KINDS: Final = (
    b"application/jsonl",
    b"audio/",
    b"video/",
    b"image/",
    b"application/octet-stream",
)
_NO_ANSWER: Final = "The backend's answer is none"
_NO_EVENT: Final = "The backend's stream can't be read"
_validate: Final = msgspec.json.Decoder(msgspec.Raw).decode


class Relay(ABC):
    """What all three have in common."""

    __slots__ = ("_chunked", "_exchange", "_upstream", "committed")

    streaming: ClassVar = True
    """Whether an answer shows its first token and its pace; a whole one shows how long all of it took."""

    def __init__(self, exchange: Exchange, upstream: Upstream | Whole) -> None:
        self._exchange = exchange
        self._upstream = upstream
        self._chunked = not exchange.request.head.http10
        self.committed = False
        """Whether the client got anything."""

    @abstractmethod
    def data(self, data: bytes, framed: bytes = b"") -> None:
        """A piece of the body; ``framed``: as one chunk, if it is known so."""

    @abstractmethod
    def end(self) -> None:
        """The body is whole."""

    @property
    def finished(self) -> bool:
        """Whether a body that is whole by its framing is so by its dialect too."""
        return True

    def whole_at_eof(self) -> bool:
        """Whether a body that only the connection's end delimits is complete, by its dialect's end marker."""
        return False

    @abstractmethod
    def break_off(self, event: bytes) -> None:
        """End a committed answer that will never be whole; ``event`` says why, where the form allows it."""

    def _commit(self, framing: bytes, first: bytes) -> None:
        self.committed = True
        exchange = self._exchange
        exchange.committed()
        upstream = self._upstream
        exchange.connection.write(
            exchange.answer_head(upstream.status, self._lines(), framing, upstream.headers) + first
        )

    def _lines(self) -> bytes:
        """The header lines of the answer that go on."""
        return relayed_lines(self._upstream.headers)

    def _write(self, data: bytes) -> None:
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._exchange.connection.write(data)


class CollectingRelay(Relay):
    """Holds an answer until it is whole, up to a limit; beyond it, passes it on."""

    __slots__ = ("_limit", "_parts", "_size")
    streaming = False

    def __init__(self, exchange: Exchange, upstream: Upstream | Whole, limit: int) -> None:
        super().__init__(exchange, upstream)
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def body(self) -> bytes:
        """What came so far."""
        parts = self._parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def data(self, data: bytes, framed: bytes = b"") -> None:  # noqa: ARG002
        """See :class:`Relay`."""
        self._size += len(data)
        self._parts.append(data)
        if self._size > self._limit:
            self._overflows()

    def _overflows(self) -> None:
        """It is too long to be held."""
        self._exchange.overflow(self.body)

    def end(self) -> None:
        """See :class:`Relay`."""
        body, path = self.body, self._exchange.request.head.path
        status = self._upstream.status
        if status == _OK and not is_answer(path, body):
            self._exchange.spoiled(_NO_ANSWER)
            return
        if status >= _ERRORS_FROM and path.startswith(_MESSAGES) and not body.startswith(_ERROR_OF_ANTHROPIC):
            body = error_answer(path, status, body)
        name = self._exchange.rename
        if name:
            body = rename_answer(body, name)
        self._exchange.noted.whole = last_of(body)
        self._commit(b"content-length: %d\r\n" % len(body), body)
        self._exchange.relayed(close=False)

    def whole_at_eof(self) -> bool:
        """See :class:`Relay`: JSON that is whole."""
        try:
            _validate(self.body)
        except (msgspec.DecodeError, RecursionError):
            return False
        return True

    def break_off(self, event: bytes) -> None:  # noqa: ARG002
        """See :class:`Relay`: it commits only when it is whole, and then nothing can break."""
        self._exchange.connection.abort()


class PassingRelay(Relay):
    """Passes bytes on as they come; a broken one ends by cutting the connection, never padded."""

    __slots__ = ()

    def data(self, data: bytes, framed: bytes = b"") -> None:
        """See :class:`Relay`."""
        if self.committed:
            if framed and self._chunked:
                self._exchange.connection.write(framed)
            else:
                self._write(data)
            return
        length = self._upstream.length
        if length is not None:
            self._chunked = False
            self._commit(b"content-length: %d\r\n" % length, data)
        elif self._chunked:
            self._commit(CHUNKED, b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._commit(b"", data)

    def end(self) -> None:
        """See :class:`Relay`."""
        if not self.committed:
            self._commit(b"content-length: 0\r\n", b"")
        elif self._chunked:
            self._exchange.connection.write(END)
        self._exchange.relayed(close=self._exchange.request.head.http10)

    def whole_at_eof(self) -> bool:
        """See :class:`Relay`: nothing in such a body says so, and HTTP/1.0 servers end all of theirs so."""
        return True

    def break_off(self, event: bytes) -> None:  # noqa: ARG002
        """See :class:`Relay`."""
        self._exchange.connection.abort()


class EventRelay(Relay):
    """Server-sent events: whole lines only, so that a failure can still be told as an event of its own."""

    events: ClassVar = True
    """Whether lines are server-sent events; else each is a document."""
    __slots__ = (
        "_as_it_comes",
        "_documents",
        "_early",
        "_ends",
        "_finished",
        "_held",
        "_last",
        "_limit",
        "_rename",
        "_rename_in",
    )

    def __init__(self, exchange: Exchange, upstream: Upstream, limit: int) -> None:
        super().__init__(exchange, upstream)
        self._limit = limit
        self._held = b""
        self._early = b""
        self._last = b"\n\n"
        self._rename = exchange.rename
        self._as_it_comes = False
        """Whether whole chunks of whole lines go on as they are: nothing in them is changed."""
        marks = MARKS.get(exchange.request.head.path, UNMARKED)
        self._ends, self._rename_in = marks.ends, marks.rename
        self._finished = marks is UNMARKED or upstream.status != _OK
        self._documents = not self._finished
        """Whether every event has to be JSON."""

    def data(self, data: bytes, framed: bytes = b"") -> None:
        """See :class:`Relay`."""
        if framed and self._as_it_comes and not self._held and data[-1] == _NEWLINE:
            if data[-3:] != EVENT_END and not data.endswith(WHOLE) and self._spoils(data):
                return
            if not self._finished:
                self._finished = self._ends(data)
            self._last = data
            self._exchange.connection.write(framed)
            return
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
        return self._finished or self._ends(self._held)

    def _spoils(self, data: bytes) -> bool:
        """Whether what does not end as an event does is none, and the stream is given up for it."""
        broken = self._documents and data[-1] == _NEWLINE and is_broken(data, events=self.events)
        if broken:
            self._exchange.spoiled(_NO_EVENT)
        return broken

    def _emit(self, data: bytes) -> None:
        if not data.endswith(WHOLE) and self._spoils(data):
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
            self._as_it_comes = not self._rename

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


_NEWLINE: Final = 0x0A
_OK: Final = 200
_ERRORS_FROM: Final = 400
_MESSAGES: Final = b"/v1/messages"
_ERROR_OF_ANTHROPIC: Final = (b'{"type":"error"', b'{"type": "error"')
"""Some servers answer in Anthropic's dialect, but refuse in OpenAI's."""


def streams(relay: Relay | None) -> bool:
    """Whether an answer has a pace; see :attr:`Relay.streaming`."""
    return relay is not None and relay.streaming


def is_silence(data: bytes) -> bool:
    """Whether ``data``, whole lines, are nothing but SSE comments and blank lines."""
    return all(not line or line.startswith(b":") for line in data.splitlines())


def is_stream(kind: str) -> bool:
    """Whether an answer of this content type comes in lines that mean something each."""
    return kind.lower().startswith(_EVENT_NAMES)


def is_plain(headers: list[Header]) -> bool:
    """Whether an answer with a length would be collected, if it is not too long."""
    for name, value in headers:
        if name == b"content-encoding" or (
            name == b"content-type" and value.lower().startswith(_EVENT_KINDS)
        ):
            return False
    return True


def choose(exchange: Exchange, upstream: Upstream, *, collect: int, hold: int) -> Relay:
    """The relay that suits an answer's head."""
    kind = b""
    for name, value in upstream.headers:
        if name == b"content-type":
            kind = value.lower()
        elif name == b"content-encoding":
            return PassingRelay(exchange, upstream)
    if kind.startswith(_EVENT_KINDS):
        relay = EventRelay if kind.startswith(_EVENTS) else LineRelay
        return relay(exchange, upstream, hold)
    if upstream.length is None:
        if kind.startswith(_STREAM_KINDS):
            return PassingRelay(exchange, upstream)
    elif upstream.length > collect:
        return PassingRelay(exchange, upstream)
    return CollectingRelay(exchange, upstream, collect)
