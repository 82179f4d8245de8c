"""What the control plane tells of a swarm, as values: plain, immutable, without generated messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

from swarmplane.conditions import Condition
from swarmplane.fallbacks import NO_FALLBACKS, FallbackPolicy
from swarmplane.inventory import Gpu
from swarmplane.routes import Version
from swarmplane.traits import UNKNOWN_TRAITS, Traits

T = TypeVar("T")
ChangeKind: TypeAlias = Literal["put", "removed", "bookmark"]


@dataclass(frozen=True, slots=True)
class NodeBackend:
    """An inference server on a node."""

    name: str
    kind: str
    healthy: bool
    reason: str = ""
    """Why it is not healthy."""
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PushState:
    """What a node was sent of the route table, and what it said to it."""

    sent: Version = field(default_factory=Version)
    acked: Version = field(default_factory=Version)
    nacked: Version = field(default_factory=Version)
    nack_reason: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A host of the swarm."""

    id: str
    name: str
    state: str
    """live, suspect or gone."""
    cordoned: bool = False
    founder: bool = False
    models: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    peer_addresses: tuple[str, ...] = ()
    unreachable_reason: str = ""
    client_url: str = ""
    backends: tuple[NodeBackend, ...] = ()
    software_version: str = ""
    platform: str = ""
    memory_bytes: int = 0
    cpu: str = ""
    """Name of its processor; empty: unknown."""
    cpus: int = 0
    gpus: tuple[Gpu, ...] | None = None
    """None: unknown."""
    disk_bytes: int = 0
    """Of the disk that holds its data; 0: unknown."""
    gateway_url: str = ""
    """Where clients of other machines are meant to ask; empty: it is no gateway."""
    condition: Condition | None = None
    """How the host is now; None: nothing is known."""
    session: int = 0
    instance_id: str = ""
    """The instance that holds its stream."""
    silent_s: float | None = None
    """Since it was heard; None where nobody hears it."""
    push: PushState = field(default_factory=PushState)
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy of a model."""

    node_id: str
    node_name: str
    backend: str
    state: str
    slots: int = 0
    context_length: int = 0
    """Tokens; 0 where unknown."""


@dataclass(frozen=True, slots=True)
class Model:
    """A language model, as the swarm has it."""

    name: str
    state: str
    aliases: tuple[str, ...] = ()
    context_length: int = 0
    """Tokens; 0 where unknown."""
    size_bytes: int = 0
    replicas: tuple[Replica, ...] = ()
    revision: int = 0
    traits: Traits = UNKNOWN_TRAITS
    """Of its weights."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A further name of a model, or a pattern of names."""

    name: str
    model: str
    """Canonical name of the model that answers."""
    state: str = ""
    """Of that model: ready, loading, absent or unknown; hidden: a model has this name itself, and wins."""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Enrolment:
    """How nodes enrol."""

    open: bool
    """Whether they need no token."""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """What people want of balancing."""

    model: str = ""
    """Canonical name; empty: the swarm."""
    strategy: str = ""
    """Empty: for a model as the swarm's, for the swarm the built-in one."""
    revision: int = 0
    """0: never set."""
    chain: tuple[str, ...] = ()
    """Of a model: models that may answer where it can't, in this order."""
    fallbacks: FallbackPolicy = NO_FALLBACKS
    """Of the swarm: rules, substitution, and what may be pulled."""
    context: str = ""
    """About requests that make a server load a model again with another context: ``strip``, ``warn`` or
    ``passthrough``; empty: for a model as the swarm, for the swarm ``strip``."""


@dataclass(frozen=True, slots=True)
class Token:
    """A join token's facts, without its secret."""

    id: str
    role: str
    uses: int
    """Granted; 0: no limit."""
    used: int
    state: str
    """active, expired, used_up or revoked."""
    created_at_s: int = 0
    """Unix seconds, as :attr:`expires_at_s`."""
    created_by: str = ""
    expires_at_s: int = 0
    """0: until revoked."""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made. Its secret is here and nowhere else."""

    token: Token
    join_token: str = field(repr=False)
    join_addresses: tuple[str, ...] = ()
    """Where it is spent; empty: on this machine only."""


@dataclass(frozen=True, slots=True)
class Election:
    """Who decides."""

    name: str
    holder: str = ""
    """Id of an instance; empty: nobody now."""
    epoch: int = 0
    holder_addresses: tuple[str, ...] = ()
    elected_at_s: int = 0
    """Unix seconds; 0: nobody holds it."""
    candidates: tuple[str, ...] = ()
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``bookmark``: nothing was missed; ``gap``: events are lost for good."""

    revision: int
    kind: str
    subject: str = ""
    """Id of the thing."""
    name: str = ""
    message: str = ""
    """For people."""


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One change of a watch: ``item`` as it stands now, or gone; a bookmark: nothing was missed so far."""

    kind: ChangeKind
    revision: int
    name: str = ""
    item: T | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a list, all of one revision."""

    items: tuple[T, ...]
    next_page_token: str = ""
    """Empty: nothing follows."""
