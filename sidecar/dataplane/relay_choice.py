"""Which relay suits an answer: its head tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.dataplane.event_relay import EventRelay, LineRelay
from sidecar.dataplane.headers import Header
from sidecar.dataplane.relay import CollectingRelay, PassingRelay, Relay

if TYPE_CHECKING:
    from sidecar.dataplane.exchange import Exchange
    from sidecar.dataplane.upstream import Upstream

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
