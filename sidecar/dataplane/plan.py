"""What a request asks for and who may serve it, decided before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sidecar.core.candidate import Candidate, permitted
from sidecar.core.choice import Choice
from sidecar.core.cost import Ask
from sidecar.core.limits import Limits
from sidecar.core.overlay import Overlay
from sidecar.core.reserve import allowed
from sidecar.core.strategies import effective, order
from sidecar.dataplane import managing
from sidecar.dataplane.asking import by_policy, prompt_spans, read_ask
from sidecar.dataplane.hop import Hop, read_hop
from sidecar.dataplane.multipart import peek_multipart
from sidecar.dataplane.peek import Peek, peek
from sidecar.dataplane.refusals import RefusedError, at_a_provider, elsewhere, not_here, unpinned, unready
from sidecar.dataplane.request import Head, Request
from sidecar.dataplane.suiting import limits_of, suited
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.resolution import Resolution, load_left_s
from sidecar.routing.view import View
from swarmplane.errors import Code, InvalidRequestError, SwarmError

if TYPE_CHECKING:
    from sidecar.dataplane.contexts import Suit
    from sidecar.dataplane.server import DataPlane
    from swarmplane.credentials.tls import PeerIdentity

_STATELESS: Final = frozenset(
    {
        b"/v1/chat/completions",
        b"/v1/completions",
        b"/v1/embeddings",
        b"/v1/rerank",
        b"/v1/messages",
        b"/v1/messages/count_tokens",
        b"/v1/audio/transcriptions",
        b"/v1/audio/translations",
        b"/v1/audio/speech",
        b"/api/chat",
        b"/api/generate",
        b"/api/embed",
        b"/api/embeddings",
    }
)
_LONGEST_TIMEOUT_S: Final = 86_400.0
_LOCAL_ONLY: Final = (b"x-swarm-local-only", b"x-netllm-local-only")
_REMEMBERED: Final = 4096
_NEVER: Final = math.inf
_BY_POLICY: Final = frozenset({"batch_shard", "failover"})
"""Strategies that have headers of their own."""


class Plan:
    """A request that will be tried: in this order, until this time."""

    __slots__ = (
        "ask",
        "asked",
        "content",
        "deadline_s",
        "final",
        "hop",
        "instead",
        "left",
        "model",
        "origin",
        "stateless",
        "suit",
        "unasked",
        "view",
    )

    def __init__(self, content: Peek, view: View, origin: str) -> None:
        self.content = content
        self.asked = content.model
        """The name in the body."""
        self.view = view
        self.origin = origin
        self.model: str = content.model
        """The canonical name."""
        self.left: list[Candidate] | Choice = []
        """Candidates not asked yet; ``pop`` gives the next one."""
        self.ask: Ask | None = None
        """What choosing knows of the request; None where there was no choice: then nothing is recorded."""
        self.suit: Suit | None = None
        """What was read of it, where not every endpoint suits it; None: nobody had to look."""
        self.hop: Hop | None = None
        self.instead = False
        """Whether another model than the asked one answers."""
        self.unasked = False
        """Whether no client named the model."""
        self.stateless = True
        self.final = False
        """Whether whatever its backend answers is the client's, as of one that is to be changed."""
        self.deadline_s = _NEVER


class Sole:
    """Models with exactly one endpoint, of which nothing was learned: found once until it changes.

    With one candidate there is nothing to weigh, so its load does not matter.
    """

    def __init__(self, routes: CurrentRoutes) -> None:
        self._routes = routes
        self._view: View | None = None
        self._overlay: Overlay | None = None
        self._found: dict[str, tuple[str, Candidate, Limits]] = {}

    def find(self, asked: str, view: View) -> tuple[str, Candidate, Limits] | None:
        """Canonical name, endpoint and its limits, if they are known to be all there is."""
        if view is not self._view or self._routes.overlay is not self._overlay:
            self._view, self._overlay = view, self._routes.overlay
            self._found.clear()
        return self._found.get(asked)

    def keep(self, asked: str, resolution: Resolution, view: View, *, local_only: bool = False) -> None:
        """Remember what :meth:`find` did not know. ``local_only``: only this host's endpoints count."""
        if len(resolution.candidates) != 1:
            return
        overlay, route = self._overlay, resolution.route
        if route is None or overlay is None or len(self._found) >= _REMEMBERED:
            return
        if sum(not local_only or endpoint.node == view.node for endpoint in route.endpoints) != 1:
            return
        if overlay.gone or overlay.ejected or overlay.full:
            return
        candidate = resolution.candidates[0]
        self._found[asked] = (route.name, candidate, Limits((candidate.endpoint,)))


