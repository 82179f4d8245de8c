"""JSON documents of the admin listener, from the routes in use. Pure but for the routes' own state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.core.candidate import Candidate
from sidecar.core.overlay import Overlay
from sidecar.core.strategies import load_cost
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.view import View
from swarmplane.routes import Endpoint


def routes_document(view: View) -> Mapping[str, Any]:
    """``/routes``: every model with its endpoints, own ones as this host observes them."""
    return {
        "schema": "sidecar.routes/v1",
        "swarm": view.table.swarm,
        "version": str(view.table.version),
        "stale": view.stale,
        "default_strategy": view.table.default_strategy,
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
    view, overlay = routes.view, routes.overlay
    items = []
    for name, route in sorted(view.models.items()):
        for endpoint in route.endpoints:
            if endpoint.node == view.node and endpoint.id not in view.own:
                continue
            candidate = routes.candidate(endpoint, now_s)
            items.append(
                {
                    "name": endpoint.id,
                    "id": endpoint.id,
                    "model": name,
                    "node": candidate.node_name,
                    "node_id": endpoint.node,
                    "backend": endpoint.backend,
                    "local": candidate.local,
                    "ready": endpoint.ready,
                    "draining": endpoint.draining,
                    **_learned(overlay, endpoint, view, now_s),
                    "suspect": candidate.suspect,
                    "in_flight": candidate.in_flight,
                    "queued": candidate.queued,
                    "slots": candidate.slots,
                    "load_known": candidate.load_known,
                    "ewma_ttft_s": None,
                    "ewma_tokens_per_s": None,
                    "cost": _cost(candidate),
                }
            )
    return {"schema": "sidecar.endpoints/v1", "items": items}


def _learned(overlay: Overlay, endpoint: Endpoint, view: View, now_s: float) -> Mapping[str, Any]:
    return {
        "phase": phase_of(overlay, endpoint, now_s),
        "ejections": sum(
            overlay.ejected[target].times
            for target in (endpoint.id, endpoint.node)
            if target in overlay.ejected
        ),
        "gone": overlay.is_gone(endpoint.id, view.table.version, now_s),
        "full_for_s": round(overlay.full_for_s(endpoint.id, now_s), 3),
    }


def phase_of(overlay: Overlay, endpoint: Endpoint, now_s: float) -> str:
    """``ejected`` while left out, ``probing`` until it answers again after that, else ``admitting``."""
    targets = [target for target in (endpoint.id, endpoint.node) if target in overlay.ejected]
    if not targets:
        return "admitting"
    return "probing" if all(overlay.admits(target, now_s) for target in targets) else "ejected"


def _cost(candidate: Candidate) -> Mapping[str, float]:
    return {"load": round(load_cost(candidate), 4)}
