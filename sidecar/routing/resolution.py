"""What a name resolves to: endpoints to ask, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sidecar.core.candidate import Candidate, Facts, Warmth
from swarmplane.errors import Code
from swarmplane.ids import ModelName
from swarmplane.routes import Endpoint, ModelRoute, RouteTable

State = Literal["ready", "loading", "absent", "draining", "saturated"]

_CODES: Final[dict[State, Code]] = {
    "loading": Code.MODEL_LOADING,
    "absent": Code.NO_REPLICA,
    "draining": Code.DRAINING,
    "saturated": Code.SATURATED,
}


@dataclass(frozen=True, slots=True)
class Resolution:
    """``candidates`` in no order; empty unless ``state`` is ``ready``."""

    route: ModelRoute | None
    """None: nobody knows the name."""
    candidates: Sequence[Candidate] = ()
    state: State = "absent"
    wait_s: float = 0.0
    """With ``saturated``: the least time until an endpoint may be asked again."""

    @property
    def model(self) -> ModelName | None:
        """The canonical name."""
        return None if self.route is None else self.route.name

    @property
    def code(self) -> Code | None:
        """The error to answer where there is no candidate; None where there is one."""
        if self.candidates:
            return None
        return Code.MODEL_NOT_FOUND if self.route is None else _CODES.get(self.state, Code.NO_REPLICA)

    def strategy(self, table: RouteTable) -> str:
        """The model's own balancing strategy, or the swarm's."""
        return (self.route.strategy if self.route is not None else "") or table.default_strategy


def load_left_s(route: ModelRoute | None, facts: Callable[[Endpoint], Facts]) -> float:
    """Least estimate of those that load ``route``, in seconds; 0: nobody says. O(endpoints)."""
    known = (
        [facts(endpoint) for endpoint in route.endpoints if not endpoint.ready] if route is not None else []
    )
    left = (one.load_left_s for one in known if one.warmth is Warmth.LOADING and one.load_left_s > 0)
    return min(left, default=0.0)


def unready(route: ModelRoute, waits: list[float], *, loading: bool, draining: bool) -> Resolution:
    """Why nothing may serve ``route`` now; ``waits`` are the seconds until full endpoints may be asked."""
    state: State = "absent"
    if waits:
        state = "saturated"
    elif loading:
        state = "loading"
    elif draining:
        state = "draining"
    return Resolution(route, (), state, min(waits, default=0.0))
