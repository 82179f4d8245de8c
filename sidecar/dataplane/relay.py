"""The way of an answer to the client: collected whole, or passed on as it comes.

A relay commits when it writes its head. Until then a failure is the exchange's to repair; after it, all that
is left is to end the answer so that nobody takes it for a whole one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from sidecar.dataplane.frames import is_answer
from sidecar.dataplane.headers import relayed_lines
from sidecar.dataplane.splice import rename_answer
from sidecar.dialects.translate import error_answer
from sidecar.telemetry.usage import Tail, last_of

if TYPE_CHECKING:
    from sidecar.dataplane.exchange import Exchange
    from sidecar.dataplane.upstream import Upstream, Whole

END: Final = b"0\r\n\r\n"
CHUNKED: Final = b"transfer-encoding: chunked\r\n"
_NO_ANSWER: Final = "The backend's answer is none"
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

    def _keep(self, data: bytes) -> None:
        """Keep the end of what goes by: it tells the usage."""
        tail = self._exchange.noted.tail
        if tail is None:
            self._exchange.noted.tail = Tail(data)
        else:
            tail.keep(data)

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
        self._keep(data)
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


_OK: Final = 200
_ERRORS_FROM: Final = 400
_MESSAGES: Final = b"/v1/messages"
_ERROR_OF_ANTHROPIC: Final = (b'{"type":"error"', b'{"type": "error"')
"""Some servers answer in Anthropic's dialect, but refuse in OpenAI's."""


def streams(relay: Relay | None) -> bool:
    """Whether an answer has a pace; see :attr:`Relay.streaming`."""
    return relay is not None and relay.streaming
