"""Which headers stop here, which mean something to us, and which go on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, unquote

Header = tuple[bytes, bytes]

DROP: Final = 1
OPTION: Final = 2
HOST: Final = 3
LENGTH: Final = 4
ENCODING: Final = 5
EXPECT: Final = 6
CONNECTION: Final = 7
REQUEST_ID: Final = 8
BOTH: Final = 9
"""It means something to us and goes on too."""
TRACE: Final = 10
"""Trace context: read, and written anew for whoever comes next."""
CREDENTIAL: Final = 11
"""A client's key: looked at here, and never passed on."""

_KEYS: Final = (b"authorization", b"x-api-key")
_CREDENTIALS: Final = (
    b"proxy-authorization",
    b"api-key",
    b"x-goog-api-key",
    b"cookie",
)
_HOP_BY_HOP: Final = (
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authenticate",
    b"te",
    b"trailer",
    b"upgrade",
    b"http2-settings",
)
FORWARDED: Final = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
)
"""Who set them passed the request on for another one: its sender is not who asks."""
_OPTIONS: Final = (
    b"origin",
    b"x-swarm-strategy",
    b"x-swarm-node",
    b"x-swarm-local-only",
    b"x-netllm-local-only",
    b"x-swarm-no-fallback",
    b"x-swarm-session",
    b"x-swarm-batch",
    b"x-swarm-shard",
    b"x-swarm-prefer",
    b"x-swarm-priority",
    b"x-swarm-tags",
    b"x-swarm-timeout-s",
)
HOP: Final = (
    b"x-swarm-hop",
    b"x-swarm-origin",
    b"x-swarm-model",
    b"x-swarm-endpoint",
    b"x-swarm-deadline-ms",
    b"x-swarm-priority",
    b"x-swarm-key",
    b"x-swarm-attempt",
    b"x-swarm-queued-ms",
    b"x-swarm-route-version",
)

CLIENT_ACTIONS: Final[Mapping[bytes, int]] = MappingProxyType(
    {
        **dict.fromkeys((*_CREDENTIALS, *_HOP_BY_HOP, b"accept-encoding", b"referer"), DROP),
        **dict.fromkeys((*_OPTIONS, *FORWARDED), OPTION),
        **dict.fromkeys((b"via", b"content-type"), BOTH),
        **dict.fromkeys(_KEYS, CREDENTIAL),
        b"host": HOST,
        b"content-length": LENGTH,
        b"transfer-encoding": ENCODING,
        b"expect": EXPECT,
        b"connection": CONNECTION,
        b"x-request-id": REQUEST_ID,
        b"traceparent": TRACE,
        b"tracestate": TRACE,
    }
)
"""What a client's header means; any other goes on, but for ``x-swarm-*`` and ``x-netllm-*``, which stop here.

``accept-encoding`` stops here because names are put back into answers, and nothing here decompresses.
"""
PEER_ACTIONS: Final[Mapping[bytes, int]] = MappingProxyType(
    {**CLIENT_ACTIONS, **dict.fromkeys(_KEYS, DROP), **dict.fromkeys(HOP, OPTION)}
)
"""The same on the peer listener, where hop headers are believed."""
OURS: Final = (b"x-swarm-", b"x-netllm-")

ANSWER_DROPS: Final = frozenset(
    {
        *_HOP_BY_HOP,
        b"connection",
        b"transfer-encoding",
        b"content-length",
        b"set-cookie",
        b"x-request-id",
        b"server-timing",
        b"alt-svc",
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-expose-headers",
        b"access-control-max-age",
    }
)
"""Headers of a backend's answer that are not relayed; ``x-swarm-*`` neither."""

_VISIBLE: Final = "".join(chr(n) for n in range(0x21, 0x7F) if chr(n) not in '%"\\')


def to_header(text: str) -> bytes:
    """``text`` as a header value: visible ASCII as it is, all else percent-encoded UTF-8."""
    return quote(text, safe=_VISIBLE).encode()


def from_header(value: str) -> str:
    """The text that :func:`to_header` wrote."""
    return unquote(value)


def relayed_lines(headers: list[Header]) -> bytes:
    """The header lines of a backend's or a peer's answer that go on to the client."""
    return b"".join(
        [
            b"%b: %b\r\n" % header
            for header in headers
            if header[0] not in ANSWER_DROPS and not header[0].startswith(b"x-swarm-")
        ]
    )


def passed_through(via: bytes, names: Collection[bytes]) -> bool:
    """Whether a ``Via`` header says that a request went through one called by one of ``names``."""
    for passed in via.lower().split(b","):
        received = passed.split(None, 2)[1:2]
        if received and received[0].partition(b":")[0] in names:
            return True
    return False
