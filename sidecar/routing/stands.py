"""How endpoints stand: what is known of each, kept as candidates until something of it changes.

Between two requests hardly anything changes but how many requests run where: a candidate is kept for each
such number, and what a model's endpoints offer together for all such numbers of theirs, so that most requests
make and compare none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Final

from sidecar.core.candidate import Candidate
from sidecar.core.candidates import Candidates, Places
from sidecar.core.choosing import FULL_SCAN, SAMPLED
from sidecar.core.limits import Limits
from sidecar.core.load import FRESH_S, EndpointLoad, Estimate, Seen, estimate
from sidecar.core.strategies import effective, front_by_load
from sidecar.routing.conditions import Conditions
from sidecar.routing.counting import Counts
from sidecar.routing.view import View
from swarmplane.ids import EndpointId, NodeId
from swarmplane.routes import Endpoint, ModelRoute

_MOST_KEPT: Final = 64
"""Of one endpoint: more run at the same time where there is no limit."""
_MOST_OFFERS: Final = 4096
"""Of all models together, 0.4 KB each; a few of one model where its endpoints are as busy as each other."""


class Offer:
    """What a model's endpoints offer while as much runs there as now."""

    __slots__ = ("candidates", "front", "until_s")

    def __init__(
        self, candidates: Sequence[Candidate], front: Sequence[Candidate] | None = None, until_s: float = inf
    ) -> None:
        self.candidates = candidates
        self.front = front
        """Those whom the model's strategy puts first, as likely as each other; None: it has to be asked."""
        self.until_s = until_s


_Counts = tuple[int | None, ...]
"""Requests at each endpoint of a group; None: none."""


class Stand:
    """An endpoint of the view."""

    __slots__ = ("endpoint", "id", "made", "offers", "until_s")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.id = endpoint.id
        self.made: dict[int, Candidate] = {}
        """Candidates by how many requests we count there."""
        self.until_s = inf
        """So long they hold: a report becomes too old."""
        self.offers: list[dict[_Counts, Offer]] = []
        """Of the groups that it is in."""

    def changed(self) -> None:
        """Something of it did: nothing that was made holds any more."""
        self.made.clear()
        self.forget_offers()

    def forget_offers(self) -> None:
        """Those of all its groups."""
        for offers in self.offers:
            offers.clear()


class Group:
    """A model's endpoints that may serve, where they are several and nothing was learned of them."""

    __slots__ = ("endpoints", "ids", "limits", "offers", "places", "route", "stands", "strategy")

    def __init__(self, route: ModelRoute, strategy: str, stands: list[Stand], own: NodeId) -> None:
        self.route = route
        self.strategy = strategy
        """What is used unless the request names another one."""
        self.stands = stands
        self.endpoints = [stand.endpoint for stand in stands]
        self.ids = [stand.id for stand in stands]
        self.places = Places(self.endpoints, own)
        self.limits = Limits(self.endpoints)
        self.offers: dict[_Counts, Offer] = {}
        """By how many requests we count at each endpoint."""
        for stand in stands:
            stand.offers.append(self.offers)


