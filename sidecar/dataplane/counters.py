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
    upstream_connections: int = 0
    """Made."""
    bytes_in: int = 0
    """Of request bodies."""
    bytes_out: int = 0
    """Of answers to clients and peers."""
    malformed: int = 0
    faults: int = 0
    """Errors in our own code, caught at the edge."""
    served: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    """Requests for models by dialect, canonical model, node that served and outcome: ``completed``,
    ``cancelled``, ``broken`` or ``rejected``. What is too many kinds is counted as ``other``."""
    rejected: dict[Code, int] = field(default_factory=lambda: dict.fromkeys(Code, 0))
    """Errors we answered ourselves, by code."""

    def ended(self, path: bytes, model: str, node: str, outcome: str) -> None:
        """A request for a model is over."""
        dialect = "anthropic" if path.startswith(b"/v1/messages") else "openai"
        key = (dialect, model, node, outcome)
        served = self.served
        if key not in served and len(served) >= _MOST_KINDS:
            key = (_OTHER, _OTHER, _OTHER, outcome)
        served[key] = served.get(key, 0) + 1


_MOST_KINDS = 500
_OTHER = "other"
