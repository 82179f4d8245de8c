"""What one look at a backend found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from sidecar.backends.figures import Figures
from sidecar.core.residents import Resident
from swarmplane.inventory import BackendModel

NO_FIGURES: Final = Figures()


class Health(Enum):
    """Outcome of one look, in the word that people see."""

    OK = "ok"
    BUSY = "busy"
    """It took the connection but did not answer in time: serial servers do that while they generate."""
    LOADING = "loading"
    NEEDS_KEY = "needs key"
    """It refuses the key it was shown, or wants one."""
    UNREACHABLE = "unreachable"
    FAILING = "failing"
    """It answers, but not as it should."""
    NODE = "is a node"
    """It is a node of a swarm: forwarding to it could go round in circles."""
    STRANGER = "not a backend"
    """Something else listens there."""
    FOREIGN = "another user's"
    """It is shown and not used, until somebody names it."""
    OFF = "off"
    """Nobody is to use it: it is not asked."""
    UNKNOWN = "not checked yet"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look found. ``models`` and figures stand only where it is OK."""

    health: Health
    reason: str = ""
    """For people; no addresses, no secrets."""
    kind: str = ""
    models: tuple[BackendModel, ...] | None = ()
    """None: not asked, as they were."""
    slots: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    defaults: tuple[tuple[bytes, bytes], ...] = ()
    """Header lines for requests that say nothing of the name."""
    figures: Figures = NO_FIGURES
    residents: Mapping[str, Resident] = field(default_factory=dict)
    """What is loaded with which context, by the backend's spelling, where it tells."""
    dialects: frozenset[str] | None = None
    """Which it speaks itself; None: not asked, as they were."""
    more: bool = False
    """Whether it has more to tell at once."""
