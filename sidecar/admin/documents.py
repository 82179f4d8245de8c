"""JSON documents of the admin listener, from the routes in use. Pure but for the routes' own state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.core.candidate import UNKNOWN_FACTS, Candidate, Facts
from sidecar.core.cost import Breakdown
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.explaining import USUAL_TOKENS, ejections_of, explain, explainable, measured, phase_of
from sidecar.routing.view import View
from swarmplane.errors import Code, SwarmError


def routes_document(view: View, unix_s: float) -> Mapping[str, Any]:
    """``/routes``: every model with its endpoints, own ones as this host observes them.

    ``keys`` is how many API keys of clients are in force; null where nobody told yet.
    """
    return {
        "schema": "sidecar.routes/v1",
        "swarm": view.table.swarm,
        "version": str(view.table.version),
        "stale": view.stale,
        "default_strategy": view.table.default_strategy,
        "open": view.table.open,
        "keys": (
            sum(not key.expired(unix_s) for key in view.table.keys) if view.table.version.generation else None
        ),
        "items": [
            {
                "name": route.name,
                "aliases": list(route.aliases),
                "strategy": route.strategy or view.table.default_strategy,
                "revision": route.revision,
                "endpoints": [
                    {"id": e.id, "node": view.node_name(e.node), "ready": e.ready, "draining": e.draining}
                    for e in route.endpoints
                    if e.node != view.node or e.id in view.own
                ],
            }
            for _, route in sorted(view.models.items())
        ],
        "nodes": [
            {
                "id": entry.id,
                "name": entry.name,
                "peer_addresses": list(entry.peer_addresses),
                "session": entry.session,
                "suspect": entry.id in view.suspects,
                "cordoned": entry.cordoned,
            }
            for _, entry in sorted(view.table.nodes.items())
        ],
        "denied": sorted(view.table.denied),
    }


def endpoints_document(routes: CurrentRoutes, now_s: float) -> Mapping[str, Any]:
    """``/endpoints``: every endpoint with its overlays and what choosing it costs now."""
    items = [
        {"name": found.candidate.endpoint.id, **_item(routes, name, found, now_s, USUAL_TOKENS)}
        for name, route in sorted(routes.view.models.items())
        for found in sorted(
            explain(routes, route, now_s, USUAL_TOKENS).items, key=lambda b: b.candidate.endpoint.id
        )
    ]
    return {"schema": "sidecar.endpoints/v1", "items": items}


def explain_document(
    routes: CurrentRoutes, asked: str, now_s: float, *, prompt_tokens: int = USUAL_TOKENS
) -> Mapping[str, Any]:
    """``/explain``: who could serve a request for the model that people call ``asked``, at what cost.

    Raises:
        SwarmError: Nobody knows the model.
    """
    route = explainable(routes.view, asked)
    if route is None:
        raise SwarmError(f"no node knows the model {asked[:256]!r}", code=Code.MODEL_NOT_FOUND)
    found = explain(routes, route, now_s, prompt_tokens)
    return {
        "schema": "sidecar.explain/v1",
        "model": route.name,
        "strategy": found.strategy,
        "prompt_tokens": prompt_tokens,
        "items": [
            {
                "name": one.candidate.endpoint.id,
                **_item(routes, route.name, one, now_s, prompt_tokens),
                "place": None if one.excluded is not None else place,
            }
            for place, one in enumerate(found.items, 1)
        ],
        "last": {
            "strategy": found.last_strategy,
            "items": [
                {
                    "name": one.candidate.endpoint.id,
                    "excluded": one.excluded.value if one.excluded is not None else None,
                    "cost": _cost(one),
                }
                for one in found.last
            ],
        },
    }


def _item(
    routes: CurrentRoutes, model: str, found: Breakdown, now_s: float, prompt_tokens: int
) -> Mapping[str, Any]:
    candidate, overlay = found.candidate, routes.overlay
    endpoint = candidate.endpoint
    latency = measured(routes, model, endpoint.id)
    return {
        "id": endpoint.id,
        "model": model,
        "node": candidate.node_name,
        "node_id": endpoint.node,
        "backend": endpoint.backend,
        "local": candidate.local,
        "ready": endpoint.ready,
        "draining": endpoint.draining,
        "excluded": found.excluded.value if found.excluded is not None else None,
        "phase": phase_of(routes, endpoint, now_s),
        "ejections": ejections_of(routes, endpoint),
        "gone": overlay.is_gone(endpoint.id, routes.view.table.version, now_s),
        "full_for_s": round(overlay.full_for_s(endpoint.id, now_s), 3),
        "suspect": candidate.suspect,
        "in_flight": candidate.in_flight,
        "queued": candidate.queued,
        "slots": candidate.slots,
        "load_known": candidate.load_known,
        "ewma_ttft_s": round(latency.peak_s(prompt_tokens, now_s), 4) if latency is not None else None,
        "ewma_tokens_per_s": _pace(routes, candidate),
        "service_s": round(latency.service_s, 4) if latency is not None else None,
        "facts": _facts(candidate.facts),
        "cost": {"load": round(candidate.load, 4), **_cost(found)},
    }


def _pace(routes: CurrentRoutes, candidate: Candidate) -> float | None:
    """As measured here, else as its owner measured; None: unknown."""
    found = routes.balancer.history.rates.get(candidate.endpoint.id) or candidate.facts.tokens_per_s
    return round(found, 2) if found else None


def _facts(facts: Facts) -> Mapping[str, Any]:
    """What its owner tells of the host and the replica; null: unknown."""
    known = facts is not UNKNOWN_FACTS
    return {
        "warmth": facts.warmth.value if known else None,
        "size_bytes": facts.size_bytes or None,
        "free_bytes": facts.free_bytes if facts.free_bytes >= 0 else None,
        "memory_bytes": facts.memory_bytes or None,
        "pressure": facts.pressure if known else None,
        "owner_active": facts.owner_active if known else None,
        "overheated": facts.overheated if known else None,
        "kv_used": facts.kv_used if facts.kv_used >= 0.0 else None,
        "resident_context": facts.resident.context if facts.resident is not None else None,
    }


def _cost(found: Breakdown) -> Mapping[str, float]:
    terms = {name: round(value, 4) for name, value in found.terms.items()}
    return {"total_s": round(found.cost_s, 4), **terms}
