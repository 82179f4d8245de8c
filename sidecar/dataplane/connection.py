"""The server's end of a connection: requests that were read, one after another, and their answers back."""

from __future__ import annotations

import asyncio
import math
import time

from sidecar.dataplane.looking import look, takes_steps
from sidecar.dataplane.reader import HEAD, IDLE, RequestReader
from sidecar.dataplane.reading import Framing
from sidecar.dataplane.request import Fault, Request
from sidecar.dataplane.uploading import Upload, taker
from swarmplane.errors import Code, InvalidRequestError, SwarmError


class ClientConnection(RequestReader):
    """One accepted connection, of a client or of a peer."""

    __slots__ = ("_held", "_stalled_at_s")

    # -- life ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self.transport = transport  # type: ignore[assignment]
        self._held = False
        """Whether reading is paused."""
        self._stalled_at_s = math.inf
        """When a client is given up that does not read what it asked for."""
        if not self._plane.admit(self, self._listener):
            self._deaf = True
            self.transport.abort()
            return
        self._deadline_s = time.monotonic() + self._plane.policy.head_timeout_s

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See :class:`asyncio.Protocol`."""
        self._plane.forget(self)
        self._leave()

    def eof_received(self) -> bool | None:
        """The client left; what runs for it is cancelled. Half-closed connections are not supported."""
        if self._active is None and not self._queue:
            self.transport.close()
        else:
            self.transport.abort()
        self._leave()
        return None

    def _leave(self) -> None:
        self._deaf = True
        active, self._active = self._active, None
        if active is not None:
            active.cancel()
        for request in self._queue:
            self._plane.release_body(request)
        self._queue.clear()
        if self._request is not None:
            self._plane.release_body(self._request)
            self._request = None

    def pause_writing(self) -> None:
        """The client reads more slowly than the answer comes."""
        self.paused = True
        self._stalled_at_s = time.monotonic() + self._plane.policy.stall_timeout_s
        if self._active is not None:
            self._active.client_paused()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.paused = False
        self._stalled_at_s = math.inf
        if self._active is not None:
            self._active.client_resumed()
        else:
            self._pump()

    @property
    def idle(self) -> bool:
        """Whether nothing is read, queued or served."""
        return self._active is None and not self._queue and self._reading == IDLE

    @property
    def fresh(self) -> bool:
        """Whether a client connected and has sent nothing whole yet."""
        return not self.bytes_out and self._active is None and not self._queue and self.peer is None

    # -- answering ----------------------------------------------------------------------------------------

    def _pump(self) -> None:
        while self._queue and self._active is None and not self.paused:
            request = self._queue.popleft()
            if not self._queue:
                self._queued_bytes = 0
            self._begin(request)

    def _begin(self, request: Request) -> None:
        if self.paused:
            # Else whoever asks and never reads has its answers pile up here.
            self._queue.append(request)
            return
        exchange = self._plane.begin(self, request)
        if exchange is not None:
            # It may end before start returns, and the next begin within its end.
            self._active = exchange
            if takes_steps(request):
                self._plane.spawn(look(request, exchange))
            else:
                exchange.start()

    def _take_file(self, request: Request, framing: Framing) -> None:
        try:
            if self._active is not None or self._queue:
                raise InvalidRequestError("a file needs a connection without other requests before it")
            target = taker(self._plane, self, request)
        except SwarmError as error:
            request.fault = Fault(error.code, error.message)
            self._refuse(request)
            return
        self._active = self._upload = Upload(self._plane, self, request, framing, target)

    def serves(self, upload: Upload) -> bool:
        """Whether the client still waits for what became of ``upload``."""
        return self._active is upload

    def uploaded(self, *, close: bool) -> None:
        """The answer to an upload is written."""
        self._upload = None
        self.done(close=close)

    def hold(self) -> None:
        """Read nothing more of a file until :meth:`read_on`; whether the client left shows then."""
        self._held = True
        self._deadline_s = math.inf
        self.transport.pause_reading()

    def read_on(self) -> None:
        """Read again."""
        if self._held and not self.transport.is_closing():
            self._held = False
            self._deadline_s = time.monotonic() + self._plane.policy.body_timeout_s
            self.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send a piece of an answer."""
        self.bytes_out += len(data)
        self.transport.write(data)

    def done(self, *, close: bool) -> None:
        """The answer to the active request is written whole."""
        self._active = None
        if close:
            self._shut()
        elif self._queue:
            self._pump()
        elif self._reading == IDLE:
            self._deadline_s = time.monotonic() + self._plane.policy.idle_timeout_s

    def settle(self, *, close: bool) -> None:
        """As :meth:`done`, for a request that was answered before it became the active one."""
        if close:
            self._shut()
        elif not self._queue and self._reading == IDLE:
            self._deadline_s = time.monotonic() + self._plane.policy.idle_timeout_s

    def _shut(self) -> None:
        """Close once everything is flushed; linger, so that unread input does not destroy the answer."""
        self._deaf = True
        for request in self._queue:
            self._plane.release_body(request)
        self._queue.clear()
        transport = self.transport
        if transport.is_closing():
            return
        if transport.can_write_eof():
            self._deadline_s = time.monotonic() + self._plane.policy.linger_s
            transport.write_eof()
        else:
            transport.close()

    def abort(self) -> None:
        """Cut the connection: the only way to say that an answer without line ends is not whole."""
        self._active = None
        self._deaf = True
        self.transport.abort()

    def end(self) -> None:
        """Close, whatever runs; a request that is still being read is told why."""
        if self._reading != IDLE and not (self._deaf or self._active or self._queue):
            request = self._half_read()
            request.fault = Fault(Code.DRAINING, "this node stops; try again")
            self._refuse(request)
            self._pump()
        if self.idle:
            self.transport.close()
        else:
            self.transport.abort()

    def retire(self) -> None:
        """Take no further request, but for the first: the process drains."""
        if self.fresh:
            return
        if self.idle:
            self.transport.close()
            return
        self._deaf = self._reading == IDLE
        for request in self._queue:
            request.closes = True

    def check(self, now_s: float) -> None:
        """Housekeeping: act on what took too long."""
        if now_s >= self._stalled_at_s and self._active is None:
            self.transport.abort()
            return
        if now_s < self._deadline_s:
            return
        self._deadline_s = math.inf
        if self._deaf or (self._reading == IDLE and self.idle):
            # A close would wait for ever until the client reads what is left.
            unread = self._deaf or self.transport.get_write_buffer_size()
            self.transport.abort() if unread else self.transport.close()
            return
        if self._reading == IDLE:
            return
        if self._upload is not None:
            if not self._held:
                self.transport.abort()
            return
        request = self._half_read()
        what = "head" if self._reading == HEAD else "body"
        request.fault = Fault(Code.REQUEST_TIMEOUT, f"the request's {what} took too long to arrive")
        self._refuse(request)
        if self._active is None:
            self._pump()
