"""The reading half of a connection: from bytes to whole requests, in order."""

from __future__ import annotations

import asyncio
import math
import time
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Final

import httptools

from sidecar.dataplane.answers import CONTINUE
from sidecar.dataplane.headers import Header
from sidecar.dataplane.reading import Framing, body_limit, examine, head_size, sort_headers, too_large
from sidecar.dataplane.repeat import Repeat, varying
from sidecar.dataplane.request import Fault, Head, Request
from swarmplane.errors import Code

if TYPE_CHECKING:
    from sidecar.dataplane.exchange import Exchange
    from sidecar.dataplane.listener import Listener
    from sidecar.dataplane.server import DataPlane
    from sidecar.dataplane.uploading import Upload
    from swarmplane.credentials.tls import PeerIdentity

IDLE: Final = 0
HEAD: Final = 1
_BODY: Final = 2
_REQUEST_ID: Final = varying(b"x-request-id")
_TRACEPARENT: Final = varying(b"traceparent")
_CHUNK_OVERHEAD: Final = 16
"""Bytes of framing allowed for each byte of a chunked body, besides the head's allowance."""
_MOST_BLANK: Final = 64
"""Bytes of blank lines before a request: some old clients send one after a body."""
_DEAF_BYTES: Final = 4 * 1024 * 1024
"""A client that goes on sending this much after a refusal is cut off."""


