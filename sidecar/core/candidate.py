"""One endpoint that could serve a request, with what is known of it at this moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from sidecar.core.residents import Resident
from swarmplane.routes import Endpoint

ASSUMED_SLOTS: Final = 4
"""Slots of an endpoint that does not tell: small local servers serve one to a few requests at a time."""
SUSPECT_COST: Final = 4.0
"""What suspicion adds, in full sets of slots: a suspect is asked when the others are that far behind."""
LARGE_BYTES: Final = 20e9
SMALL_BYTES: Final = 8e9
"""Models up to this size are small: they leave large hosts to others."""


class Warmth(Enum):
    """How near a replica is to answering."""

    LOADED = "loaded"
    LOADING = "loading"
    RECENT = "recent"
    """Unloaded a short time ago: its file is probably still in the page cache."""
    COLD = "cold"


@dataclass(frozen=True, slots=True)
class Facts:
    """What an owner tells of a replica and its host; changes rarely, so candidates share one value.

    Zero and -1 mean unknown; unknown facts neither cost nor exclude.
    """

    warmth: Warmth = Warmth.LOADED
    load_left_s: float = 0.0
    """While loading: the owner's estimate."""
    size_bytes: int = 0
    """Memory that the model needs."""
    free_bytes: int = -1
    """Of GPU memory where models run there, else of memory; what idle models would free included."""
    memory_bytes: int = 0
    """All of the memory that ``free_bytes`` is a part of."""
    pressure: float = 0.0
    """How short of memory the host is, 0 to 1."""
    owner_active: bool = False
    """Whether somebody works at the host."""
    overheated: bool = False
    """Whether the host is too hot, by its own sensors' limits."""
    kv_used: float = -1.0
    """Share of the replica's context memory in use, 0 to 1."""
    tokens_per_s: float = 0.0
    """Of one answer there, as its owner measured."""
    resident: Resident | None = None
    """How it is loaded, where that is told; None: unknown, or not loaded."""
    misfit: float = field(init=False, default=0.0)
    """How wrong the host's size is for the model, 0 to 1: derived.

    Small models leave large hosts free, and large ones lean to hosts that they do not fill.
    """

    def __post_init__(self) -> None:
        if self.size_bytes and self.memory_bytes:
            filled, misfit = self.size_bytes / self.memory_bytes, 0.0
            if self.size_bytes <= SMALL_BYTES:
                misfit = max(1.0 - 4.0 * filled, 0.0)
            elif self.size_bytes >= LARGE_BYTES:
                misfit = min(max(2.0 * filled - 1.0, 0.0), 1.0)
            object.__setattr__(self, "misfit", misfit)


UNKNOWN_FACTS: Final = Facts()


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
    facts: Facts = UNKNOWN_FACTS
    has_room: bool = field(init=False, repr=False, compare=False)
    """Whether a request sent now would run at once, as far as is known."""
    load: float = field(init=False, repr=False, compare=False)
    """Requests there for each of its slots, suspicion included. Never negative."""

    def __post_init__(self) -> None:
        # Derived once: a candidate is kept for as long as nothing changes, and looked at by many requests.
        ahead, slots = self.in_flight + self.queued, self.slots or ASSUMED_SLOTS
        object.__setattr__(self, "has_room", ahead < slots)
        object.__setattr__(self, "load", ahead / slots + (SUSPECT_COST if self.suspect else 0.0))


def permitted(
    candidates: Iterable[Candidate], *, pin: str = "", local_only: bool = False
) -> tuple[Candidate, ...]:
    """Those the client allows: on the node it pinned (by name or id), or on this host only. Keeps order."""
    return tuple(
        candidate
        for candidate in candidates
        if (not pin or pin in {candidate.node_name, candidate.endpoint.node})
        and (candidate.local or not local_only)
    )
