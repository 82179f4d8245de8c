"""What this host answers itself: models, health, and the pointer to the control plane."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from sidecar.dataplane.answers import CLOSE, encode, response
from sidecar.dataplane.catalogue import MODELS, PS, TAGS
from sidecar.dataplane.request import Request
from sidecar.dataplane.showing import SHOW
from sidecar.dataplane.writer import cors_lines
from swarmplane.errors import Code, SwarmError

if TYPE_CHECKING:
    from sidecar.dataplane.server import DataPlane

_TEXT = b"text/plain; charset=utf-8"
_GREETING = b"Ollama is running"
"""What Ollama says at ``/``: clients look for it before they ask for anything."""
OLLAMA_VERSION: Final = "0.13.0"
"""The version of Ollama whose API is spoken here: clients compare it with the one that they need."""
_SOFTWARE: Final = version("swarmplane")
_MAY = (
    b"access-control-allow-methods: GET, HEAD, POST, DELETE, OPTIONS\r\n"
    b"access-control-allow-headers: *, authorization\r\naccess-control-max-age: 600\r\n"
)


def answer(plane: DataPlane, request: Request) -> bytes | None:
    """The answer to a request that needs no backend; None where it is none of ours.

    Raises:
        SwarmError: The path is ours, but the method or the name in it is not.
    """
    head = request.head
    if head.method == b"OPTIONS" and b"origin" in head.options:
        return _preflight(plane, request)
    path = head.path
    make = _MAKERS.get(path)
    if make is None and path.startswith(MODELS) and path[len(MODELS) :].startswith(b"/"):
        make = _listed
    if make is None:
        return None
    if path == SHOW:
        if head.method != b"POST":
            raise SwarmError("/api/show takes POST only", code=Code.METHOD_NOT_ALLOWED)
    elif head.method not in {b"GET", b"HEAD"}:
        name = request.head.path.decode("latin-1")
        raise SwarmError(f"{name} takes GET and HEAD only", code=Code.METHOD_NOT_ALLOWED)
    status, document = make(plane, request)
    extra = b"x-request-id: %b\r\n%b%b" % (
        request.request_id,
        CLOSE if request.closes or plane.draining else b"",
        cors_lines(head),
    )
    head_only = head.method == b"HEAD"
    if make is _greeting:
        return response(status, _GREETING, content_type=_TEXT, extra=extra, head_only=head_only)
    body = document if isinstance(document, bytes) else encode(document)
    return response(status, body, extra=extra, head_only=head_only)


def _preflight(plane: DataPlane, request: Request) -> bytes:
    """What a browser asks before a page of an admitted Origin may call us."""
    return b"HTTP/1.1 204 No Content\r\n%b%b%b\r\n" % (
        cors_lines(request.head),
        _MAY,
        CLOSE if request.closes or plane.draining else b"",
    )


def _listed(plane: DataPlane, request: Request) -> tuple[int, bytes]:
    return 200, plane.catalogue.answer(request)


def _shown(plane: DataPlane, request: Request) -> tuple[int, bytes]:
    return 200, plane.catalogue.show(request)


def _health(plane: DataPlane, request: Request) -> tuple[int, dict[str, Any]]:  # noqa: ARG001
    return 200, {"status": "ok", "uptime_s": round(time.time() - plane.born_s, 1)}


def _ready(plane: DataPlane, request: Request) -> tuple[int, dict[str, Any]]:  # noqa: ARG001
    if plane.draining:
        return 503, {"status": "draining"}
    view = plane.routes.view
    ready = plane.identity is None or view.table.version.revision > 0 or bool(view.own)
    status = "ok" if ready else "no route table yet"
    return (200 if ready else 503), {
        "status": status,
        "route_version": str(view.table.version),
        "stale": view.stale,
    }


def _version(plane: DataPlane, request: Request) -> tuple[int, dict[str, Any]]:  # noqa: ARG001
    return 200, {"version": OLLAMA_VERSION}


def _greeting(plane: DataPlane, request: Request) -> tuple[int, bytes]:  # noqa: ARG001
    return 200, _GREETING


def _well_known(plane: DataPlane, request: Request) -> tuple[int, dict[str, Any]]:  # noqa: ARG001
    identity = plane.identity
    told = {"node": plane.node_name, "gateway": plane.policy.gateway, "version": _SOFTWARE}
    if identity is None:
        return 200, {"swarm": None, **told}
    return 200, {
        "swarm": identity.swarm_id,
        "swarm_name": identity.swarm_name,
        "node_id": identity.node_id,
        **told,
        "fingerprint": identity.fingerprint,
        "open": plane.routes.view.table.open,
        "join": list(identity.join_addresses()),
    }


_MAKERS: Final[Mapping[bytes, Callable[[DataPlane, Request], tuple[int, dict[str, Any] | bytes]]]] = {
    b"/": _greeting,
    MODELS: _listed,
    TAGS: _listed,
    PS: _listed,
    SHOW: _shown,
    b"/api/version": _version,
    b"/healthz": _health,
    b"/readyz": _ready,
    b"/.well-known/swarmplane": _well_known,
}
"""By path."""
