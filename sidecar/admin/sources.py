"""What the admin listener shows, as the parts of this process offer it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.routing.current import CurrentRoutes
from swarmplane.clock import Clock
from swarmplane.errors import UnavailableError
from swarmplane.exposition import Family

Document = Mapping[str, Any]


async def _settled() -> None:
    """Nothing is left to count."""


async def _nothing_to_reload() -> Document:
    return {"applied": [], "restart_needed": []}


def _no_traces(_limit: int) -> Sequence[Document]:
    return ()


async def _no_doctor() -> Document:
    raise UnavailableError("there is no doctor here")


@dataclass(frozen=True, slots=True)
class Sources:
    """Read on demand, on the event loop; none of them waits, but for ``settle``."""

    routes: CurrentRoutes
    clock: Clock
    config: Callable[[], Document]
    """Settings in force, without secrets."""
    version: str
    joined: bool
    requests: Callable[[], Sequence[Document]]
    """Requests in flight."""
    control: Callable[[], Document]
    """State of the control stream: at least ``connected``."""
    metrics: Callable[[], Sequence[Family]]
    """Families of the data plane's counters."""
    set_log_level: Callable[[str], None]
    """Raises InvalidRequestError for a level that does not exist."""
    traces: Callable[[int], Sequence[Document]] = _no_traces
    """At most so many requests that ended lately, the last first."""
    backends: Callable[[], Sequence[Document]] = tuple
    """Inference servers of this host."""
    reload: Callable[[], Awaitable[Document]] = _nothing_to_reload
    """Reads the settings again; says which keys were applied and which need a restart.

    Raises InvalidRequestError for settings that are wrong; nothing has changed then.
    """
    examine: Callable[[], Awaitable[Document]] = _no_doctor
    """What ``swarmctl doctor --json`` finds, within 20 s.

    Raises UnavailableError where it finds nothing.
    """
    settle: Callable[[], Awaitable[None]] = _settled
    """Awaited before metrics and traces are shown: counts what has ended by now, which takes milliseconds."""

    def unready(self) -> list[str]:
        """Why requests should not be sent here; empty: they may."""
        view = self.routes.view
        reasons = []
        if self.joined and view.table.version.generation == 0:
            reasons.append("no route table yet: no control-plane instance has answered and none is on disk")
        if view.draining:
            reasons.append("draining")
        return reasons
