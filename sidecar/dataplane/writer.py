"""The bytes that go out: requests to backends and peers, and heads of answers to clients and peers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from sidecar.core.candidate import Candidate
from sidecar.dataplane.answers import CLOSE, status_line
from sidecar.dataplane.headers import Header, to_header
from sidecar.dataplane.hop import deadline_line, find, hop_lines
from sidecar.dataplane.peek import Body
from sidecar.dataplane.plan import Plan
from sidecar.dataplane.request import Head, Request
from sidecar.dataplane.splice import Edit, encode, splice
from sidecar.routing.view import View

if TYPE_CHECKING:
    from sidecar.backends.target import Target
    from sidecar.dataplane.contexts import Suit
    from sidecar.dataplane.server import DataPlane
    from sidecar.dialects.translate import Outgoing

_OK: Final = status_line(200)
_JSON: Final = b"content-type: application/json\r\n"
_FORM: Final = b"application/x-www-form-urlencoded"
_EXPECT: Final = b"expect: 100-continue\r\n"
_OF_A_DIALECT: Final = (b"content-type:", b"accept:", b"anthropic-", b"openai-", b"x-stainless-")
_REMEMBERED: Final = 4096
_NEVER: Final = math.inf


class Writer:
    """Composes heads from parts that are made once: per backend, and per endpoint and view."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._served: dict[str, bytes] = {}
        self._served_view: View | None = None

    # -- requests -----------------------------------------------------------------------------------------

    def body(
        self, request: Request, plan: Plan, candidate: Candidate, outgoing: Outgoing | None = None
    ) -> tuple[Body, bytes]:
        """The body for ``candidate``, and the name to put back into its answer (empty: none).

        ``outgoing``: what is sent instead, to a backend of another dialect.
        """
        if outgoing is None and plan.suit is None:
            # As most are.
            spelled = candidate.endpoint.model if candidate.local else plan.asked
            if spelled == plan.asked and not plan.content.removals:
                return request.body, b""
        body, rename = self._spelled(request, plan, candidate, outgoing)
        if plan.suit is not None and candidate.local:
            path = request.head.path if outgoing is None else outgoing.path
            body = self._plane.contexts.adapt(plan.suit, candidate, path, body)
        return body, rename

    def _spelled(
        self, request: Request, plan: Plan, candidate: Candidate, outgoing: Outgoing | None
    ) -> tuple[Body, bytes]:
        if outgoing is not None:
            return outgoing.body, b""
        content = plan.content
        spelled = candidate.endpoint.model if candidate.local else plan.asked
        if spelled == plan.asked and not content.removals:
            return request.body, b""
        edits: list[Edit] = [(start, end, b"") for start, end in content.removals]
        rename = b""
        if spelled != plan.asked:
            as_json = content.members is not None
            edits.append((*content.model_span, encode(spelled) if as_json else spelled.encode()))
            rename = encode(plan.asked)
        return splice(request.body, edits), rename

    def head(
        self,
        request: Request,
        plan: Plan,
        candidate: Candidate,
        length: int,
        attempt: int,
        now_s: float,
        context: bytes = b"",
        queued: bytes = b"",
        outgoing: Outgoing | None = None,
    ) -> bytes:
        """The head of the request to ``candidate``, with lines of trace ``context``.

        What varies stands last, see :mod:`.repeat`.
        """
        head = request.head
        if candidate.local:
            name = candidate.endpoint.backend
            target = self._plane.backends.targets[name]
            key = name if outgoing is None else f"{name} {outgoing.path!r}"
            known = head.sent.get(key)
            if known is None or known[0] is not target:
                known = head.sent[key] = (target, self._for_backend(head, target, outgoing))
            return b"%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (
                known[1],
                context,
                request.request_id,
                length,
            )
        known = head.sent.get(candidate.endpoint.id)
        if known is None or known[0] is not plan.view:
            known = head.sent[candidate.endpoint.id] = (plan.view, self._for_peer(plan, candidate, request))
        return b"%bx-swarm-attempt: %d\r\n%b%b%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (
            known[1],
            attempt,
            queued,
            b"" if plan.deadline_s == _NEVER else deadline_line(plan.deadline_s - now_s),
            _EXPECT if length > self._plane.policy.expect_bytes else b"",
            context,
            request.request_id,
            length,
        )

    def _for_backend(self, head: Head, target: Target, outgoing: Outgoing | None) -> bytes:
        host = f"[{target.host}]" if ":" in target.host else target.host
        authority = host if target.port == (443 if target.tls else 80) else f"{host}:{target.port}"
        forwarded = _forwarded(head) if outgoing is None else _forwarded_anew(head)
        own = [*target.headers, *_unsaid(target.defaults, head, outgoing)]
        return b"%b %b%b HTTP/1.1\r\nhost: %b\r\nvia: 1.1 %b\r\n%b%b" % (
            head.method,
            target.base_path.encode(),
            head.target if outgoing is None else outgoing.path,
            authority.encode(),
            self._plane.via,
            b"".join([b"%b: %b\r\n" % (name.lower(), value) for name, value in own]),
            forwarded,
        )

    def _for_peer(self, plan: Plan, candidate: Candidate, request: Request) -> bytes:
        endpoint, head, key = candidate.endpoint, request.head, request.key
        hop = hop_lines(
            self._plane.routes.node_id,
            model=plan.model,
            endpoint=endpoint.id,
            version=str(plan.view.table.version),
            priority=head.option(b"x-swarm-priority"),
            key=key.id if key is not None else "",
        )
        return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b" % (
            head.method,
            head.target,
            to_header(endpoint.node),
            hop,
            _forwarded(head),
        )

    # -- answers ------------------------------------------------------------------------------------------

    def answer_head(
        self,
        request: Request,
        plan: Plan,
        candidate: Candidate,
        status: int,
        lines: bytes,
        framing: bytes,
        headers: list[Header],
        attempts: int,
        queue_s: float,
        route_s: float,
        upstream_s: float,
    ) -> bytes:
        """Status line and headers of an answer that ``candidate`` gave.

        Args:
            request: What it answers.
            plan: How it got there.
            candidate: Who answered.
            status: Its status.
            lines: Its header lines that go on.
            framing: The line that says how long the body is.
            headers: Its headers as they came, for what a peer says in them.
            attempts: Endpoints asked.
            queue_s: Seconds until a connection was there.
            route_s: Seconds that routing took.
            upstream_s: Seconds that the upstream took.
        """
        start = _OK if status == 200 else status_line(status)  # noqa: PLR2004
        served = None
        if candidate.local and plan.view is self._served_view:
            served = self._served.get(candidate.endpoint.id)
        if served is None:
            served = self._served_by(plan, candidate, headers)
        if plan.suit is not None or plan.instead:
            served += _told(plan, candidate, headers)
        if plan.hop is not None:
            # The sender tells its client the rest; what varies stands last, see :mod:`.repeat`.
            load = self._plane.upstreams.load_line(candidate)
            return b"%b%b%bx-swarm-attempts: %d\r\n%b%b%b\r\n" % (
                start, lines, served, attempts, self._last_lines(request), load, framing,
            )  # fmt: skip
        return (
            b"%b%b%b%bx-swarm-attempts: %d\r\nx-request-id: %b\r\n"
            b"server-timing: queue;dur=%.1f, route;dur=%.2f, upstream;dur=%.2f\r\n%b\r\n"
        ) % (
            start, lines, framing, served, attempts, request.request_id,
            queue_s * 1e3, route_s * 1e3, upstream_s * 1e3, self._last_lines(request),
        )  # fmt: skip

    def _last_lines(self, request: Request) -> bytes:
        lines = CLOSE if request.closes or self._plane.draining else b""
        return lines + cors_lines(request.head) if b"origin" in request.head.options else lines

    def _served_by(self, plan: Plan, candidate: Candidate, headers: list[Header]) -> bytes:
        if plan.view is not self._served_view or len(self._served) > _REMEMBERED:
            self._served.clear()
            self._served_view = plan.view
        key = candidate.endpoint.id
        lines = self._served.get(key)
        if lines is None:
            lines = self._served[key] = self._describe(plan, candidate)
        if candidate.local:
            return lines
        # The owner may have chosen another replica of its own than the one it was asked for.
        backend = find(headers, b"x-swarm-backend")
        named = backend.encode("latin-1") if backend else to_header(candidate.endpoint.backend)
        return lines + b"x-swarm-backend: %b\r\n" % named

    def _describe(self, plan: Plan, candidate: Candidate) -> bytes:
        lines = b"x-swarm-node: %b\r\nx-swarm-model: %b\r\nx-swarm-route-version: %b\r\n" % (
            to_header(candidate.node_name or self._plane.node_name),
            to_header(plan.model),
            str(plan.view.table.version).encode(),
        )
        if plan.view.stale:
            lines += b"x-swarm-stale: 1\r\n"
        if candidate.local:
            lines += b"x-swarm-backend: %b\r\n" % to_header(candidate.endpoint.backend)
        return lines