class Stands:
    """Candidates of all endpoints. Lives on the event loop; nothing here waits.

    Args:
        view: Whose endpoints they are.
        counts: Of requests; to be told of with :meth:`changed` where it is not the number in flight.
        conditions: Of hosts; to be told of with :meth:`changed_at`.
    """

    __slots__ = (
        "_by_id",
        "_by_node",
        "_conditions",
        "_counts",
        "_learned_slots",
        "_name",
        "_offers",
        "_seen",
        "_view",
    )

    def __init__(self, view: View, counts: Counts, conditions: Conditions) -> None:
        self._counts = counts
        self._conditions = conditions
        self._seen: dict[EndpointId, Seen] = {}
        self._learned_slots: Mapping[EndpointId, int] = {}
        self._by_id: dict[EndpointId, Stand] = {}
        self._by_node: dict[NodeId, list[Stand]] = {}
        self._offers = 0
        """As many as are kept, or more."""
        self.show(view)

    # -- what changes -------------------------------------------------------------------------------------

    def show(self, view: View) -> None:
        """The endpoints are those of ``view`` now."""
        self._view = view
        self._name = view.node_name(view.node)
        self._by_id.clear()
        self._by_node.clear()

    def changed(self, endpoint: EndpointId) -> None:
        """Something of ``endpoint`` did."""
        stand = self._by_id.get(endpoint)
        if stand is not None:
            stand.changed()

    def changed_at(self, node: NodeId) -> None:
        """Something of all endpoints of ``node`` did."""
        for stand in self._by_node.get(node, ()):
            stand.changed()

    def take(self, load: EndpointLoad, received_s: float) -> bool:
        """An owner's report; False if it is older than the last one."""
        before = self._seen.get(load.endpoint)
        if before is not None and before.received_s > received_s:
            return False
        self._seen[load.endpoint] = Seen(load, received_s)
        self.changed(load.endpoint)
        return True

    def set_outside(self, endpoint: EndpointId, count: int) -> None:
        """So many requests that did not come through the swarm are with the own ``endpoint``."""
        if self._counts.set_outside(endpoint, count):
            self.changed(endpoint)

    def set_learned_slots(self, slots: Mapping[EndpointId, int]) -> None:
        """Slots of own endpoints whose number nobody names but which were learned."""
        if slots != self._learned_slots:
            self._learned_slots = slots
            self.changed_at(self._view.node)

    def keep(self, nodes: Iterable[str]) -> None:
        """Forget reports about others than ``nodes``."""
        self._seen = {key: seen for key, seen in self._seen.items() if key.partition("/")[0] in nodes}

    # -- what is known ------------------------------------------------------------------------------------

    def learned_slots(self, endpoint: EndpointId) -> int:
        """0: none were."""
        return self._learned_slots.get(endpoint, 0)

    def load(self, endpoint: EndpointId, now_s: float) -> Estimate:
        """Of another node's endpoint."""
        own = self._counts.total(endpoint)
        return estimate(self._seen.get(endpoint), own=own, origin=self._view.node, now_s=now_s)

    def of(self, endpoint: Endpoint) -> Stand:
        """How ``endpoint`` of the present view stands."""
        stand = self._by_id.get(endpoint.id)
        if stand is None or stand.endpoint is not endpoint:
            stand = self._by_id[endpoint.id] = Stand(endpoint)
            self._by_node.setdefault(endpoint.node, []).append(stand)
        return stand

    def candidate(self, endpoint: Endpoint, now_s: float) -> Candidate:
        """``endpoint`` of the present view with what is known of it at ``now_s``; 0.3 µs."""
        stand = self.of(endpoint)
        count = self._counts.totals.get(stand.id, 0)
        if now_s <= stand.until_s:
            made = stand.made.get(count)
            if made is not None:
                return made
        return self._make(stand, count, now_s)

    def group(self, route: ModelRoute, ready: Sequence[Endpoint]) -> Group:
        """The endpoints of ``route`` that are ``ready``."""
        strategy = effective(route.strategy, self._view.table.default_strategy)
        return Group(route, strategy, [self.of(endpoint) for endpoint in ready], self._view.node)

    def offer(self, group: Group, now_s: float) -> Offer:
        """The candidates of ``group``; 0.4 µs where it was the same lately, many are made when looked at."""
        if len(group.ids) > FULL_SCAN:
            view = self._view
            return Offer(
                Candidates(group.endpoints, view.node, lambda one: self.candidate(one, now_s), group.places)
            )
        counts = tuple(map(self._counts.totals.get, group.ids))
        known = group.offers.get(counts)
        if known is not None and now_s <= known.until_s:
            return known
        return self._offered(group, counts, now_s)

    def _offered(self, group: Group, counts: _Counts, now_s: float) -> Offer:
        found, until_s = [], inf
        for stand, counted in zip(group.stands, counts, strict=True):
            count = counted or 0
            made = stand.made.get(count)
            if made is None or now_s > stand.until_s:
                made = self._make(stand, count, now_s)
            found.append(made)
            until_s = min(until_s, stand.until_s)
        front = front_by_load(found, group.strategy) if group.strategy in SAMPLED else None
        if self._offers >= _MOST_OFFERS:
            self._offers = 0
            for stand in self._by_id.values():
                stand.forget_offers()
        self._offers += 1
        offer = group.offers[counts] = Offer(tuple(found), front, until_s)
        return offer

    def _make(self, stand: Stand, count: int, now_s: float) -> Candidate:
        if now_s > stand.until_s or len(stand.made) >= _MOST_KEPT:
            stand.made.clear()
        endpoint, view = stand.endpoint, self._view
        if endpoint.node == view.node:
            # Never suspect: that others miss our heartbeats says nothing about our own backends.
            made = Candidate(
                endpoint,
                local=True,
                node_name=self._name,
                in_flight=count + self._counts.outside(stand.id),
                queued=self._counts.queued(stand.id),
                slots=endpoint.slots or self._learned_slots.get(stand.id, 0),
                load_known=True,
                facts=self._conditions.of(endpoint),
            )
        else:
            seen = self._seen.get(stand.id)
            load = estimate(seen, own=count, origin=view.node, now_s=now_s)
            stand.until_s = seen.received_s + FRESH_S if seen is not None and load.known else inf
            entry = view.table.nodes.get(endpoint.node)
            made = Candidate(
                endpoint,
                local=False,
                peer_addresses=entry.peer_addresses if entry is not None else (),
                node_name=view.node_name(endpoint.node),
                in_flight=load.in_flight,
                queued=load.queued,
                slots=load.slots or endpoint.slots,
                suspect=endpoint.node in view.suspects,
                load_known=load.known,
                facts=self._conditions.of(endpoint),
            )
        stand.made[count] = made
        return made
