"""The client's end of a connection to a backend or a peer: one exchange at a time, one event a read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

import httptools

from sidecar.dataplane.headers import Header, relayed_lines
from sidecar.dataplane.relay_choice import is_plain
from sidecar.dataplane.repeat import Repeat, varying

if TYPE_CHECKING:
    from sidecar.dataplane.pool import Destination

_MOST_HEADERS_BYTES: Final = 256 * 1024
_OK: Final = b"HTTP/1.1 200 "
_LOAD: Final = varying(b"x-swarm-load")
_MOST_USUAL: Final = 1024


def _size_line(length: int) -> bytes:
    """What one chunk of ``length`` bytes in all, written as we write them, begins with.

    Empty where none is as long as that: each further digit of its size leaves one length out.
    """
    size = length - 4 - len(b"%x" % length)
    for found in (size, size + 1):
        line = b"%x\r\n" % found
        if found > 0 and len(line) + found + 2 == length:
            return line
    return b""


_SIZE_LINES: Final = tuple(_size_line(length) for length in range(_MOST_USUAL))
"""Made once for what nearly all events are as short as."""
_JOINED_BYTES: Final = 64 * 1024
"""Heads and bodies up to this are written as one piece."""


class Whole:
    """The head of an answer that may come again in one piece."""

    __slots__ = ("headers", "lines")
    status: ClassVar = 200
    length: ClassVar[int | None] = None

    def __init__(self, headers: list[Header]) -> None:
        self.headers = headers
        self.lines = relayed_lines(headers)
        """Those that go on."""


class Sink(Protocol):
    """Who asked. It gets ``upstream_head``, then data, then exactly one of the two ends."""

    __slots__ = ()

    def upstream_whole(self, answer: Whole, body: bytes, load: bytes) -> None:
        """Instead of all others: a plain 200 in one piece; a peer reports its ``load`` with it."""

    def upstream_info(self, status: int, headers: list[Header]) -> None:
        """A whole 1xx message."""

    def upstream_head(self, upstream: Upstream) -> None:
        """Status and headers of the answer are there."""

    def upstream_data(self, data: bytes, framed: bytes = b"") -> None:
        """A piece of the body. ``framed``: the whole chunk as which it came; empty: not known."""

    def upstream_end(self) -> None:
        """The answer is whole by its framing."""

    def upstream_lost(self, upstream: Upstream, *, clean: bool) -> None:
        """The connection ended first. ``clean``: by a FIN after a body that only its end delimits."""


class Upstream(asyncio.Protocol):
    """One connection. Returns itself to its destination's pool when an answer ends and it is reusable."""

    __slots__ = (
        "_chunked",
        "_complete",
        "_destination",
        "_fed",
        "_head_ready",
        "_head_sent",
        "_informational",
        "_parser",
        "_parts",
        "_repeat",
        "_reusable",
        "_sink",
        "_withheld",
        "answered",
        "headers",
        "idle_until_s",
        "length",
        "lost",
        "reused",
        "status",
        "transport",
        "until_eof",
    )

    transport: asyncio.Transport

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._parser = httptools.HttpResponseParser(self)
        self._sink: Sink | None = None
        self._parts: list[bytes] = []
        self._withheld: bytes | bytearray | None = None
        self.lost = False
        """Whether it ended, or is not to be used any more."""
        self._fed = 0
        self._repeat: Repeat[Whole] | None = None
        """The last plain answer's head."""
        self.reused = False
        self.answered = False
        """Whether any byte of an answer came."""
        self.idle_until_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self.headers: list[Header] = []
        self.status = 0
        self.length: int | None = None
        """Of the body, where a header names it."""
        self.until_eof = False
        """Whether only the connection's end delimits the body."""
        self._informational = False
        self._head_ready = False
        self._head_sent = False
        self._complete = False
        self._reusable = False
        self._chunked = False
        """Whether the parser stands between two chunks, as far as its events tell."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self.transport = transport  # type: ignore[assignment]

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return not self.lost and self._sink is None and not self.transport.is_closing()

    def send(self, sink: Sink, head: bytes, body: bytes | bytearray, *, withhold: bool = False) -> None:
        """Begin an exchange. ``withhold``: the body waits for ``100 Continue``."""
        self._sink = sink
        self.answered = False
        if self._head_ready:
            self._reset()
        transport = self.transport
        if not body:
            transport.write(head)
        elif withhold:
            self._withheld = body
            transport.write(head)
        elif len(body) <= _JOINED_BYTES:
            transport.write(head + body)
        else:
            transport.writelines((head, body))

    def abort(self) -> None:
        """Cut the connection now; nobody is told."""
        self._sink = None
        self.lost = True
        self.transport.abort()

    def pause(self) -> None:
        """Stop reading: whoever gets the answer is slower."""
        if not self.lost:
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if not self.lost:
            self.transport.resume_reading()

    # -- events of the connection -------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:  # noqa: C901 - the steps of every piece, in their order
        """See :class:`asyncio.Protocol`."""
        sink = self._sink
        if sink is None:
            # Nobody asked: what it answers can't be trusted to belong to the next request.
            self._drop()
            return
        if self._chunked:
            # One chunk, written as we write them: most pieces of a stream are.
            length = len(data)
            line = _SIZE_LINES[length] if length < _MOST_USUAL else _size_line(length)
            if line and data.startswith(line) and data[-2:] == b"\r\n":
                sink.upstream_data(data[len(line) : -2], data)
                return
            self._chunked = False
        begins = not self.answered
        if begins:
            self.answered = True
            if self._repeat is not None and self._answered_again(self._repeat, sink, data):
                return
        if not self._head_ready:
            self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._reusable = False
            if not self._complete:
                self._deliver(sink)
                self._fail()
                return
        if self._fed > _MOST_HEADERS_BYTES and not self._head_ready:
            self._fail()
            return
        if begins and self._complete and self._reusable and data.startswith(_OK) and is_plain(self.headers):
            self._repeat = Repeat.of(Whole(self.headers), data, _LOAD)
        if self._chunked and not data.endswith(b"\r\n"):
            # The size of the next chunk has begun.
            self._chunked = False
        self._deliver(sink)

    def _answered_again(self, repeat: Repeat[Whole], sink: Sink, data: bytes) -> bool:
        """Pass on ``data`` that is a whole answer with the head of the last one."""
        found = repeat.match(data)
        if found is None:
            return False
        self._sink = None
        if self._withheld is None and not self.transport.get_write_buffer_size():
            self._destination.put(self)
        else:
            self._withheld = None
            self._drop()
        sink.upstream_whole(repeat.meaning, *found)
        return True

    def _deliver(self, sink: Sink) -> None:
        if self._head_ready and not self._head_sent:
            self._head_sent = True
            self._fed = 0
            sink.upstream_head(self)
        if self._parts and self._sink is sink:
            parts, self._parts = self._parts, []
            sink.upstream_data(parts[0] if len(parts) == 1 else b"".join(parts))
        if self._complete and self._sink is sink:
            self._release()
            sink.upstream_end()

    def _release(self) -> None:
        self._sink = None
        unsent = self._withheld is not None or self.transport.get_write_buffer_size()
        self._withheld = None
        if self._reusable and not unsent:
            self._destination.put(self)
        else:
            self._drop()

    def _drop(self) -> None:
        self._destination.remove(self)
        self.lost = True
        self.transport.abort()

    def eof_received(self) -> bool | None:
        """The other end closed."""
        self._ended(clean=True)
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._ended(clean=exc is None)

    def _ended(self, *, clean: bool) -> None:
        self.lost = True
        self._destination.remove(self)
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.upstream_lost(self, clean=clean and self.until_eof)

    def _fail(self) -> None:
        sink, self._sink = self._sink, None
        self._drop()
        if sink is not None:
            sink.upstream_lost(self, clean=False)

    # -- events of the parser -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Parser: a message begins; a second one after the answer belongs to nobody."""
        if self._complete:
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser: a header, or a trailer, which is dropped."""
        if not self._head_ready:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Parser: a head is whole."""
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:  # noqa: PLR2004
            self._informational = True
            return
        self.status = status
        length, framed = None, False
        for name, value in self.headers:
            if name == b"content-length":
                length, framed = int(value), True
            elif name == b"transfer-encoding":
                framed = True
        self.length = length
        self.until_eof = not framed and status not in _BODYLESS
        self._reusable = self._parser.should_keep_alive() and not self.until_eof
        self._head_ready = True

    def on_chunk_header(self) -> None:
        """Parser: the size of a chunk was read."""
        self._chunked = False

    def on_chunk_complete(self) -> None:
        """Parser: a chunk is whole."""
        self._chunked = not self._complete

    def on_body(self, data: bytes) -> None:
        """Parser: a piece of the body."""
        if not self._complete:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        """Parser: a message is whole."""
        if not self._informational:
            self._complete = True
            self._chunked = False
            return
        self._informational = False
        headers, self.headers = self.headers, []
        status = self._parser.get_status_code()
        if status == 100 and self._withheld is not None:  # noqa: PLR2004
            body, self._withheld = self._withheld, None
            self.transport.write(body)
        sink = self._sink
        if sink is not None:
            sink.upstream_info(status, headers)


_BODYLESS: Final = frozenset({204, 304})
