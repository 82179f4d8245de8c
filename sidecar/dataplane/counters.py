"""Counts of what the data plane did, made once and only ever added to; the admin listener reads them."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarmplane.errors import Code


@dataclass(slots=True)
class Counters:
    """Since the process started, unless a name says otherwise."""

    connections: int = 0
    """Accepted."""
    open_connections: int = 0
    """Now."""
    requests: int = 0
    hops_in: int = 0
    """Requests that came from peers; part of ``requests``."""
    completed: int = 0
    """Answers sent whole."""
    cancelled: int = 0
    """The client left before its answer was whole."""
    broken: int = 0
    """Answers that ended in an error after their first byte."""
    attempts: int = 0
    replays: int = 0
    retries: int = 0
    moves: int = 0
    hedges: int = 0
    """Second copies that were sent."""
    upstream_connections: int = 0
    """Made."""
    bytes_in: int = 0
    """Of request bodies."""
    malformed: int = 0
    reaped: int = 0
    """Requests and slots that outlived their connection or request: defects, put right."""
    faults: int = 0
    """Errors in our own code, caught at the edge."""
    rejected: dict[Code, int] = field(default_factory=lambda: dict.fromkeys(Code, 0))
    """Errors we answered ourselves, by code."""
