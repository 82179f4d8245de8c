"""Another model answers where the one that was asked for can't: only by the request's or a policy's leave.

The answer bears the asked name; `x-swarm-model` and `x-swarm-fallback` say what happened.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from sidecar.core.attempts import Progress
from sidecar.core.candidate import Warmth
from sidecar.core.fallbacks import category_of, nearest
from sidecar.core.fallbacks import chain as chained
from sidecar.core.reserve import is_reserve
from sidecar.dataplane.budget import retry_free
from sidecar.dataplane.changing import plan_change
from sidecar.dataplane.hedging import Hedges
from sidecar.dataplane.plan import Plan, plan_instead, plan_request, read_content
from sidecar.dataplane.reading import MUTATIONS
from swarmplane.errors import Code, SwarmError
from swarmplane.fallbacks import NO_FALLBACKS
from swarmplane.providers import use_of

if TYPE_CHECKING:
    from sidecar.dataplane.peek import Peek
    from sidecar.dataplane.server import DataPlane
    from sidecar.routing.view import View
    from swarmplane.routes import ModelRoute

_UNAVAILABLE: Final = frozenset(
    {Code.MODEL_NOT_FOUND, Code.MODEL_LOADING, Code.NO_REPLICA, Code.DRAINING, Code.SATURATED}
)
_FAILED: Final = frozenset({Code.UPSTREAM_FAILED, Code.UPSTREAM_TIMEOUT})
"""After these, asking another one is a retry and spends its budget."""
_MOST_MODELS: Final = 256
_MOST_ENDPOINTS: Final = 8
"""Of one model: looked at for a loaded one."""


class Falls(Hedges):
    """A request that may go to another model before its client got a byte."""

    __slots__ = ()

    def _planned(self, now_s: float) -> Plan:
        """See :class:`sidecar.dataplane.attempting.Attempts`; a loaded model may be taken for a cold one."""
        connection, request = self.connection, self.request
        make = plan_change if request.head.path in MUTATIONS else plan_request
        plan = make(self._plane, request, connection.peer, now_s, connection.client)
        if plan.view.table.fallbacks.substitute_loaded and not plan.final:
            return self._warm(plan)
        return plan

    def _falls_back(self, error: SwarmError) -> bool:
        """Whether it goes on with another model instead of being refused with ``error``."""
        code, plan, plane = error.code, self.plan, self._plane
        if self.connection.peer is not None or not (code in _UNAVAILABLE or code in _FAILED):
            return False
        if self.request.head.path in MUTATIONS:
            return False
        if code in _FAILED and not (plan is not None and plan.stateless and retry_free(plane)):
            return False
        if plan is None or self._chain is None:
            self._chain = _names(plane.routes.view, plan.content if plan is not None else None, self)
        started_s = self._started_s
        for name, wished in self._chain:
            try:
                instead = plan_instead(plane, self.request, name, started_s, wished=wished)
            except SwarmError:
                continue
            if time.monotonic() < instead.deadline_s and not plane.draining:
                self._go_to(instead, retried=code in _FAILED)
                return True
        return False

    def _go_to(self, plan: Plan, *, retried: bool) -> None:
        plane, before = self._plane, self._progress
        plane.active.add(self)
        plane.retry_line.pop(self, None)
        self.plan = self._plan = plan
        self._planned_s = time.monotonic()
        # How many may be full counts for each model; how many are asked, and fail, for the request.
        self._progress = Progress(
            stateless=plan.stateless,
            attempts=before.attempts,
            failures=before.failures,
            timed_out=before.timed_out,
        )
        if retried:
            self._again(0.0)
            return
        if self.noted.asked:
            plane.counters.moves += 1
            self.noted.moves += 1
        self._next()

    def _warm(self, plan: Plan) -> Plan:
        """``plan``, or that of a loaded model where nobody has the asked one loaded and policy allows it."""
        view, content = plan.view, plan.content
        if self.connection.peer is not None or content.keeps or _refuses(content, self):
            return plan
        plane = self._plane
        candidates = plane.routes.resolve(plan.model, plane.clock_s()).candidates
        if not candidates or any(_is_warm(one.facts.warmth) for one in islice(candidates, _MOST_ENDPOINTS)):
            return plan
        name = _loaded_alike(plane, view, plan.model)
        if name is None:
            return plan
        try:
            return plan_instead(plane, self.request, name, self._started_s)
        except SwarmError:
            return plan


def _names(view: View, content: Peek | None, request: Falls) -> Iterator[tuple[str, bool]]:
    """Who may answer, first to last, and whether it was the client who named it."""
    found = content or read_content(request.request)
    if found.keeps or _refuses(found, request):
        return iter(())
    route, policy = view.find(found.model), view.table.fallbacks
    wished = found.wish.models if found.wish is not None else ()
    reserve = [name for name in view.index.clouds(found.model) if is_reserve(view.models[name])]
    if not (wished or reserve) and policy is NO_FALLBACKS and (route is None or not route.fallbacks):
        return iter(())
    names = chain(_chained(view, found.model, route, wished, request), reserve)
    return ((name, name in wished) for name in names)


def _chained(
    view: View, asked: str, route: ModelRoute | None, wished: tuple[str, ...], request: Falls
) -> Iterator[str]:
    policy = view.table.fallbacks
    category, size_bytes = _kind(asked, route)
    own = route.fallbacks if route is not None else ()
    names = chained(asked, size_bytes, category, wished=wished, own=own, rules=policy.rules)
    for name in names:
        other = view.find(name)
        if other is not None and (route is None or other.name != route.name):
            yield name
    if policy.substitute_loaded and route is not None:
        found = _loaded_alike(request._plane, view, route.name)  # noqa: SLF001
        if found is not None and found not in names:
            yield found


def _refuses(content: Peek, request: Falls) -> bool:
    """Whether the client wants this model or none."""
    no = request.request.head.option(b"x-swarm-no-fallback").casefold()
    return no in {"1", "true", "yes"} or (content.wish is not None and content.wish.off)


def _kind(name: str, route: ModelRoute | None) -> tuple[str, int]:
    """Category and size."""
    if route is None:
        return category_of(name), 0
    traits = [endpoint.traits for endpoint in route.endpoints[:_MOST_ENDPOINTS]]
    capabilities = {word for one in traits for word in one.capabilities}
    return category_of(route.name, capabilities), max((one.size_bytes for one in traits), default=0)


def _is_warm(warmth: Warmth) -> bool:
    return warmth in {Warmth.LOADED, Warmth.LOADING}


def _loaded_alike(plane: DataPlane, view: View, model: str) -> str | None:
    """The loaded model of the same category whose size is nearest. Looks at some of a swarm's models only."""
    route = view.find(model)
    category, size_bytes = _kind(model, route)
    sizes = []
    for other in islice(view.models.values(), _MOST_MODELS):
        if other is route or not _has_loaded(plane, other):
            continue
        kind, size = _kind(other.name, other)
        if kind == category:
            sizes.append((str(other.name), size))
    return nearest(size_bytes, sizes)


def _has_loaded(plane: DataPlane, route: ModelRoute) -> bool:
    # What costs money is taken where a policy names it, never because it is there.
    usable = (e for e in route.endpoints if e.ready and not e.draining and not use_of(e.kind))
    return any(
        plane.routes.facts_of(endpoint).warmth is Warmth.LOADED
        for endpoint in islice(usable, _MOST_ENDPOINTS)
    )
