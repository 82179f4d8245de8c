"""An instance's figures as families of metrics; names as in INTERFACE "Metrics". Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from controlplane.services.measured_store import BOUNDS_S, Durations
from swarmplane import exposition
from swarmplane.exposition import Family, family, histogram

NODE_STATES: Final = ("live", "suspect", "gone", "never")


@dataclass(frozen=True, slots=True)
class Figures:
    """What is shown at one moment."""

    version: str
    nodes: Mapping[str, int] = field(default_factory=dict)
    """Nodes by state."""
    leader: bool = False
    """Whether this instance decides for the swarm."""
    streams: int = 0
    """Sidecars whose stream ends here."""
    nacks: int = 0
    """Updates that sidecars refused, since the start."""
    pushes: int = 0
    """Tables and differences sent, since the start."""
    answered: Durations = field(default_factory=Durations)
    """From an update's departure to its acknowledgement."""
    revision: int = 0
    """Of the store, as far as this instance has seen it."""
    behind: int | None = None
    """Revisions of the store that it has not seen; None: the store did not say."""
    store: Mapping[str, Durations] = field(default_factory=dict)
    """By operation."""


def render(figures: Figures) -> str:
    """The whole page."""
    return exposition.render(families(figures))


def families(figures: Figures) -> list[Family]:
    """All of them, in the order in which they are shown."""
    found = [
        family(
            "swarmplane_build_info",
            "gauge",
            "Always 1; the label says which software this is.",
            [({"version": figures.version}, 1)],
        ),
        family(
            "swarmplane_nodes",
            "gauge",
            "Enrolled nodes, by state.",
            [({"state": state}, figures.nodes.get(state, 0)) for state in NODE_STATES],
        ),
        family("swarmplane_leader", "gauge", "1 while this instance decides.", int(figures.leader)),
        family("swarmplane_streams", "gauge", "Sidecars connected to this instance.", figures.streams),
        family("swarmplane_pushes_total", "counter", "Route updates sent to sidecars.", figures.pushes),
        family("swarmplane_nacks_total", "counter", "Updates that sidecars refused.", figures.nacks),
        histogram(
            "swarmplane_push_seconds",
            "From a route update's departure to its acknowledgement by the sidecar.",
            BOUNDS_S,
            [({}, figures.answered.buckets, figures.answered.sum_s)],
        ),
        family(
            "swarmplane_watch_revision",
            "gauge",
            "Revision of the store that this instance decides by.",
            figures.revision,
        ),
        histogram(
            "swarmplane_store_seconds",
            "Duration of calls of the store, by operation.",
            BOUNDS_S,
            [({"op": op}, durations.buckets, durations.sum_s) for op, durations in figures.store.items()],
        ),
    ]
    if figures.behind is not None:
        found.append(
            family(
                "swarmplane_watch_lag_revisions",
                "gauge",
                "Revisions of the store that this instance has not seen yet.",
                figures.behind,
            )
        )
    return found
