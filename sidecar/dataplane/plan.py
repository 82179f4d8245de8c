"""What a request asks for and who may serve it, decided before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from sidecar.core.backoff import retry_after_s
from sidecar.core.candidate import Candidate, permitted
from sidecar.core.strategies import order
from sidecar.dataplane.answers import unknown_model
from sidecar.dataplane.hop import Hop, read_hop
from sidecar.dataplane.multipart import peek_multipart
from sidecar.dataplane.peek import Peek, peek
from sidecar.dataplane.request import Request
from sidecar.routing.resolution import Resolution
from sidecar.routing.view import View
from swarmplane.errors import Code, InvalidRequestError, SwarmError

if TYPE_CHECKING:
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
    }
)
_ABSENT_RETRY_S: Final = 5.0
_LONGEST_TIMEOUT_S: Final = 86_400.0
LOCAL_ONLY: Final = (b"x-swarm-local-only", b"x-netllm-local-only")


class RefusedError(SwarmError):
    """A request that will not be served, with what its answer says besides the sentence."""

    def __init__(
        self,
        message: str,
        code: Code,
        *,
        retry_after: int = 0,
        state: str = "",
        eta_s: float | None = None,
        expired: bool = False,
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
        self.expired = expired
        """Whether the sender's own deadline passed."""
        self.swarm: Mapping[str, object] | None = {"state": state, "eta_s": eta_s} if state else None


class Plan:
    """A request that will be tried: in this order, until this time."""

    __slots__ = (
        "asked",
        "content",
        "deadline_s",
        "hop",
        "left",
        "model",
        "origin",
        "stateless",
        "stream",
        "view",
    )

    def __init__(self, asked: str, view: View) -> None:
        self.asked = asked
        """The name in the body."""
        self.view = view
        self.model = asked
        """The canonical name."""
        self.content: Peek = Peek(asked)
        self.stream = False
        self.left: list[Candidate] = []
        """Candidates not asked yet, the next one last."""
        self.origin = ""
        self.hop: Hop | None = None
        self.stateless = True
        self.deadline_s = math.inf


def plan_request(plane: DataPlane, request: Request, peer: PeerIdentity | None, now_s: float) -> Plan:
    """Look into ``request`` and find who may serve it. ``now_s`` is the monotonic time.

    Raises:
        SwarmError: It will not be served; :class:`RefusedError` says more than others.
    """
    options = request.options or {}
    if b"via" in options and plane.names_us(options[b"via"]):
        raise RefusedError(
            "the request has been through this swarm already: a backend points back to it", Code.LOOP
        )
    content_type = options.get(b"content-type", b"")
    if content_type[:10].lower() == b"multipart/":
        content = peek_multipart(request.body, content_type)
    else:
        content = peek(request.body)
    view = plane.routes.view
    plan = Plan(content.model, view)
    plan.content = content
    plan.stream = content.stream
    plan.stateless = _is_stateless(request.path, content)
    if peer is None:
        _plan_entry(plane, request, plan, now_s)
    else:
        _plan_owner(plane, plan, read_hop(options, peer.node), now_s)
    return plan


def _is_stateless(path: bytes, content: Peek) -> bool:
    if path in _STATELESS:
        return not content.stored
    # The Responses API stores unless told otherwise.
    return path == b"/v1/responses" and content.has_store and not content.stored


def _plan_entry(plane: DataPlane, request: Request, plan: Plan, now_s: float) -> None:
    plan.origin = plane.routes.node_id
    options = request.options or {}
    pin, strategy = "", ""
    local_only = False
    if len(options) > 1:
        pin, strategy = request.option(b"x-swarm-node"), request.option(b"x-swarm-strategy")
        local_only = any(_is_yes(request.option(name)) for name in LOCAL_ONLY)
        timeout = request.option(b"x-swarm-timeout-s")
        if timeout:
            plan.deadline_s = now_s + _seconds(timeout)
    resolution = plane.routes.resolve(plan.asked, plane.clock_s(), local_only=local_only)
    candidates = resolution.candidates
    if pin and candidates:
        candidates = permitted(candidates, pin=pin)
        if not candidates:
            raise RefusedError(
                f"node {pin!r} does not serve {plan.asked!r} now",
                Code.NO_REPLICA,
                retry_after=retry_after_s(_ABSENT_RETRY_S, plane.draw()),
                state="absent",
            )
    if not candidates:
        raise unready(plane, plan.asked, resolution)
    plan.model = resolution.model or plan.asked
    if len(candidates) == 1:
        plan.left = [candidates[0]]
    else:
        ordered = order(candidates, strategy or resolution.strategy(plan.view.table), plane.draw())
        plan.left = list(reversed(ordered))


def _plan_owner(plane: DataPlane, plan: Plan, hop: Hop | None, now_s: float) -> None:
    if hop is None:
        raise InvalidRequestError("a peer's request needs hop headers that name its sender and the model")
    plan.hop = hop
    plan.origin = hop.origin
    plan.model = hop.model
    if hop.deadline_ms is not None:
        if hop.deadline_ms == 0:
            raise RefusedError("the request's time is over", Code.UPSTREAM_TIMEOUT, expired=True)
        plan.deadline_s = now_s + hop.deadline_ms / 1000
    if plane.draining:
        raise RefusedError("this node is draining", Code.DRAINING, retry_after=1, state="draining")
    resolution = plane.routes.resolve(hop.model, plane.clock_s(), local_only=True)
    if not resolution.candidates:
        raise unready(plane, hop.model, resolution)
    ordered = order(resolution.candidates, "least_load", plane.draw())
    # The sender counted the hinted one: among ours it goes first, so that its count stays true.
    plan.left = sorted(reversed(ordered), key=lambda c: c.endpoint.id == hop.endpoint)


def unready(plane: DataPlane, asked: str, resolution: Resolution) -> RefusedError:
    """The refusal of a model that nobody can serve now."""
    code = resolution.code or Code.NO_REPLICA
    if code is Code.MODEL_NOT_FOUND:
        return RefusedError(unknown_model(asked, [m.name for m in plane.routes.names()]), code)
    wait_s = resolution.wait_s or _ABSENT_RETRY_S
    sentence = {
        Code.MODEL_LOADING: f"The model {asked!r} is being loaded; try again soon",
        Code.DRAINING: f"Every node that serves {asked!r} is draining; try again soon",
        Code.SATURATED: f"Every node that serves {asked!r} is full; try again soon",
    }.get(code, f"The model {asked!r} is known, but no node can serve it now; see `swarmctl model list`")
    return RefusedError(
        sentence,
        code,
        retry_after=retry_after_s(wait_s, plane.draw()),
        state=resolution.state,
        eta_s=resolution.wait_s or None,
    )


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