def plan_request(
    plane: DataPlane, request: Request, peer: PeerIdentity | None, now_s: float, client: str = ""
) -> Plan:
    """Look into ``request`` and find who may serve it. ``now_s`` is the monotonic time.

    ``client``: the address that it came from.

    Raises:
        SwarmError: It will not be served; :class:`RefusedError` says more than others.
    """
    head = request.head
    routes = plane.routes
    content = _form(request) if head.multipart else peek(request.body)
    if content.keeps:
        managing.admit(plane, head, peer, client)
    if request.key is not None:
        plane.keys.check_model(request.key, content.model)
    plan = Plan(content, routes.view, routes.node_id)
    plan.stateless = not content.stored if head.path in _STATELESS else _is_unstored(head.path, content)
    if peer is not None:
        if head.hop is None:
            head.hop = read_hop(head.options, peer.node)
        _plan_owner(plane, request, plan, now_s)
        if plane.routes.balancer.prompts.room:
            _keep_prompt(plane, request, plan)
    elif head.plain and not content.keeps:
        _plan_plain(plane, request, plan)
    else:
        _plan_entry(plane, request, plan, now_s)
    return plan


def plan_instead(
    plane: DataPlane, request: Request, name: str, started_s: float, *, wished: bool = False
) -> Plan:
    """A plan in which the model called ``name``, which the client ``wished``, answers for the asked one.

    Raises:
        SwarmError: It can't either.
    """
    content, path = read_content(request), request.head.path
    plan = Plan(content, plane.routes.view, plane.routes.node_id)
    plan.stateless = not content.stored if path in _STATELESS else _is_unstored(path, content)
    plan.asked = name
    if request.key is not None:
        plane.keys.check_model(request.key, name)
    plan.unasked = not wished
    _plan_entry(plane, request, plan, started_s)
    plan.asked = content.model
    plan.instead = True
    return plan


def read_content(request: Request) -> Peek:
    """What routing needs of the body.

    Raises:
        InvalidRequestError: See :func:`sidecar.dataplane.peek.peek`.
    """
    return _form(request) if request.head.multipart else peek(request.body)


def _form(request: Request) -> Peek:
    found = request.content
    if found is None:
        return peek_multipart(request.body, request.head.options[b"content-type"])
    if isinstance(found, SwarmError):
        raise found
    return found


def _is_unstored(path: bytes, content: Peek) -> bool:
    # The Responses API stores unless told otherwise.
    return path == b"/v1/responses" and content.has_store and not content.stored


def _plan_plain(plane: DataPlane, request: Request, plan: Plan) -> None:
    known = plane.sole.find(plan.asked, plan.view)
    if known is not None:
        plan.model, candidate, limits = known
        plan.left = [candidate]
        if not limits.unknown:
            members = plan.content.members
            if members is None or not limits.suit(request.head.path, members, request.body):
                suited(plane, request, plan, plan.left, limits)
        if candidate.local and plane.routes.balancer.prompts.room:
            _keep_prompt(plane, request, plan)
        return
    now_s = plane.clock_s()
    several = plane.routes.several(plan.asked, now_s)
    if several is not None:
        group, offer = several
        plan.model = group.route.name
        candidates = offer.candidates
        if not group.limits.unknown:
            candidates = suited(plane, request, plan, candidates, group.limits)
        front = offer.front if candidates is offer.candidates else None
        _order(plane, request, plan, candidates, group.strategy, now_s=now_s, front=front)
        return
    resolution = plane.routes.resolve(plan.asked, now_s)
    _choose(plane, request, plan, resolution, resolution.candidates)
    plane.sole.keep(plan.asked, resolution, plan.view)


def _plan_entry(plane: DataPlane, request: Request, plan: Plan, now_s: float) -> None:
    head = request.head
    options = head.options
    if b"via" in options and plane.names_us(options[b"via"]):
        raise RefusedError(
            "the request has been through this swarm already: a backend points back to it", Code.LOOP
        )
    plan.deadline_s = now_s + allowed_s(head)
    kept = plan.content.keeps and plane.policy.manage != managing.SWARM
    local_only = kept or any(_is_yes(head.option(name)) for name in _LOCAL_ONLY)
    resolution = plane.routes.resolve(plan.asked, plane.clock_s(), local_only=local_only)
    candidates = resolution.candidates
    if local_only and resolution.code is Code.NO_REPLICA:
        everywhere = plane.routes.resolve(plan.asked, plane.clock_s())
        if everywhere.candidates and kept:
            raise managing.elsewhere(plan.asked)
        if everywhere.candidates:
            raise elsewhere(plan.asked, everywhere, plane.draw())
    candidates = allowed(candidates, local_only=local_only, unasked=plan.unasked)
    if not candidates and resolution.candidates:
        raise at_a_provider(plan.asked)
    pin = head.option(b"x-swarm-node")
    if pin and candidates:
        candidates = permitted(candidates, pin=pin)
        if not candidates:
            raise unpinned(plan.asked, pin, plane.draw())
    _choose(plane, request, plan, resolution, candidates)


