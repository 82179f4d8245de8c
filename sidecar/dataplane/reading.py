"""The checks on a request's head that decide whether its body is read at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sidecar.dataplane.access import Access
from sidecar.dataplane.headers import (
    BOTH,
    CONNECTION,
    ENCODING,
    EXPECT,
    HOST,
    LENGTH,
    OPTION,
    OURS,
    REQUEST_ID,
    Header,
)
from sidecar.dataplane.policy import DataPlanePolicy
from sidecar.dataplane.request import Fault, Request
from swarmplane.errors import Code

_REQUEST_ID: Final = re.compile(rb"[!-~]{1,128}\Z")
_PLAIN_CONNECTION: Final = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close"})
_TARGET: Final = re.compile(rb"/[!\"$-;=?-~]*\Z")
"""Origin form: visible ASCII from a slash on, without ``#``, ``<`` and ``>``."""


class Framing:
    """What a head says about its body."""

    __slots__ = ("chunked", "expects", "length")

    def __init__(self) -> None:
        self.length = 0
        self.chunked = False
        self.expects = False

    def as_head(self) -> bytes:
        """A head that says the same."""
        how = b"transfer-encoding: chunked" if self.chunked else b"content-length: %d" % self.length
        return b"POST / HTTP/1.1\r\n%b\r\n\r\n" % how


def sort_headers(request: Request, headers: list[Header], actions: Mapping[bytes, int]) -> Framing:
    """Put ``headers`` where they belong in ``request``; sets its fault where they contradict each other."""
    framing = Framing()
    forward = request.forward
    hosts = 0
    for name, value in headers:
        action = actions.get(name)
        if action is None:
            if not name.startswith(OURS):
                forward.append(b"%b: %b\r\n" % (name, value))
        elif action == HOST:
            hosts += 1
            _option(request, name, value)
        elif action == LENGTH:
            framing.length = int(value)
        elif action >= OPTION:
            _special(request, framing, action, name, value)
    if hosts != 1:
        request.fault = Fault(Code.INVALID_REQUEST, "a request needs exactly one Host header")
    return framing


def _special(request: Request, framing: Framing, action: int, name: bytes, value: bytes) -> None:
    if action in {OPTION, BOTH}:
        _option(request, name, value)
        if action == BOTH:
            request.forward.append(b"%b: %b\r\n" % (name, value))
    elif action == ENCODING:
        framing.chunked = True
        if value.lower() != b"chunked" or request.http10:
            request.fault = Fault(Code.INVALID_REQUEST, "the only transfer-encoding understood is chunked")
    elif action == EXPECT:
        framing.expects = value.lower() == b"100-continue"
    elif action == REQUEST_ID:
        if _REQUEST_ID.match(value):
            request.request_id = value
    elif action == CONNECTION and value not in _PLAIN_CONNECTION:
        _option(request, name, value)


def _option(request: Request, name: bytes, value: bytes) -> None:
    if request.options is None:
        request.options = {name: value}
    else:
        before = request.options.get(name)
        request.options[name] = value if before is None else before + b", " + value
        if before is not None and name == b"content-type":
            request.fault = Fault(Code.INVALID_REQUEST, "a request has one Content-Type")


def drop_nominated(request: Request) -> None:
    """Forget headers that ``Connection`` says are for this connection only."""
    nominated = (request.options or {}).get(b"connection", b"").lower()
    names = tuple(name.strip() + b": " for name in nominated.split(b",") if name.strip())
    request.forward = [line for line in request.forward if not line.startswith(names)]


def examine(request: Request, framing: Framing, access: Access, policy: DataPlanePolicy) -> None:
    """Set the request's fault if its head alone says that it will not be served."""
    options = request.options or {}
    if b"connection" in options:
        drop_nominated(request)
    target = request.target
    if not _TARGET.match(target):
        request.fault = Fault(Code.INVALID_REQUEST, "the request target must be a path")
        return
    request.path = target.partition(b"?")[0]
    multipart = options.get(b"content-type", b"").lower().startswith(b"multipart/")
    limit = policy.max_multipart_bytes if multipart else policy.max_json_bytes
    if framing.length > limit:
        request.fault = too_large(limit)
    elif not access.admits_host(options[b"host"]):
        message = "this Host is not ours; add it to client.hosts if it is"
        request.fault = Fault(Code.FORBIDDEN, message, close=False)
    elif b"origin" in options and not access.admits_origin(options[b"origin"]):
        message = "this Origin may not act here; add it to client.origins if it may"
        request.fault = Fault(Code.FORBIDDEN, message, close=False)


def too_large(limit: int) -> Fault:
    """The refusal of a body over ``limit`` bytes."""
    return Fault(Code.REQUEST_TOO_LARGE, f"the body is larger than {limit} bytes")
