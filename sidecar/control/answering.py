"""Answers to what an instance asks this sidecar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.routing.explaining import USUAL_TOKENS, explain, explainable, phase_of
from swarmplane.codec.explanations import explanation_to_pb
from swarmplane.explanation import ExplainedEndpoint, RouteExplanation
from swarmplane.v1 import sidecar_pb2 as pb

if TYPE_CHECKING:
    from sidecar.core.cost import Breakdown
    from sidecar.routing.current import CurrentRoutes

MOST_ENDPOINTS: Final = 256
"""Of one explanation, the cheapest first; it is for people."""


def explanation(routes: CurrentRoutes, query: pb.ExplainQuery) -> pb.Explanation:
    """Whom this sidecar would ask for the model in ``query`` now. O(endpoints of the model)."""
    route = explainable(routes.view, query.model)
    if route is None:
        return pb.Explanation(query_id=query.query_id)
    tokens = query.prompt_tokens or USUAL_TOKENS
    now_s = routes.now_s()
    found = explain(routes, route, now_s, tokens)
    items = tuple(_endpoint(routes, one, now_s) for one in found.items[:MOST_ENDPOINTS])
    told = RouteExplanation(route.name, found.strategy, tokens, items, routes.node_id)
    return pb.Explanation(query_id=query.query_id, found=True, route=explanation_to_pb(told))


def _endpoint(routes: CurrentRoutes, one: Breakdown, now_s: float) -> ExplainedEndpoint:
    candidate = one.candidate
    endpoint = candidate.endpoint
    return ExplainedEndpoint(
        endpoint.id,
        endpoint.node,
        candidate.node_name,
        endpoint.backend,
        one.excluded.value if one.excluded is not None else "",
        one.cost_s,
        {name: seconds for name, seconds in one.terms.items() if seconds},
        phase_of(routes, endpoint, now_s),
        candidate.in_flight,
        candidate.queued,
        candidate.slots,
        candidate.load_known,
        candidate.suspect,
    )
