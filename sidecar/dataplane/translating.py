"""The way of an answer whose backend speaks another dialect than the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.dataplane.headers import relayed_lines
from sidecar.dataplane.relay import CHUNKED, END, CollectingRelay, Relay
from sidecar.dataplane.translation import INLINE_BYTES
from sidecar.dialects.translate import AnswerReader, BackendAnswerError, error_answer
from sidecar.telemetry.usage import last_of

if TYPE_CHECKING:
    from sidecar.dataplane.exchange import Exchange
    from sidecar.dataplane.upstream import Upstream, Whole

MOST_BYTES: Final = 64 * 1024 * 1024
"""Of a whole answer that is translated: it has to be held. Embeddings of a large batch are the largest."""
_ERRORS_FROM: Final = 400
_OK: Final = 200
JSON_LINE: Final = b"content-type: application/json\r\n"
_TOO_LONG: Final = "The backend's answer is too long to be translated"


def _lines(upstream: Upstream | Whole, content_type: bytes) -> bytes:
    """The header lines that go on, with the content type that the client gets."""
    kept = [header for header in upstream.headers if header[0] != b"content-type"]
    return relayed_lines(kept) + b"content-type: %b\r\n" % content_type


class TranslatingRelay(Relay):
    """A stream: pieces of one dialect come, pieces of another one go."""

    __slots__ = ("_reader",)

    def __init__(self, exchange: Exchange, upstream: Upstream | Whole, reader: AnswerReader) -> None:
        super().__init__(exchange, upstream)
        self._reader = reader

    def data(self, data: bytes, framed: bytes = b"") -> None:  # noqa: ARG002
        """See :class:`Relay`."""
        self._keep(data)
        try:
            data = self._reader.push(data)
        except BackendAnswerError as error:
            self._exchange.spoiled(error.message)
            return
        if data:
            self._put(data)

    def _put(self, data: bytes) -> None:
        if self.committed:
            self._write(data)
        elif self._chunked:
            self._commit(CHUNKED, b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._commit(b"", data)

    def _lines(self) -> bytes:
        """See :class:`Relay`."""
        return _lines(self._upstream, self._reader.content_type)

    @property
    def finished(self) -> bool:
        """See :class:`Relay`."""
        return self._reader.ended

    def whole_at_eof(self) -> bool:
        """See :class:`Relay`."""
        return self._reader.ended

    def end(self) -> None:
        """See :class:`Relay`."""
        try:
            data = self._reader.end()
        except BackendAnswerError as error:
            self._exchange.spoiled(error.message)
            return
        if data or not self.committed:
            self._put(data)
        if self._chunked:
            self._exchange.connection.write(END)
        self._exchange.relayed(close=self._exchange.request.head.http10)

    def break_off(self, event: bytes) -> None:
        """See :class:`Relay`: what was written ends with whole events or lines, always."""
        self._write(event)
        if self._chunked:
            self._exchange.connection.write(END)
        self._exchange.relayed(close=True)


class TranslatedAnswer(CollectingRelay):
    """A whole answer."""

    __slots__ = ("_reader",)

    def __init__(self, exchange: Exchange, upstream: Upstream | Whole, reader: AnswerReader) -> None:
        super().__init__(exchange, upstream, MOST_BYTES)
        self._reader = reader

    def _overflows(self) -> None:
        """See :class:`CollectingRelay`."""
        self._exchange.spoiled(_TOO_LONG)

    def _lines(self) -> bytes:
        """See :class:`Relay`."""
        return _lines(self._upstream, self._reader.content_type)

    def end(self) -> None:
        """See :class:`Relay`."""
        body = self.body
        if len(body) > INLINE_BYTES:
            self._exchange.work_apart(self._end_apart(body))
            return
        try:
            answer = self._reader.whole(body)
        except BackendAnswerError as error:
            self._exchange.spoiled(error.message)
        else:
            self._pass(body, answer)

    async def _end_apart(self, body: bytes) -> None:
        """As :meth:`end`, for embeddings by the megabyte."""
        exchange = self._exchange
        try:
            answer = await exchange.translator.apart(self._reader.whole, body)
        except BackendAnswerError as error:
            if exchange.answered_by(self):
                exchange.spoiled(error.message)
        else:
            if exchange.answered_by(self):
                self._pass(body, answer)

    def _pass(self, body: bytes, answer: bytes) -> None:
        self._exchange.noted.whole = last_of(body)
        self._commit(b"content-length: %d\r\n" % len(answer), answer)
        self._exchange.relayed(close=False)


class TranslatedError(CollectingRelay):
    """A backend's refusal, in the shape of the client's dialect."""

    __slots__ = ()

    def _overflows(self) -> None:
        """See :class:`CollectingRelay`."""
        self._exchange.spoiled(_TOO_LONG)

    def _lines(self) -> bytes:
        """See :class:`Relay`."""
        return _lines(self._upstream, b"application/json")

    def end(self) -> None:
        """See :class:`Relay`."""
        path, status = self._exchange.request.head.path, self._upstream.status
        body = error_answer(path, status, self.body)
        self._commit(b"content-length: %d\r\n" % len(body), body)
        self._exchange.relayed(close=False)


def choose(
    exchange: Exchange, upstream: Upstream | Whole, reader: AnswerReader, *, collect: int
) -> Relay | None:
    """The relay that suits an answer's head; None: it is no answer that could be translated."""
    if upstream.status >= _ERRORS_FROM:
        return TranslatedError(exchange, upstream, collect)
    if upstream.status != _OK or any(name == b"content-encoding" for name, _ in upstream.headers):
        return None
    if reader.streams:
        return TranslatingRelay(exchange, upstream, reader)
    return TranslatedAnswer(exchange, upstream, reader)
