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


@dataclass(frozen=True, slots=True)
class Hearing:
    """What one stream is told of."""

    endpoints: frozenset[EndpointId]
    nodes: frozenset[NodeId]
    """Their owners."""


@dataclass(frozen=True, slots=True)
class _Known:
    version: int
    uses: frozenset[ModelName] | None
    hearing: Hearing | None


class Audience:
    """Apertures of the live table, looked up once a stream and change."""

    def __init__(self, table: LiveTable) -> None:
        self._table = table
        self._apertures = Apertures()
        self._changed = True
        self._known: dict[NodeId, _Known] = {}
        table.subscribe(self._news)

    def hearing(self, session: Session) -> Hearing | None:
        """Of whom ``session`` is told; None: of everybody."""
        if self._changed:
            self._changed = False
            models = self._table.history.models
            self._apertures.replace(
                {name: tuple(endpoint.id for endpoint in route.endpoints) for name, route in models.items()}
            )
        known = self._known.get(session.node)
        if known is None or known.version != self._apertures.version or known.uses != session.uses:
            known = _Known(self._apertures.version, session.uses, self._hearing(session))
            self._known[session.node] = known
        return known.hearing

    def endpoints(self, session: Session, told: frozenset[EndpointId]) -> frozenset[EndpointId]:
        """Those of ``told`` that concern ``session``."""
        hearing = self.hearing(session)
        return told if hearing is None else told & hearing.endpoints

    def nodes(self, session: Session, told: frozenset[NodeId]) -> frozenset[NodeId]:
        """Those of ``told`` that concern ``session``."""
        hearing = self.hearing(session)
        return told if hearing is None else told & hearing.nodes

    def uses(self, session: Session, models: Iterable[ModelName]) -> frozenset[EndpointId]:
        """The node says which models its clients use. Returns endpoints that it was not told of before."""
        before = self.hearing(session)
        session.uses = frozenset(list(models)[:MOST_USES])
        after = self.hearing(session)
        if after is None:
            return frozenset()
        return after.endpoints - before.endpoints if before is not None else after.endpoints

    def drop(self, node: NodeId) -> None:
        """It left."""
        self._known.pop(node, None)

    def _hearing(self, session: Session) -> Hearing | None:
        says = features.INTEREST in session.features
        endpoints = self._apertures.heard(session.node, session.uses or () if says else None)
        if endpoints is None:
            return None
        return Hearing(endpoints, frozenset(map(owner_of, endpoints)))

    def _news(self, news: News) -> None:
        self._changed |= news.table
