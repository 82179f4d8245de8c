"""Requests that change a backend of this host: models are pulled, made, copied and deleted there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.core.candidate import Candidate
from sidecar.dataplane.hop import read_hop
from sidecar.dataplane.managing import SWARM, admit, forbidden
from sidecar.dataplane.peek import Peek, locate, read_members, read_text
from sidecar.dataplane.plan import Plan, allowed_s
from sidecar.dialects.translate import OLLAMA
from swarmplane.errors import InvalidRequestError
from swarmplane.ids import EndpointId
from swarmplane.routes import Endpoint

if TYPE_CHECKING:
    from sidecar.backends.target import Target
    from sidecar.dataplane.request import Head, Request
    from sidecar.dataplane.server import DataPlane
    from swarmplane.credentials.tls import PeerIdentity

_MODEL: Final = ("model", "name")
_NAMES: Final[Mapping[bytes, tuple[str, ...]]] = {
    b"/api/pull": _MODEL,
    b"/api/push": _MODEL,
    b"/api/create": _MODEL,
    b"/api/delete": _MODEL,
    b"/api/copy": ("source",),
}
"""Members that name the model, by path; the first one that stands there counts."""
_OTHERS: Final = ("from", "destination")
"""Members that name another model, which is read or written: a key that is bound to models is for it too."""
_READ: Final = frozenset({*_MODEL, "source", *_OTHERS})
_NEW: Final = frozenset({b"/api/pull", b"/api/create"})
"""What needs no model to be there."""


def plan_change(
    plane: DataPlane, request: Request, peer: PeerIdentity | None, now_s: float, client: str
) -> Plan:
    """Find the backend that ``request``, a mutation, acts on. Arguments are those of ``plan_request``.

    Raises:
        SwarmError: It may not act, names no model, or there is no backend for it.
    """
    admit(plane, request.head, peer, client)
    content = _peek(request)
    plan = Plan(content, plane.routes.view, plane.routes.node_id)
    plan.final = True
    plan.stateless = False
    if peer is not None:
        hop = plan.hop = read_hop(request.head.options, peer.node)
        if hop is not None:
            plan.origin = hop.origin
    plan.deadline_s = now_s + allowed_s(request.head)
    if request.key is not None:
        for name in (content.model, *_others(content)):
            plane.keys.check_model(request.key, name, new=True)
    plan.left = list(_candidates(plane, request.head, plan, own=peer is not None))
    return plan


def _peek(request: Request) -> Peek:
    members = read_members(request.body)
    spans = locate(request.body, members)
    for key in members:
        # Ollama reads them as one, and the last one counts.
        if key not in _READ and key.casefold() in _READ:
            raise InvalidRequestError(f"write {key.casefold()!r}, not {key!r}", param=key.casefold())
    for key in _NAMES[request.head.path]:
        raw = members.get(key)
        if raw is not None and raw != msgspec.Raw(b'""'):
            return Peek(read_text(raw, key), spans[key][1:], members, spans)
    wanted = _NAMES[request.head.path][0]
    raise InvalidRequestError(f"you must provide a {wanted} parameter", param=wanted)


def _others(content: Peek) -> Sequence[str]:
    members = content.members or {}
    told = [(key, members[key]) for key in _OTHERS if key in members]
    return [read_text(raw, key) for key, raw in told if bytes(raw) not in {b"null", b'""'}]


def _candidates(plane: DataPlane, head: Head, plan: Plan, *, own: bool) -> Sequence[Candidate]:
    """The one backend that is asked, or another node that has it."""
    name = plan.asked
    targets = [target for target in plane.backends.targets.values() if OLLAMA in target.dialects]
    having = [target for target in targets if _has(plane, target, name)]
    if not having and not own and head.path not in _NEW:
        resolution = plane.routes.resolve(name, plane.clock_s())
        others = [candidate for candidate in resolution.candidates if not candidate.local]
        if others and plane.policy.manage == SWARM:
            plan.model = resolution.model or name
            return others[:1]
        if others:
            raise forbidden(
                f"{name[:256]!r} is on other nodes, and a client may change this host's backends only; "
                "ask there, or set client.manage = swarm here and there"
            )
    found = (having or sorted(targets, key=lambda target: target.name))[:1]
    if not found:
        raise InvalidRequestError("no backend of this host can do that: it takes an Ollama")
    node, backend = plane.routes.node_id, found[0].name
    # None of those that serve the model: it takes no slot of theirs.
    endpoint = Endpoint(EndpointId(f"{node}/{backend}{head.path.decode()}"), node, backend, name)
    return (Candidate(endpoint, local=True, node_name=plane.node_name),)


def _has(plane: DataPlane, target: Target, name: str) -> bool:
    wanted = {name, f"{name}:latest"}
    own = plane.routes.view.own.values()
    return any(one.endpoint.backend == target.name and one.endpoint.model in wanted for one in own)
