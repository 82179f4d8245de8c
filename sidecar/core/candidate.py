"""One endpoint that could serve a request, with what is known of it at this moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarmplane.routes import Endpoint

ASSUMED_SLOTS: Final = 4
"""Slots of an endpoint that does not tell: small local servers serve one to a few requests at a time."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint and its overlays. ``local`` endpoints are called directly, others through one hop."""

    endpoint: Endpoint
    local: bool
    peer_addresses: tuple[str, ...] = ()
    """``host:port`` of the owner's peer listener, most preferred first; empty for local endpoints."""
    node_name: str = ""
    in_flight: int = 0
    """Requests being served: the owner's report with our own part replaced by our exact count."""
    queued: int = 0
    """Requests waiting for a slot at the owner."""
    slots: int = 0
    """Requests served at a time; 0 where unknown."""
    suspect: bool = False
    load_known: bool = False
    """Whether the owner's report is fresh; if not, ``in_flight`` is our own part only."""

    @property
    def has_room(self) -> bool:
        """Whether a request sent now would run at once, as far as is known."""
        return self.in_flight + self.queued < (self.slots or ASSUMED_SLOTS)


def permitted(
    candidates: tuple[Candidate, ...], *, pin: str = "", local_only: bool = False
) -> tuple[Candidate, ...]:
    """Those the client allows: on the node it pinned (by name or id), or on this host only. Keeps order."""
    return tuple(
        candidate
        for candidate in candidates
        if (not pin or pin in {candidate.node_name, candidate.endpoint.node})
        and (candidate.local or not local_only)
    )
