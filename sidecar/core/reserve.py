"""Models of providers in the cloud, by the names that they have there: a reserve for those of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sidecar.core.candidate import Candidate
from swarmplane.ids import ModelName
from swarmplane.providers import LAST, NAMED, NEVER, plain, use_of
from swarmplane.routes import ModelRoute


def clouds(models: Mapping[ModelName, ModelRoute]) -> Mapping[str, tuple[ModelName, ...]]:
    """Names of the models of providers, by what they are called there, in lower case. O(models)."""
    found: dict[str, tuple[ModelName, ...]] = {}
    for name, route in models.items():
        if any(use_of(endpoint.kind) for endpoint in route.endpoints):
            key = plain(name).casefold()
            found[key] = (*found.get(key, ()), name)
    return found


def is_reserve(route: ModelRoute) -> bool:
    """Whether somebody offers ``route`` for when nobody else can serve the model that it is."""
    return any(use_of(endpoint.kind) == LAST for endpoint in route.endpoints)


def allowed(candidates: Sequence[Candidate], *, local_only: bool, unasked: bool) -> Sequence[Candidate]:
    """``candidates`` without providers that the request must not go to. Keeps order.

    Args:
        candidates: Of one model.
        local_only: The client wants its request to stay on its host: no provider is on it.
        unasked: Nobody named the model: those that want to be named are left out.
    """
    if not (local_only or unasked) or not any(use_of(one.endpoint.kind) for one in candidates):
        return candidates
    barred = frozenset({NEVER, LAST, NAMED} if local_only else {NEVER, NAMED})
    return [one for one in candidates if use_of(one.endpoint.kind) not in barred]
