"""What a request's head means, and the checks on it that decide whether its body is read at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sidecar.dataplane.access import Access
from sidecar.dataplane.headers import (
    BOTH,
    CONNECTION,
    CREDENTIAL,
    ENCODING,
    EXPECT,
    FORWARDED,
    HOST,
    LENGTH,
    OPTION,
    OURS,
    REQUEST_ID,
    TRACE,
    Header,
)
from sidecar.dataplane.policy import DataPlanePolicy
from sidecar.dataplane.request import Fault, Head, Request
from swarmplane.errors import Code

_REQUEST_ID: Final = re.compile(rb"[!-~]{1,128}\Z")
_PLAIN_CONNECTION: Final = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close"})
_TARGET: Final = re.compile(rb"/[!\"$-;=?-~]*\Z")
"""Origin form: visible ASCII from a slash on, without ``#``, ``<`` and ``>``."""
_RELAYED: Final = b"/v1/"
MUTATIONS: Final[Mapping[bytes, bytes]] = {
    b"/api/pull": b"POST",
    b"/api/push": b"POST",
    b"/api/create": b"POST",
    b"/api/copy": b"POST",
    b"/api/delete": b"DELETE",
}
"""What changes a backend, by path; and the method."""
_ASKING: Final = (b"/api/chat", b"/api/generate", b"/api/embed", b"/api/embeddings")
_OLLAMA: Final = {**dict.fromkeys(_ASKING, b"POST"), **MUTATIONS}
_MODELS: Final = b"/v1/models"
BLOBS: Final = b"/api/blobs/"
"""Files for models that are to be created."""
_DIGEST: Final = re.compile(rb"sha256[:-][0-9a-fA-F]{64}\Z")
MOST_CREDENTIALS: Final = 4
"""API keys that a request may show: programs send one, in one header or in both."""
_UPLOADING: Final = frozenset({b"POST", b"HEAD"})
_UNBOUNDED: Final = 1 << 62
_ODD_PATH: Final = re.compile(rb"//|\.\.|[%\\]|/\./")
_PLAIN_OPTIONS: Final = frozenset({b"host", b"content-type", b"origin", *FORWARDED})


class Framing:
    """What a head says about its body."""

    __slots__ = ("chunked", "expects", "length", "sized")

    def __init__(self) -> None:
        self.length = 0
        self.sized = False
        self.chunked = False
        self.expects = False

    def as_head(self) -> bytes:
        """A head that says the same."""
        how = b"transfer-encoding: chunked" if self.chunked else b"content-length: %d" % self.length
        return b"POST / HTTP/1.1\r\n%b\r\n\r\n" % how


def sort_headers(request: Request, headers: list[Header], actions: Mapping[bytes, int]) -> Framing:
    """Put ``headers`` where they belong in the request's head; a fault is set where they contradict."""
    framing = Framing()
    forward = request.head.forward
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
            framing.length, framing.sized = int(value), True
        elif action == CREDENTIAL:
            _credential(request, name, value)
        elif action >= OPTION:
            _special(request, framing, action, name, value)
    if hosts != 1:
        request.fault = Fault(Code.INVALID_REQUEST, "a request needs exactly one Host header")
    return framing


def _special(request: Request, framing: Framing, action: int, name: bytes, value: bytes) -> None:
    head = request.head
    if action in {OPTION, BOTH}:
        _option(request, name, value)
        if action == BOTH:
            head.forward.append(b"%b: %b\r\n" % (name, value))
    elif action == ENCODING:
        framing.chunked = True
        if value.lower() != b"chunked" or head.http10:
            request.fault = Fault(Code.INVALID_REQUEST, "the only transfer-encoding understood is chunked")
    elif action == EXPECT:
        framing.expects = value.lower() == b"100-continue"
    elif action == REQUEST_ID:
        if _REQUEST_ID.match(value):
            head.request_id = request.request_id = value
    elif action == TRACE:
        _trace(request, name, value)
    elif action == CONNECTION and value not in _PLAIN_CONNECTION:
        _option(request, name, value)


