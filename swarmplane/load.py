"""What an endpoint carries, as its owner reports it and as digests pass it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from swarmplane.ids import EndpointId


@dataclass(frozen=True, slots=True)
class LoadEntry:
    """A report on one endpoint. Never stored."""

    endpoint: EndpointId
    in_flight_by_origin: Mapping[str, int]
    """Requests being served, by the node they entered at."""
    queued: int = 0
    slots: int = 0
    """0 where unknown."""
    age_ms: int = 0
    """How old the figure was when it was sent."""
