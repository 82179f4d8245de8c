"""Who hears of whom: in a large swarm a stream is told of endpoints that its node may send to, not of all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from controlplane.core.aperture import Apertures
from controlplane.core.loads import owner_of
from controlplane.services.live_table import LiveTable, News
from controlplane.services.sessions import Session
from swarmplane import features
from swarmplane.ids import EndpointId, ModelName, NodeId

MOST_USES: Final = 64
"""Models that a node may say it uses; of more the first count."""
REMEMBERED_S: Final = 10.0
"""So long a model counts as used after it was named last."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What one stream is told of."""

    endpoints: frozenset[EndpointId]
    nodes: frozenset[NodeId]
    """Their owners."""


@dataclass(frozen=True, slots=True)
class _Known:
    version: int
    features: frozenset[str]
    uses: frozenset[ModelName] | None
    hearing: Hearing | None


class Audience:
    """Apertures of the live table, looked up once a stream and change."""

    def __init__(self, table: LiveTable) -> None:
        self._table = table
        self._apertures = Apertures()
        self._changed = True
        self._known: dict[NodeId, _Known] = {}
        self._named: dict[NodeId, dict[ModelName, float]] = {}
        """When each node named each model last; the one named longest ago first."""
        table.subscribe(self._news)

    def hearing(self, session: Session) -> Hearing | None:
        """Of whom ``session`` is told; None: of everybody."""
        if self._changed:
            self._changed = False
            models = self._table.history.models
            self._apertures.replace(
                {name: tuple(endpoint.id for endpoint in route.endpoints) for name, route in models.items()}
            )
        known, now = self._known.get(session.node), (self._apertures.version, session.features, session.uses)
        if known is None or (known.version, known.features, known.uses) != now:
            known = self._known[session.node] = _Known(*now, self._hearing(session))
        return known.hearing

    def endpoints(self, session: Session, told: frozenset[EndpointId]) -> frozenset[EndpointId]:
        """Those of ``told`` that concern ``session``."""
        hearing = self.hearing(session)
        return told if hearing is None else told & hearing.endpoints

    def nodes(self, session: Session, told: frozenset[NodeId]) -> frozenset[NodeId]:
        """Those of ``told`` that concern ``session``."""
        hearing = self.hearing(session)
        return told if hearing is None else told & hearing.nodes

    def uses(self, session: Session, models: Iterable[ModelName], now_s: float) -> frozenset[EndpointId]:
        """The node says which models its clients use. Returns endpoints that it was not told of before.

        A model counts for ``REMEMBERED_S`` after it was named last: clients that take turns between two do
        not have everything told again at each turn.
        """
        before = self.hearing(session)
        named = self._named.setdefault(session.node, {})
        for model in list(models)[:MOST_USES]:
            named.pop(model, None)
            named[model] = now_s
        while named and (len(named) > MOST_USES or now_s - next(iter(named.values())) > REMEMBERED_S):
            del named[next(iter(named))]
        session.uses = frozenset(named)
        after = self.hearing(session)
        if after is None:
            return frozenset()
        return after.endpoints - before.endpoints if before is not None else after.endpoints

    def drop(self, node: NodeId) -> None:
        """It left."""
        self._known.pop(node, None)
        self._named.pop(node, None)

    def _hearing(self, session: Session) -> Hearing | None:
        says = features.INTEREST in session.features
        endpoints = self._apertures.heard(session.node, session.uses or () if says else None)
        if endpoints is None:
            return None
        return Hearing(endpoints, frozenset(map(owner_of, endpoints)))

    def _news(self, news: News) -> None:
        self._changed |= news.table