def _told(plan: Plan, candidate: Candidate, headers: list[Header]) -> bytes:
    """What was done for the request that its client did not ask for in so many words."""
    lines = suit_lines(plan.suit, candidate, headers) if plan.suit is not None else b""
    return lines + b"x-swarm-fallback: %b\r\n" % to_header(plan.asked) if plan.instead else lines


def suit_lines(suit: Suit, candidate: Candidate, headers: list[Header]) -> bytes:
    """What was changed for the request to suit ``candidate``; a peer says so in its ``headers``."""
    if candidate.local:
        return suit.lines()
    lowered = find(headers, b"x-swarm-max-tokens")
    return b"x-swarm-max-tokens: %b\r\n" % lowered.encode("latin-1") if lowered else b""


def _unsaid(
    defaults: tuple[tuple[bytes, bytes], ...], head: Head, outgoing: Outgoing | None
) -> list[tuple[bytes, bytes]]:
    """Those of ``defaults`` of which the client said nothing that goes on."""
    said = [] if outgoing is not None else [line.partition(b":")[0] for line in head.forward]
    return [one for one in defaults if one[0] not in said]


def _forwarded(head: Head) -> bytes:
    lines = head.forward
    kind = head.options.get(b"content-type")
    if kind is None or kind.startswith(_FORM):
        # What was read as JSON is sent as JSON; servers refuse what curl calls it by default.
        lines = [line for line in lines if not line.startswith(b"content-type:")] + [_JSON]
    return b"".join(lines)


def _forwarded_anew(head: Head) -> bytes:
    """What goes on to a backend of another dialect: nothing that speaks of the client's own."""
    return b"".join([line for line in head.forward if not line.startswith(_OF_A_DIALECT)] + [_JSON])


def cors_lines(head: Head) -> bytes:
    """What lets a page of an admitted Origin read the answer; empty for requests of no page."""
    origin = head.options.get(b"origin")
    if origin is None:
        return b""
    return b"access-control-allow-origin: %b\r\nvary: origin\r\naccess-control-expose-headers: *\r\n" % origin
