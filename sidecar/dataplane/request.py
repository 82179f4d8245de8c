"""One parsed request, as the connection hands it on."""

from __future__ import annotations

from typing import Final

from swarmplane.errors import Code

EMPTY: Final = b""


class Fault:
    """Why a request is refused by the connection itself, before anything else looks at it."""

    __slots__ = ("close", "code", "message", "param")

    def __init__(self, code: Code, message: str, *, close: bool = True, param: str | None = None) -> None:
        self.code = code
        self.message = message
        self.close = close
        self.param = param


class Request:
    """A whole request. Mutable only while its connection reads it; ``body`` is dropped once it is not needed."""

    __slots__ = (
        "body",
        "closes",
        "fault",
        "forward",
        "http10",
        "method",
        "options",
        "path",
        "received_s",
        "request_id",
        "size",
        "target",
    )

    def __init__(self) -> None:
        self.method: bytes = b"GET"
        self.target: bytes = b"/"
        self.path: bytes = b"/"
        """Target without its query."""
        self.http10 = False
        self.closes = False
        """Whether the connection ends after the answer."""
        self.forward: list[bytes] = []
        """Header lines that go on to backends and peers."""
        self.options: dict[bytes, bytes] | None = None
        """Headers that mean something to us, by lower-case name; None: none came."""
        self.request_id: bytes = EMPTY
        """As the client gave it; empty: none."""
        self.body: bytes | bytearray = EMPTY
        self.size = 0
        """Bytes of body that count against the process's budget."""
        self.received_s = 0.0
        self.fault: Fault | None = None

    def option(self, name: bytes) -> str:
        """A header of ours as text; empty where it is absent."""
        return self.options.get(name, EMPTY).decode("latin-1").strip() if self.options else ""
