"""Metrics of the routes and the control stream; names as in INTERFACE "Metrics"."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import Final

from sidecar.admin.sources import Sources
from sidecar.core.candidate import Candidate
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.explaining import phase_of
from swarmplane.exposition import Family, family
from swarmplane.routes import Endpoint

MOST_ENDPOINTS: Final = 500
"""Endpoints beyond these are added up under the label value ``other``."""
_PHASES: Final = ("admitting", "ejected", "probing")


def families(sources: Sources) -> list[Family]:
    """Everything that ``/metrics`` shows now."""
    now_s = sources.clock.now_s()
    view = sources.routes.view
    control = sources.control()
    found = [
        family(
            "swarmplane_build_info",
            "gauge",
            "Always 1; the labels say which software this is.",
            [({"version": sources.version, "python": platform.python_version()}, 1)],
        ),
        *sources.metrics(),
        *_endpoint_families(sources.routes, now_s),
        family(
            "swarmplane_route_version",
            "gauge",
            "Revision of the route table in use; the label is the store's generation.",
            [({"generation": str(view.table.version.generation)}, view.table.version.revision)],
        ),
        family(
            "swarmplane_route_stale",
            "gauge",
            "1 while the table in use comes from disk and no instance has confirmed it.",
            int(view.stale),
        ),
        family(
            "swarmplane_control_connected",
            "gauge",
            "1 while a control-plane instance answers this sidecar's stream.",
            int(bool(control.get("connected"))),
        ),
    ]
    age_s = control.get("table_age_s")
    if isinstance(age_s, int | float):
        found.append(
            family(
                "swarmplane_route_age_seconds",
                "gauge",
                "Seconds since an instance last sent or confirmed the route table.",
                round(float(age_s), 3),
            )
        )
    return found


def _endpoint_families(routes: CurrentRoutes, now_s: float) -> list[Family]:
    shown = list(_endpoints(routes))
    labelled = [(_labels(routes, endpoint), endpoint) for endpoint in shown[:MOST_ENDPOINTS]]
    rows = [(labels, endpoint, routes.candidate(endpoint, now_s)) for labels, endpoint in labelled]
    rest = [routes.candidate(endpoint, now_s) for endpoint in shown[MOST_ENDPOINTS:]]
    in_flight: list[tuple[Mapping[str, str], float]] = [(labels, c.in_flight) for labels, _, c in rows]
    if rest:
        other = dict.fromkeys(("node", "backend", "model"), "other")
        in_flight.append((other, sum(c.in_flight for c in rest)))
    return [
        family("swarmplane_endpoint_in_flight", "gauge", "Requests an endpoint serves now.", in_flight),
        family(
            "swarmplane_endpoint_phase",
            "gauge",
            "1 for the phase an endpoint is in: admitting, ejected or probing.",
            [
                ({**labels, "phase": phase}, int(phase_of(routes, endpoint, now_s) == phase))
                for labels, endpoint, _ in rows
                for phase in _PHASES
            ],
        ),
        family(
            "swarmplane_queue_depth",
            "gauge",
            "Requests that wait for a slot of this host's endpoints.",
            [(labels, c.queued) for labels, _, c in rows if _is_local(c)],
        ),
    ]


def _endpoints(routes: CurrentRoutes) -> Iterator[Endpoint]:
    view = routes.view
    for _, route in sorted(view.models.items()):
        yield from (e for e in route.endpoints if e.node != view.node or e.id in view.own)


def _labels(routes: CurrentRoutes, endpoint: Endpoint) -> Mapping[str, str]:
    node = routes.view.node_name(endpoint.node)
    return {"node": node, "backend": endpoint.backend, "model": endpoint.model}


def _is_local(candidate: Candidate) -> bool:
    return candidate.local
