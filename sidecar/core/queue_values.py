"""What goes into the owner's queue and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from math import inf

MIB = 1024 * 1024


class Priority(IntEnum):
    """Classes of requests, the most urgent first; values of ``x-swarm-priority``."""

    INTERACTIVE = 0
    DEFAULT = 1
    BULK = 2

    @classmethod
    def of(cls, text: str) -> Priority:
        """The class called ``text``; DEFAULT for anything else."""
        return _PRIORITIES.get(text, cls.DEFAULT)


_PRIORITIES = {priority.name.lower(): priority for priority in Priority}


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """Bounds of one class in one queue."""

    length: int
    """Requests that may wait."""
    size_bytes: int
    """Their bodies together."""
    max_wait_s: float
    """Longest wait, moves included; then the client is told to come again."""
    starve_s: float = inf
    """Once its oldest request waits for so long, the class gets a share of slots ahead of higher ones."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """Constants of a queue. One queue per model of this node."""

    interactive: ClassPolicy = ClassPolicy(256, 64 * MIB, 300.0)
    default: ClassPolicy = ClassPolicy(512, 128 * MIB, 600.0, starve_s=30.0)
    bulk: ClassPolicy = ClassPolicy(1024, 128 * MIB, 1800.0, starve_s=120.0)
    overdue_every: int = 4
    """While a class is overdue, at least one of so many grants is its own; they take turns."""
    preempt: bool = True
    assumed_service_s: float = 5.0
    """Time a request holds a slot, before any was measured."""

    def of(self, priority: Priority) -> ClassPolicy:
        """The bounds of a class."""
        return (self.interactive, self.default, self.bulk)[priority]


@dataclass(frozen=True, slots=True)
class Asking:
    """A request that wants a slot."""

    key: str
    """Whose it is, for fair shares: API key id, else the client."""
    since_s: float
    """When it began to wait anywhere: now, less its ``x-swarm-queued-ms``."""
    priority: Priority = Priority.DEFAULT
    size_bytes: int = 0
    deadline_s: float = inf
    """When the client does not want it any more."""
    preferred: str = ""
    """Endpoint to take if it has a free slot (its cache is warm)."""
    only: str = ""
    """The one endpoint that can serve it (node-held ids)."""
    repeatable: bool = True
    """Whether it may be sent again once written (``Progress.stateless``); others are never preempted."""


@dataclass(frozen=True, slots=True)
class Granted:
    """``ticket`` runs now at ``endpoint``. The shell gives ``lease`` back when the backend is idle again."""

    ticket: int
    lease: int
    endpoint: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """It waits; ``ahead`` is an estimate of how many will be served before it."""

    ticket: int
    ahead: int


class Why(Enum):
    """Why a request does not wait (any longer)."""

    FULL = "full"
    """Its class is full, and its key has as much of it as any other."""
    EVICTED = "evicted"
    """Its class is full, and it is the newest of the key with the most requests there."""
    EXPIRED = "expired"
    """Its client's deadline passed."""
    TOO_LONG = "too_long"
    """It waited for as long as its class allows."""


@dataclass(frozen=True, slots=True)
class Refused:
    """``ticket`` is out of the queue; for a request that never was in it, the ticket is 0."""

    why: Why
    wait_s: float
    """Expected wait of a request like it: what goes into Retry-After."""
    ticket: int = 0


@dataclass(frozen=True, slots=True)
class Preempted:
    """The shell cancels what ``lease`` runs (no byte of an answer went out) and releases it when it is over.

    ``ticket`` waits again, with its age, and will get another lease; it is never preempted twice.
    """

    ticket: int
    lease: int


Effect = Granted | Refused | Preempted
