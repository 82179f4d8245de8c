"""Who this sidecar is on the hop and in answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from swarmplane.ids import NodeId, SwarmId


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A node of a swarm. A host that joined none has no identity, only a name."""

    node_id: NodeId
    node_name: str
    swarm_id: SwarmId
    swarm_name: str = ""
    fingerprint: str = ""
    """SHA-256 of the swarm's CA key, as join tokens have it."""
    join_addresses: Callable[[], tuple[str, ...]] = tuple
    """``host:port`` of enrolment listeners, as known now."""
