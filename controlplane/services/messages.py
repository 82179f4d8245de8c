"""What goes to sidecars, as values; ``rpc/sidecar.py`` gives them their form on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarmplane.conditions import NodeCondition
from swarmplane.ids import InstanceId, NodeId
from swarmplane.policies import Policy
from swarmplane.prefixes import EndpointPrefixes
from swarmplane.routes import Version


@dataclass(frozen=True, slots=True)
class Hello:
    """Who opens a stream."""

    node: NodeId
    incarnation: str
    last_version: Version = field(default_factory=Version)
    features: frozenset[str] = frozenset()
    peer_addresses: tuple[str, ...] = ()
    software_version: str = ""
    platform: str = ""
    client_url: str = ""
    inventory: bytes | None = None
    """What the node has, as it was sent; None: it says so later."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The stream is the node's session now."""

    session: int
    generation: int
    lease_ttl_s: float
    heartbeat_s: float
    load_interval_s: float
    instance: InstanceId
    control_addresses: tuple[str, ...]
    node_name: str
    features: frozenset[str]
    swarm_name: str
    prefix_key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class TableUpdate:
    """A table (snapshot) or what changed in it."""

    parts: tuple[bytes, ...]
    """Encoded: the same bytes go to many streams."""
    nonce: int


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """What holds for the whole swarm."""

    policy: Policy
    nonce: int


@dataclass(frozen=True, slots=True)
class Suspects:
    """All nodes that are suspected now."""

    nodes: frozenset[NodeId]


@dataclass(frozen=True, slots=True)
class LoadNews:
    """What other nodes carry, as far as it changed."""

    entries: tuple[bytes, ...]
    """Encoded: the same bytes go to many streams."""
    load_interval_s: float
    """Not oftener than so should nodes say theirs."""


@dataclass(frozen=True, slots=True)
class ConditionNews:
    """How other nodes are, as far as it changed."""

    nodes: tuple[NodeCondition, ...]


@dataclass(frozen=True, slots=True)
class PrefixNews:
    """What other nodes have cached, as far as it changed."""

    endpoints: tuple[EndpointPrefixes, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """Whom would the node ask?"""

    query_id: int
    model: str
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class InstanceNews:
    """Where instances are now, ``host:port``; the one that tells first."""

    control_addresses: tuple[str, ...]
    join_addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DrainOrder:
    """Take nothing new, or go on again."""

    draining: bool
    drain_s: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """The stream ends, or never began."""

    code: str
    message: str
    retry: bool = True
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Redirection:
    """Go to another instance."""

    control_addresses: tuple[str, ...]


Message = (
    Welcome
    | TableUpdate
    | PolicyChange
    | Suspects
    | LoadNews
    | ConditionNews
    | PrefixNews
    | Question
    | DrainOrder
    | InstanceNews
    | Refusal
    | Redirection
)
