"""The bytes that go out: requests to backends and peers, and heads of answers to clients and peers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from sidecar.core.candidate import Candidate
from sidecar.dataplane.answers import CLOSE, status_line
from sidecar.dataplane.headers import ANSWER_DROPS, to_header
from sidecar.dataplane.hop import find, hop_lines
from sidecar.dataplane.peek import Body
from sidecar.dataplane.plan import Plan
from sidecar.dataplane.request import Request
from sidecar.dataplane.splice import Edit, encode, splice
from sidecar.routing.view import View

if TYPE_CHECKING:
    from sidecar.backends.target import Target
    from sidecar.dataplane.server import DataPlane
    from sidecar.dataplane.upstream import Upstream

_OK: Final = status_line(200)
_JSON: Final = b"content-type: application/json\r\n"
_FORM: Final = b"application/x-www-form-urlencoded"
_REMEMBERED: Final = 4096


class Writer:
    """Composes heads from parts that are made once: per backend, and per endpoint and view."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._targets: dict[str, tuple[Target, bytes, bytes]] = {}
        self._served: dict[str, bytes] = {}
        self._served_view: View | None = None

    # -- requests -----------------------------------------------------------------------------------------

    def body(self, request: Request, plan: Plan, candidate: Candidate) -> tuple[Body, bytes]:
        """The body for ``candidate``, and the name to put back into its answer (empty: none)."""
        content = plan.content
        edits: list[Edit] = [(start, end, b"") for start, end in content.removals]
        rename = b""
        if candidate.local and candidate.endpoint.model != plan.asked:
            spelled = candidate.endpoint.model
            as_json = content.members is not None
            edits.append((*content.model_span, encode(spelled) if as_json else spelled.encode()))
            rename = encode(plan.asked)
        return (splice(request.body, edits) if edits else request.body), rename

    def head(
        self, request: Request, plan: Plan, candidate: Candidate, length: int, *, attempt: int, now_s: float
    ) -> bytes:
        """The head of the request to ``candidate``."""
        lines = request.forward
        options = request.options or {}
        kind = options.get(b"content-type")
        if kind is None or kind.startswith(_FORM):
            lines = [line for line in lines if not line.startswith(b"content-type:")]
            lines.append(_JSON)
        if candidate.local:
            start, tail = self._target(candidate)
        else:
            start, tail = (
                request.method + b" ",
                self._hop(plan, candidate, options, attempt=attempt, now_s=now_s),
            )
        return b"%b%b HTTP/1.1\r\n%b%bx-request-id: %b\r\ncontent-length: %d\r\n%b\r\n" % (
            start,
            request.target,
            tail,
            b"".join(lines),
            request.request_id,
            length,
            b"expect: 100-continue\r\n"
            if not candidate.local and length > self._plane.policy.expect_bytes
            else b"",
        )

    def _target(self, candidate: Candidate) -> tuple[bytes, bytes]:
        name = candidate.endpoint.backend
        target = self._plane.backends.targets[name]
        known = self._targets.get(name)
        if known is not None and known[0] is target:
            return known[1], known[2]
        host = f"[{target.host}]" if ":" in target.host else target.host
        default = 443 if target.tls else 80
        authority = host if target.port == default else f"{host}:{target.port}"
        start = b"POST " + target.base_path.rstrip("/").encode()
        tail = b"host: %b\r\nvia: 1.1 %b\r\n" % (authority.encode(), self._plane.via)
        tail += b"".join(b"%b: %b\r\n" % (key.lower(), value) for key, value in target.headers)
        self._targets[name] = (target, start, tail)
        return start, tail

    def _hop(
        self, plan: Plan, candidate: Candidate, options: dict[bytes, bytes], *, attempt: int, now_s: float
    ) -> bytes:
        deadline_ms = None if plan.deadline_s == math.inf else int((plan.deadline_s - now_s) * 1000)
        return b"host: %b\r\n%b" % (
            to_header(candidate.endpoint.node),
            hop_lines(
                self._plane.routes.node_id,
                model=plan.model,
                endpoint=candidate.endpoint.id,
                attempt=attempt,
                version=str(plan.view.table.version),
                deadline_ms=deadline_ms,
                priority=options.get(b"x-swarm-priority", b"").decode("latin-1"),
            ),
        )

    # -- answers ------------------------------------------------------------------------------------------

    def answer_head(
        self,
        request: Request,
        plan: Plan,
        candidate: Candidate | None,
        upstream: Upstream,
        framing: bytes,
        *,
        attempts: int,
        route_s: float,
        queue_s: float,
        upstream_s: float,
    ) -> bytes:
        """Status line and headers of an answer that ``candidate`` gave."""
        status = upstream.status
        lines = [_OK if status == 200 else status_line(status)]  # noqa: PLR2004
        lines += [
            b"%b: %b\r\n" % header
            for header in upstream.headers
            if header[0] not in ANSWER_DROPS and not header[0].startswith(b"x-swarm-")
        ]
        lines.append(framing)
        if candidate is not None:
            lines.append(self._served_by(plan, candidate, upstream))
        lines.append(
            b"x-swarm-attempts: %d\r\nx-request-id: %b\r\n"
            b"server-timing: queue;dur=%.1f, route;dur=%.2f, upstream;dur=%.2f\r\n"
            % (attempts, request.request_id, queue_s * 1e3, route_s * 1e3, upstream_s * 1e3)
        )
        if plan.hop is not None:
            lines.append(self._plane.load_line(candidate))
        if request.closes or self._plane.draining:
            lines.append(CLOSE)
        lines.append(b"\r\n")
        return b"".join(lines)

    def _served_by(self, plan: Plan, candidate: Candidate, upstream: Upstream) -> bytes:
        if plan.view is not self._served_view or len(self._served) > _REMEMBERED:
            self._served.clear()
            self._served_view = plan.view
        key = candidate.endpoint.id
        lines = self._served.get(key)
        if lines is None:
            stale = b"x-swarm-stale: 1\r\n" if plan.view.stale else b""
            lines = b"x-swarm-node: %b\r\nx-swarm-model: %b\r\nx-swarm-route-version: %b\r\n%b" % (
                to_header(candidate.node_name or self._plane.node_name),
                to_header(plan.model),
                str(plan.view.table.version).encode(),
                stale,
            )
            if candidate.local:
                lines += b"x-swarm-backend: %b\r\n" % to_header(candidate.endpoint.backend)
            self._served[key] = lines
        if candidate.local:
            return lines
        # The owner may have chosen another replica of its own than the one it was asked for.
        backend = find(upstream.headers, b"x-swarm-backend")
        return lines + b"x-swarm-backend: %b\r\n" % (
            backend.encode("latin-1") if backend else to_header(candidate.endpoint.backend)
        )