def _choose(
    plane: DataPlane, request: Request, plan: Plan, resolution: Resolution, candidates: Sequence[Candidate]
) -> None:
    if not candidates:
        names = plane.keys.shown(request.key, plane.routes.names())
        raise unready(plan.asked, resolution, names, plane.draw(), _left_s(plane, resolution))
    plan.model = resolution.model or plan.asked
    candidates = suited(plane, request, plan, candidates, limits_of(candidates))
    head = request.head
    route = resolution.route
    strategy = effective(
        head.option(b"x-swarm-strategy"),
        route.strategy if route is not None else "",
        plan.view.table.default_strategy,
    )
    session = head.option(b"x-swarm-session")
    _order(plane, request, plan, candidates, strategy, session, now_s=plane.clock_s())


def _order(
    plane: DataPlane,
    request: Request,
    plan: Plan,
    candidates: Sequence[Candidate],
    strategy: str,
    session: str = "",
    *,
    now_s: float,
    front: Sequence[Candidate] | None = None,
) -> None:
    if len(candidates) == 1:
        plan.left = list(candidates)
        return
    balancer = plane.routes.balancer
    room = plan.suit.room if plan.suit is not None else None
    plan.ask = ask = read_ask(plan.model, plan.content, request.body, session, balancer.key, room)
    if strategy in _BY_POLICY:
        plan.ask = ask = by_policy(request.head, ask)
    plan.left = balancer.choose(
        candidates, ask, strategy=strategy, draw=plane.draw(), now_s=now_s, front=front
    )


def _keep_prompt(plane: DataPlane, request: Request, plan: Plan) -> None:
    """One of a few prompts that tell others what is cached here; which of our endpoints is a good guess."""
    content, left = plan.content, plan.left
    if content.members is not None and isinstance(left, list):
        spans = prompt_spans(content.spans)
        plane.routes.balancer.prompts.keep(plan.model, left[-1].endpoint, request.body, spans)


def _plan_owner(plane: DataPlane, request: Request, plan: Plan, now_s: float) -> None:
    hop = request.head.hop
    if hop is None:
        raise InvalidRequestError("a peer's request needs hop headers that name its sender and the model")
    plan.hop = hop
    plan.origin = hop.origin
    plan.model = hop.model
    if hop.deadline_ms == 0:
        raise RefusedError("the request's time is over", Code.UPSTREAM_TIMEOUT, expired=True)
    plan.deadline_s = now_s + _hop_s(hop)
    if plane.draining:
        raise RefusedError("this node is draining", Code.DRAINING, retry_after=1)
    known = plane.own_sole.find(hop.model, plan.view)
    if known is not None:
        plan.left = [known[1]]
        suited(plane, request, plan, plan.left, known[2])
        return
    resolution = plane.routes.resolve(hop.model, plane.clock_s(), local_only=True)
    candidates = resolution.candidates
    if not candidates and (own := plan.view.own.get(hop.endpoint)) is not None and own.was_called(hop.model):
        # It has another name here since the sender's table was made, or there already.
        resolution = plane.routes.resolve(own.canonical, plane.clock_s(), local_only=True)
        candidates = resolution.candidates
    if not candidates:
        raise not_here(hop.model, resolution, plane.draw(), _left_s(plane, resolution))
    candidates = suited(plane, request, plan, candidates, limits_of(candidates))
    if len(candidates) > 1:
        candidates = order(candidates, "least_load", plane.draw())[::-1]
        plan.ask = Ask(plan.model)
    # The sender counted the hinted one: among ours it goes first, so that its count stays true.
    plan.left = sorted(candidates, key=lambda c: c.endpoint.id == hop.endpoint)
    plane.own_sole.keep(hop.model, resolution, plan.view, local_only=True)


def _left_s(plane: DataPlane, resolution: Resolution) -> float:
    loading = resolution.code is Code.MODEL_LOADING
    return load_left_s(resolution.route, plane.routes.facts_of) if loading else 0.0


def allowed_s(head: Head) -> float:
    """For how long the request may take, by its sender; inf: it does not say.

    Raises:
        InvalidRequestError: It names no number of seconds.
    """
    if head.hop is not None:
        return _hop_s(head.hop)
    timeout = head.option(b"x-swarm-timeout-s")
    return _seconds(timeout) if timeout else _NEVER


def _hop_s(hop: Hop) -> float:
    return _NEVER if hop.deadline_ms is None else hop.deadline_ms / 1000


def _is_yes(value: str) -> bool:
    return value.casefold() in {"1", "true", "yes"}


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _LONGEST_TIMEOUT_S:
        raise InvalidRequestError("x-swarm-timeout-s must be a number of seconds, more than 0")
    return seconds