def _credential(request: Request, name: bytes, value: bytes) -> None:
    """Each is digested and looked up later, so that there must not be many."""
    head = request.head
    if len(head.credentials) == MOST_CREDENTIALS:
        sentence = f"a request shows at most {MOST_CREDENTIALS} API keys"
        request.fault = Fault(Code.INVALID_REQUEST, sentence, close=True)
        return
    scheme, _, rest = value.partition(b" ")
    if name != b"authorization":
        head.credentials = (*head.credentials, value)
    elif scheme.lower() == b"bearer":
        head.credentials = (*head.credentials, rest.strip())


def _trace(request: Request, name: bytes, value: bytes) -> None:
    head = request.head
    if name == b"tracestate":
        head.tracestate = head.tracestate + b"," + value if head.tracestate else value
    else:
        # Two of them say nothing: the standard wants such a context dropped.
        head.traceparent = request.traceparent = (
            head.traceparent + b"," + value if head.traceparent else value
        )


def _option(request: Request, name: bytes, value: bytes) -> None:
    options = request.head.options
    before = options.get(name)
    options[name] = value if before is None else before + b", " + value
    if before is not None and name == b"content-type":
        request.fault = Fault(Code.INVALID_REQUEST, "a request has one Content-Type")


def _drop_nominated(head: Head) -> None:
    """Forget headers that ``Connection`` says are for this connection only."""
    nominated = head.options[b"connection"].lower()
    names = tuple(name.strip() + b": " for name in nominated.split(b",") if name.strip())
    head.forward = [line for line in head.forward if not line.startswith(names)]


def examine(request: Request, framing: Framing, access: Access, policy: DataPlanePolicy) -> None:
    """Finish the request's head; set a fault if it alone says that the request will not be served."""
    head = request.head
    options = head.options
    if b"connection" in options:
        _drop_nominated(head)
    if not _TARGET.match(head.target):
        request.fault = Fault(Code.INVALID_REQUEST, "the request target must be a path")
        return
    head.path = head.target.partition(b"?")[0]
    head.relayed = head.method == method_of(head.path) and not _ODD_PATH.search(head.path)
    head.uploads = head.method in _UPLOADING and _is_blob(head.target)
    head.multipart = options.get(b"content-type", b"")[:10].lower() == b"multipart/"
    head.plain = not head.multipart and options.keys() <= _PLAIN_OPTIONS
    limit = body_limit(head, policy)
    if framing.length > limit:
        request.fault = too_large(limit)
    elif not access.admits_host(options[b"host"]):
        message = "this Host is not ours; add it to client.hosts if it is"
        request.fault = Fault(Code.FORBIDDEN, message, close=head.uploads)
    elif b"origin" in options and not access.admits_origin(options[b"origin"]):
        message = "this Origin may not act here; add it to client.origins if it may"
        request.fault = Fault(Code.FORBIDDEN, message, close=head.uploads)


def _is_blob(target: bytes) -> bool:
    """Whether a file is meant, by its digest: with anything else another path could be meant there."""
    return target.startswith(BLOBS) and _DIGEST.match(target, len(BLOBS)) is not None


def method_of(path: bytes) -> bytes | None:
    """The method with which requests to ``path`` go to a backend; None: none do."""
    if not path.startswith(_RELAYED):
        return _OLLAMA.get(path)
    return b"POST" if path != _MODELS and not path.startswith(b"/v1/models/") else None


def body_limit(head: Head, policy: DataPlanePolicy) -> int:
    """Bytes that the body of a request with this head may have."""
    if head.uploads:
        return _UNBOUNDED
    return policy.max_multipart_bytes if head.multipart else policy.max_json_bytes


def head_size(url: bytes, headers: list[Header]) -> int:
    """Bytes of a request line and headers."""
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)


def too_large(limit: int) -> Fault:
    """The refusal of a body over ``limit`` bytes."""
    return Fault(Code.REQUEST_TOO_LARGE, f"the body is larger than {limit} bytes")
