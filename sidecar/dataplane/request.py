"""One parsed request, as the connection hands it on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarmplane.errors import Code, SwarmError

if TYPE_CHECKING:
    from sidecar.backends.target import Target
    from sidecar.dataplane.hop import Hop
    from sidecar.dataplane.peek import Peek
    from swarmplane.client_keys import ClientKey

EMPTY: Final = b""


class Fault:
    """Why a request is refused by the connection itself, before anything else looks at it."""

    __slots__ = ("close", "code", "message")

    def __init__(self, code: Code, message: str, *, close: bool = True) -> None:
        self.code = code
        self.message = message
        self.close = close


class Head:
    """What a request's head says. Never changed once it was read: requests with equal heads share one."""

    __slots__ = (
        "closes",
        "credentials",
        "digests",
        "forward",
        "hop",
        "http10",
        "method",
        "multipart",
        "options",
        "path",
        "plain",
        "relayed",
        "request_id",
        "sent",
        "target",
        "traceparent",
        "tracestate",
        "understood",
        "uploads",
    )

    def __init__(self) -> None:
        self.method: bytes = b"GET"
        self.target: bytes = b"/"
        self.path: bytes = b"/"
        """Target without its query."""
        self.http10 = False
        self.closes = False
        """Whether the client wants the connection to end after the answer."""
        self.forward: list[bytes] = []
        """Header lines that go on to backends and peers."""
        self.options: dict[bytes, bytes] = {}
        """Headers that mean something to us, by lower-case name."""
        self.credentials: tuple[bytes, ...] = ()
        """Keys that the client shows; never logged, never passed on."""
        self.digests: tuple[bytes, ...] = ()
        """Of ``credentials``, once somebody asked for them."""
        self.request_id: bytes = EMPTY
        """As the client gave it; empty: none."""
        self.traceparent: bytes = EMPTY
        self.tracestate: bytes = EMPTY
        """Several headers joined by commas."""
        self.multipart = False
        self.plain = False
        """Whether no header changes where the request goes."""
        self.uploads = False
        """Whether its body is a file, which passes as it comes and is not held."""
        self.relayed = False
        """Whether it goes to a backend or a peer."""
        self.sent: dict[str, tuple[object, bytes]] = {}
        """Starts of heads that went out for it, by backend or endpoint, and what they were made from."""
        self.understood: Target | None = None
        """The backend that was seen to speak the dialect of its path."""
        self.hop: Hop | None = None
        """What a peer says with it; read once."""

    def option(self, name: bytes) -> str:
        """A header of ours as text; empty where it is absent."""
        return self.options.get(name, EMPTY).decode("latin-1").strip()


class Request:
    """A whole request. ``body`` is dropped once it is not needed."""

    __slots__ = ("body", "closes", "content", "fault", "head", "key", "request_id", "size", "traceparent")

    def __init__(self, head: Head) -> None:
        self.head = head
        self.closes = head.closes
        """Whether the connection ends after the answer."""
        self.request_id = head.request_id
        self.traceparent = head.traceparent
        self.body: bytes | bytearray = EMPTY
        self.size = 0
        """Bytes of body that count against the process's budget."""
        self.fault: Fault | None = None
        self.key: ClientKey | None = None
        """Under which it is served, where one is required."""
        self.content: Peek | SwarmError | None = None
        """What was found in the body, or why it will not do; None: nobody has looked."""