class RequestReader(asyncio.Protocol):
    """Parses and queues requests; the answering half takes them from the queue.

    Reading is never paused once a request is complete: a FIN is seen only while reading, and a FIN means that
    the client left (PROTOCOL section 6).
    """

    __slots__ = (
        "_active",
        "_blank",
        "_body_limit",
        "_deadline_s",
        "_deaf",
        "_discarded",
        "_fed",
        "_first",
        "_first_whole",
        "_headers",
        "_length",
        "_listener",
        "_parser",
        "_plane",
        "_queue",
        "_queued_bytes",
        "_rate_from_s",
        "_rate_size",
        "_reading",
        "_repeat",
        "_repeating",
        "_request",
        "_timed",
        "_unread",
        "_upload",
        "_url",
        "bytes_out",
        "client",
        "paused",
        "peer",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, plane: DataPlane, listener: Listener) -> None:
        self._plane = plane
        self._listener = listener
        self._parser = httptools.HttpRequestParser(self)
        self._active: Exchange | Upload | None = None
        self._queue: deque[Request] = deque()
        self._queued_bytes = 0
        self._request: Request | None = None
        self._headers: list[Header] = []
        self._url = b""
        self._reading = self._timed = IDLE
        self._deadline_s = math.inf
        self._fed = self._length = self._discarded = self._body_limit = self._rate_size = 0
        self._blank = 0
        """Bytes of blank lines since the last request: the parser passes over them in silence."""
        self._rate_from_s = math.inf
        """Since when, and from which size of the body on, its rate is measured."""
        self._first = True
        self._first_whole = False
        """Whether the request read last stands at the start of the bytes read last."""
        self._repeat: Repeat[Head] | None = None
        self._deaf = self._repeating = self.paused = False
        self._upload: Upload | None = None
        self._unread: Framing | None = None
        """Of a request whose body the parser did not read; see :meth:`_ignore_upgrade`."""
        self.bytes_out = 0
        self.client = ""
        """The client's address."""
        self.peer: PeerIdentity | None = None
        """Who is at the other end, on the peer listener."""

    @abstractmethod
    def _pump(self) -> None:
        """Begin the next queued request."""

    @abstractmethod
    def _take_file(self, request: Request, framing: Framing) -> None:
        """Pass on the file that ``request`` brings, as it comes; or refuse it."""

    @abstractmethod
    def _begin(self, request: Request) -> None:
        """Begin ``request``; nothing else is queued or active."""

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        if self._deaf:
            self._discard(len(data))
            return
        repeat = self._repeat
        if repeat is not None and self._active is None and self._reading == IDLE:
            found = repeat.match(data)
            if found is not None and self._again(repeat.meaning, *found):
                return
        self._length = len(data)
        self._first = self._reading == IDLE
        self._first_whole = False
        self._fed += self._length
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            rest = self._ignore_upgrade(data[error.args[0] :])
            if rest:
                self.data_received(rest)
                return
        except httptools.HttpParserError as error:
            self._malformed(error)
        self._act(data)

    def _act(self, data: bytes) -> None:
        """Do what follows from what was read last."""
        if self._reading != IDLE:
            self._check_reading()
        elif self._first and not self._deaf:
            self._only_blank()
        elif self._active is not None or self._queue:
            self._deadline_s = math.inf
        if self._queue and self._active is None:
            request = self._queue[0]
            # Another one before it, and what was read last is not this one's head.
            alone = self._first_whole and len(self._queue) == 1
            if alone and request.head.relayed and not request.closes and request.fault is None:
                self._repeat = Repeat.of(request.head, data, _REQUEST_ID, _TRACEPARENT)
            self._pump()

    def _only_blank(self) -> None:
        """No request began in what was read."""
        if not self._blank and self._active is None and not self._queue:
            self._deadline_s = time.monotonic() + self._plane.policy.head_timeout_s
        self._blank += self._length
        if self._blank > _MOST_BLANK:
            request = self._half_read()
            request.fault = Fault(Code.INVALID_REQUEST, "malformed HTTP: blank lines without end")
            self._refuse(request)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > _DEAF_BYTES:
            self.transport.abort()

    def _again(self, head: Head, body: bytes, request_id: bytes, traceparent: bytes) -> bool:
        """Take a request whose head equals the last one's; False: it must be read."""
        size, plane = len(body), self._plane
        policy, keys = plane.policy, plane.keys
        full = plane.buffered_bytes + size > policy.max_buffered_bytes
        if self._queue or full or size > body_limit(head, policy):
            return False
        request = Request(head)
        if (keys.required or (head.credentials and keys.some)) and not keys.admits(self, request):
            return False
        plane.hold_body(size)
        request.body = body
        request.size = size
        request.request_id = request_id
        if traceparent:
            request.traceparent = traceparent
        self._deadline_s = math.inf
        self._blank = 0
        self._begin(request)
        return True

    def _ignore_upgrade(self, rest: bytes) -> bytes:
        """Go on as if no other protocol had been offered, as RFC 9110 allows; returns what is left to parse.

        The parser takes what follows such a head for the other protocol, even a body that the head announces:
        a fresh parser is given the same framing again.
        """
        self._parser = httptools.HttpRequestParser(self)
        framing, self._unread = self._unread, None
        if framing is not None:
            self._repeating = True
            self._parser.feed_data(framing.as_head())
            self._repeating = False
        return b"" if self._deaf else rest

    def on_message_begin(self) -> None:
        """Parser: a head begins."""
        if self._repeating:
            return
        self._headers = []
        self._url = b""
        self._reading = HEAD
        self._timed = IDLE
        self._fed = self._length if self._first else 0
        self._first_whole = self._first
        self._first = False
        self._blank = 0

    def on_url(self, url: bytes) -> None:
        """Parser: a piece of the target."""
        self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser: a header, or a trailer, which is dropped."""
        if self._reading == HEAD:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Parser: the head is whole."""
        if self._deaf or self._repeating:
            return
        policy = self._plane.policy
        parser = self._parser
        head = Head()
        head.method = parser.get_method()
        head.target = self._url
        version = parser.get_http_version()
        head.http10 = version != "1.1"
        head.closes = head.http10 or not parser.should_keep_alive()
        request = self._request = Request(head)
        headers = self._headers
        framing = sort_headers(request, headers, self._listener.actions)
        if head.http10 and version != "1.0":
            request.fault = Fault(Code.INVALID_REQUEST, "the version must be HTTP/1.1 or HTTP/1.0")
        if parser.should_upgrade() and (framing.length or framing.chunked):
            self._unread = framing
        self._headers = []
        self._reading = _BODY
        self._rate_from_s = math.inf
        if self._fed > policy.max_head_bytes and head_size(self._url, headers) > policy.max_head_bytes:
            request.fault = Fault(Code.HEAD_TOO_LARGE, "the request's head is too large")
        elif request.fault is None:
            examine(request, framing, self._listener.access, policy)
            if (head.credentials or self._plane.keys.required) and request.fault is None:
                request.fault = self._plane.keys.fault(self, request, framing)
        self._body_limit = body_limit(head, policy)
        if request.fault is not None and (request.fault.close or framing.expects):
            request.fault.close = True
            self._refuse(request)
        elif head.uploads and request.fault is None:
            self._take_file(request, framing)
        elif framing.expects and (framing.length or framing.chunked):
            self._expected(request)

    def _expected(self, request: Request) -> None:
        fault = self._plane.refuse_early(self.peer, request)
        if fault is not None:
            request.fault = fault
            self._refuse(request)
        elif self._active is None and not self._queue and not request.head.http10:
            self.transport.write(CONTINUE)

    def on_body(self, data: bytes) -> None:
        """Parser: a piece of the body."""
        request = self._request
        if request is None or self._deaf:
            return
        if self._upload is not None and request.head.uploads:
            self._fed = 0
            self._upload.push(data)
            return
        size = len(data)
        request.size += size
        if not self._plane.hold_body(size):
            message = "too many bodies are held at this moment; try again"
            request.fault = Fault(Code.UNAVAILABLE, message)
            self._refuse(request)
        elif request.size > self._body_limit:
            request.fault = too_large(self._body_limit)
            self._refuse(request)
        elif not request.body:
            request.body = data
        elif isinstance(request.body, bytearray):
            request.body += data
        else:
            request.body = bytearray(request.body)
            request.body += data

    def on_message_complete(self) -> None:
        """Parser: the request is whole."""
        if self._unread is not None:
            return
        request, self._request = self._request, None
        self._reading = IDLE
        if request is None or self._deaf:
            return
        if self._upload is not None and request.head.uploads:
            self._upload.finish()
            return
        if self._queue or self._active is not None:
            policy = self._plane.policy
            self._queued_bytes += request.size + len(request.head.target)
            full = len(self._queue) + 1 >= policy.max_pipelined
            if full or self._queued_bytes > policy.max_pipelined_bytes:
                request.closes = True
        if request.closes:
            self._deaf = True
        self._queue.append(request)

    def _refuse(self, request: Request) -> None:
        """Queue the refusal of a request that is not read to its end; nothing after it is read."""
        request.closes = True
        head = request.head
        # Of a target that is no path nothing is told: it may hold a credential anywhere.
        head.path = head.target.partition(b"?")[0] if head.target[:1] == b"/" else b""
        self._deaf = True
        self._request = None
        self._reading = IDLE
        self._plane.release_body(request)
        self._queue.append(request)

    def _half_read(self) -> Request:
        """What came so far of the request that is being read; what did not come is empty."""
        if self._request is not None:
            return self._request
        head = Head()
        head.method = head.target = head.path = b""
        if self._reading == HEAD and self._url:
            # The parser names a method before it has read one, but not once it reads a target.
            head.method, head.target = self._parser.get_method(), self._url
        return Request(head)

    def _malformed(self, error: Exception) -> None:
        cause = error.__context__
        if isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
            self._plane.fault(cause)
            self.transport.abort()
            return
        if self._deaf:
            return
        self._plane.counters.malformed += 1
        request = self._half_read()
        request.fault = Fault(Code.INVALID_REQUEST, f"malformed HTTP: {error}")
        self._refuse(request)

    def _check_reading(self) -> None:
        policy = self._plane.policy
        if self._reading == HEAD:
            if self._fed > policy.max_head_bytes:
                request = self._half_read()
                request.fault = Fault(Code.HEAD_TOO_LARGE, "the request's head is too large")
                self._refuse(request)
            elif self._timed != HEAD:
                self._timed = HEAD
                self._deadline_s = time.monotonic() + policy.head_timeout_s
            return
        request_size = self._request.size if self._request is not None else 0
        if self._fed > policy.max_head_bytes + self._length + _CHUNK_OVERHEAD * max(request_size, 4096):
            request = self._half_read()
            request.fault = Fault(Code.INVALID_REQUEST, "the body has more framing than content")
            self._refuse(request)
            return
        if request_size and self._drips(request_size):
            request = self._half_read()
            request.fault = Fault(Code.REQUEST_TIMEOUT, "the request's body arrives too slowly")
            self._refuse(request)
            return
        self._deadline_s = time.monotonic() + policy.body_timeout_s

    def _drips(self, size: int) -> bool:
        """Whether the body, of which ``size`` bytes came so far, has arrived too slowly for a while."""
        policy, now_s = self._plane.policy, time.monotonic()
        over_s = now_s - self._rate_from_s
        if 0 <= over_s < policy.body_rate_window_s:
            return False
        slow = over_s > 0 and size - self._rate_size < policy.min_body_rate * over_s
        self._rate_from_s, self._rate_size = now_s, size
        return slow
