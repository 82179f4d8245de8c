"""How a node is, as its sidecar reports it and as others price it: slower than load, never stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarmplane.ids import EndpointId, NodeId

LOADED: Final = "loaded"
LOADING: Final = "loading"
RECENT: Final = "recent"
"""Unloaded a short time ago."""
COLD: Final = "cold"


@dataclass(frozen=True, slots=True)
class EndpointCondition:
    """One endpoint. Empty, 0 and None mean unknown."""

    endpoint: EndpointId
    warmth: str = ""
    load_left_s: float = 0.0
    """While loading: expected seconds until it is loaded."""
    size_bytes: int = 0
    tokens_per_s: float = 0.0
    """Of one answer after its first token, moving average."""
    kv_used: float | None = None
    """Share of its context memory that is in use, 0 to 1."""
    resident_context: int = 0
    """While loaded: tokens of the context it is loaded with, where asking for another one loads it anew."""
    expires_at_s: int = 0
    """While loaded: unix seconds when it is unloaded unless it is used, for people; 0: never, too."""
    vram_bytes: int = 0
    """While loaded: GPU memory that it takes."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A host and its endpoints. None means unknown, never a guess."""

    free_bytes: int | None = None
    """Of the memory that models run in; with what idle models would free."""
    memory_bytes: int | None = None
    """All of the memory that ``free_bytes`` is a part of."""
    pressure: float | None = None
    """How short of memory it is, 0 to 1."""
    owner_active: bool | None = None
    """Whether somebody works at it."""
    overheated: bool | None = None
    """Whether a sensor is above the limit that it names itself."""
    disk_free_bytes: int | None = None
    """Of the disk that holds the data directory, in steps of a GiB."""
    battery_percent: int | None = None
    on_battery: bool | None = None
    """Whether it runs on its battery now."""
    endpoints: tuple[EndpointCondition, ...] = ()
    valid_s: float = 90.0
    """After so many seconds all of this is unknown, unless it was said again."""


@dataclass(frozen=True, slots=True)
class NodeCondition:
    """A node's last word; ``condition`` None: nothing is known any more."""

    node: NodeId
    condition: Condition | None
    age_ms: int = 0
