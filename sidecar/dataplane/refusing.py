"""The bytes of an answer that says no: status, header lines, and the error in the dialect asked in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.dataplane.answers import CLOSE, encode, error_document, response
from sidecar.dataplane.hop import refusal_of
from sidecar.dataplane.reading import method_of
from sidecar.dataplane.refusals import RefusedError
from sidecar.dataplane.writer import cors_lines
from swarmplane.errors import Code, SwarmError

if TYPE_CHECKING:
    from sidecar.dataplane.connection import ClientConnection
    from sidecar.dataplane.request import Request
    from sidecar.dataplane.server import DataPlane


def refusal(
    plane: DataPlane, connection: ClientConnection, request: Request, error: SwarmError, *, attempts: int
) -> bytes:
    """The whole answer to ``request``; to a peer as a typed refusal where ``error`` is one."""
    code = error.code
    status = code.http_status
    extra = [b"x-request-id: %b\r\n" % request.request_id]
    if attempts:
        extra.append(b"x-swarm-attempts: %d\r\n" % attempts)
    swarm, expired = None, False
    if isinstance(error, RefusedError):
        swarm, expired = error.swarm, error.expired
        if error.retry_after:
            extra.append(b"retry-after: %d\r\n" % error.retry_after)
    if connection.peer is not None and (typed := refusal_of(code, expired=expired)) is not None:
        status = typed.http_status
        extra.append(b"x-swarm-refusal: %b\r\n" % typed.value.encode())
    if code is Code.INVALID_API_KEY:
        extra.append(b"www-authenticate: Bearer\r\n")
    if code is Code.METHOD_NOT_ALLOWED:
        extra.append(b"allow: %b\r\n" % (method_of(request.head.path) or b"GET, HEAD"))
    if plane.routes.view.stale:
        extra.append(b"x-swarm-stale: 1\r\n")
    if request.closes or plane.draining:
        extra.append(CLOSE)
    if code is not Code.FORBIDDEN:
        extra.append(cors_lines(request.head))
    document = error_document(
        request.head.path, code, error.message, param=error.details.get("param"), swarm=swarm
    )
    head_only = request.head.method == b"HEAD"
    return response(status, encode(document), extra=b"".join(extra), head_only=head_only)
