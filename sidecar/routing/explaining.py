"""Why a request would go where it goes: candidates with their costs, and who is left out and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sidecar.core.breaker import Breaker, Phase
from sidecar.core.cost import Ask, Breakdown, Excluded
from sidecar.core.estimates import Latency
from sidecar.core.strategies import effective
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.view import View
from swarmplane.ids import EndpointId, ModelName
from swarmplane.providers import LAST, NAMED, use_of
from swarmplane.routes import Endpoint, ModelRoute

USUAL_TOKENS: Final = 256
"""Of a prompt, where nobody says how long it is."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """``items``: the cheapest first, those left out last."""

    model: str
    strategy: str
    items: tuple[Breakdown, ...]
    last_strategy: str = ""
    """Of the last request that had a choice; empty: there was none."""
    last: tuple[Breakdown, ...] = ()
    """Costs as that request saw them; empty too where the strategy asks for none."""


def explain(routes: CurrentRoutes, route: ModelRoute, now_s: float, prompt_tokens: int) -> Explanation:
    """What a request for ``route`` with so many prompt tokens would meet at ``now_s``."""
    view, balancer = routes.view, routes.balancer
    ask = Ask(route.name, prompt_tokens=prompt_tokens)
    listed = [e for e in route.endpoints if e.node != view.node or e.id in view.own]
    resolved = {c.endpoint.id: c for c in routes.resolve(route.name, now_s).candidates}
    candidates = [resolved.get(e.id) or routes.candidate(e, now_s) for e in listed]
    items = []
    for found in balancer.explain(candidates, ask, now_s):
        endpoint = found.candidate.endpoint
        reason = found.excluded
        if endpoint.id not in resolved:
            reason = left_out(routes, endpoint, now_s)
        items.append(Breakdown(found.candidate, found.terms, reason))
    items += _of_clouds(routes, route, ask, now_s)
    items.sort(key=lambda b: (b.excluded is not None, b.cost_s, b.candidate.endpoint.id))
    last = balancer.last.get(route.name)
    return Explanation(
        route.name,
        effective(route.strategy, view.table.default_strategy),
        tuple(items),
        last.strategy if last is not None else "",
        last.breakdowns() if last is not None else (),
    )


def explainable(view: View, asked: str) -> ModelRoute | None:
    """The route that people mean by ``asked``; one without endpoints where only providers have it."""
    route = view.find(asked)
    return route or (ModelRoute(ModelName(asked)) if view.index.clouds(asked) else None)


def _of_clouds(routes: CurrentRoutes, route: ModelRoute, ask: Ask, now_s: float) -> list[Breakdown]:
    """Providers that have the same model, and when they are asked."""
    view = routes.view
    others = [view.models[name] for name in view.index.clouds(route.name) if name != route.name]
    candidates = [
        routes.candidate(e, now_s)
        for other in others
        for e in other.endpoints
        if e.node != view.node or e.id in view.own
    ]
    reasons = {LAST: Excluded.CLOUD_LAST, NAMED: Excluded.CLOUD_NAMED}
    return [
        Breakdown(one.candidate, one.terms, reasons.get(use_of(one.candidate.endpoint.kind), one.excluded))
        for one in routes.balancer.explain(candidates, ask, now_s)
    ]


def left_out(routes: CurrentRoutes, endpoint: Endpoint, now_s: float) -> Excluded:
    """Why resolving left ``endpoint`` out."""
    view, overlay = routes.view, routes.overlay
    own = endpoint.node == view.node
    if endpoint.draining or (own and view.draining):
        return Excluded.DRAINING
    if not endpoint.ready:
        return Excluded.LOADING if not own or _loads(view, endpoint.id) else Excluded.NOT_READY
    if overlay.is_gone(endpoint.id, view.table.version, now_s):
        return Excluded.GONE
    if overlay.full_for_s(endpoint.id, now_s):
        return Excluded.FULL
    return Excluded.EJECTED


def _loads(view: View, endpoint: EndpointId) -> bool:
    found = view.own.get(endpoint)
    return found is not None and found.loading


def phase_of(routes: CurrentRoutes, endpoint: Endpoint, now_s: float) -> str:
    """``ejected`` while left out, ``probing`` until it answers again after that, else ``admitting``.

    Of its own breaker and of the ejection of its node, the worse.
    """
    overlay, own = routes.overlay, routes.balancer.breakers.of(endpoint.id)
    phases = [_phase(own, now_s)]
    phases += [
        Phase.PROBING if overlay.admits(target, now_s) else Phase.EJECTED
        for target in (endpoint.id, endpoint.node)
        if target in overlay.ejected
    ]
    return max(phases, key=_WORSE.index).value


_WORSE: Final = (Phase.ADMITTING, Phase.PROBING, Phase.EJECTED)


def _phase(breaker: Breaker, now_s: float) -> Phase:
    if breaker.phase is Phase.EJECTED and breaker.admits(now_s):
        return Phase.PROBING
    return breaker.phase


def ejections_of(routes: CurrentRoutes, endpoint: Endpoint) -> int:
    """How often in a row it, or its node, was ejected."""
    ejected = routes.overlay.ejected
    counted = sum(ejected[target].times for target in (endpoint.id, endpoint.node) if target in ejected)
    return counted + routes.balancer.breakers.of(endpoint.id).ejections


def measured(routes: CurrentRoutes, model: str, endpoint: EndpointId) -> Latency | None:
    """What was measured of ``endpoint``; None: nothing."""
    found = routes.balancer.history.of(model).by_endpoint.get(endpoint)
    return found if found is not None and found.samples else None
