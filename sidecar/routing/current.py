"""The routes in use, and the counts of what runs where. Lives on the event loop; nothing here waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sidecar.core import overlay as overlays
from sidecar.core.breaker_group import Admission
from sidecar.core.candidate import Candidate, Facts
from sidecar.core.candidates import Candidates
from sidecar.core.choosing import FULL_SCAN
from sidecar.core.load import EndpointLoad
from sidecar.core.overlay import Overlay
from sidecar.core.prefix import unpack_digest
from sidecar.routing.balancing import Balancer
from sidecar.routing.conditions import Conditions
from sidecar.routing.counting import Counts
from sidecar.routing.listing import ModelListing, listings
from sidecar.routing.resolution import Resolution, unready
from sidecar.routing.stands import Group, Offer, Stands
from sidecar.routing.uses import Uses
from sidecar.routing.view import LONE, View, build_view, named, newcomers, own_endpoints
from swarmplane.conditions import Condition
from swarmplane.ids import EndpointId, NodeId, SwarmId
from swarmplane.inventory import Inventory
from swarmplane.prefixes import EndpointPrefixes
from swarmplane.routes import Endpoint, ModelRoute, RouteTable

_MOST_GROUPS: Final = 4096
_NO_SWARM = RouteTable(SwarmId(""))


class CurrentRoutes:
    """Holds one :class:`View` and swaps it whole; answers what a request may be sent to.

    Args:
        node_id: None on a host that joined no swarm.
        node_name: Of this host, until the table names it.
        clock: Monotonic; the one whose times the other methods are called with.
    """

    def __init__(
        self, node_id: NodeId | None, *, node_name: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._node = node_id or LONE
        self._clock_s = clock
        self.balancer = Balancer()
        self.node_id = self._node
        """This node; ``local`` on a lone host. Our own requests are counted under it."""
        self.view: View = build_view(self._node, _NO_SWARM, {}, own_name=node_name)
        """The present picture, replaced whole and by nobody else. Take it once per request."""
        self._view = self.view
        self._groups: dict[str, Group] = {}
        """By names as clients write them: models of the view that have several endpoints which may serve."""
        self._overlay = self._harmless = Overlay()
        """What was learned; the last one that was seen to leave nobody out."""
        self._counts = Counts()
        self._conditions = Conditions()
        self._stands = Stands(self._view, self._counts, self._conditions)
        self.set_outside = self._stands.set_outside
        self.own_condition: Condition | None = None
        """What this host tells of itself; None: not known yet."""
        self.uses = Uses()
        self._subscribers: list[Callable[[], None]] = []

    @property
    def overlay(self) -> Overlay:
        """What was learned since the table came; for admin."""
        return self._overlay

    @property
    def load_revision(self) -> int:
        """Counts up with every change of :meth:`load_report`."""
        return self._counts.revision

    def now_s(self) -> float:
        """Time on the clock that other methods' times are of."""
        return self._clock_s()

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after every change of :attr:`view`."""
        self._subscribers.append(callback)

    # -- what others tell ---------------------------------------------------------------------------------

    def install(self, table: RouteTable, *, stale: bool = False) -> None:
        """Use ``table`` from now on. ``stale``: it comes from disk.

        Raises:
            ValueError: It is older than the present table of the same generation.
        """
        old, now_s = self._view.table, self._clock_s()
        if table.version.generation == old.version.generation and table.version < old.version:
            raise ValueError(f"table {table.version} is older than {old.version}")
        for node, entry in table.nodes.items():
            before = old.nodes.get(node)
            # A new session is a new life of that sidecar: what failed before says nothing about it.
            if before is not None and before.session != entry.session:
                self._overlay = overlays.reached(self._overlay, node)
        self._show(table=table, stale=stale)
        if old.version.revision:
            for endpoint in newcomers(old, table):
                self.balancer.appeared(endpoint, now_s, own=endpoint in self._view.own)

    def confirm(self) -> None:
        """An instance said that the present table is current."""
        if self._view.stale:
            self._show(stale=False)

    def set_own(self, inventory: Inventory) -> None:
        """This host's backends show ``inventory``."""
        own = named(self._node, self._view.table, own_endpoints(self._node, inventory))
        if own == self._view.own:
            return
        for key, found in own.items():
            before = self._view.own.get(key)
            if before != found:
                # Our own observation is newer than what a request learned.
                self._overlay = overlays.forget(self._overlay, key)
                if before is not None and found.endpoint.ready and not before.endpoint.ready:
                    self.balancer.appeared(key, self._clock_s())
        self._counts.keep_own(own)
        self._show(own=own)

    def set_suspects(self, suspects: frozenset[NodeId]) -> None:
        """These nodes are suspected now; replaces the last set."""
        if suspects != self._view.suspects:
            for node in suspects - self._view.suspects:
                self.balancer.history.node(node).flapped(self._clock_s())
            self._show(suspects=suspects)

    def set_draining(self, *, draining: bool) -> None:
        """Whether this host's own endpoints take no new requests."""
        if draining != self._view.draining:
            self._show(draining=draining)

    def set_load(
        self,
        endpoint: EndpointId,
        in_flight_by_origin: Mapping[str, int],
        queued: int,
        slots: int,
        received_s: float,
    ) -> None:
        """An owner reports what ``endpoint`` carries.

        ``received_s`` is this clock's time less the figure's age when it was sent.
        Reports about own endpoints, and ones older than the last, are ignored.
        """
        self.take_load(EndpointLoad(endpoint, dict(in_flight_by_origin), queued, slots), received_s)

    def take_load(self, load: EndpointLoad, received_s: float) -> None:
        """As :meth:`set_load`; ``load`` is never changed by anybody."""
        endpoint = load.endpoint
        if endpoint in self._view.own or not self._stands.take(load, received_s):
            return
        if (
            self._overlay.full
            and load.slots
            and sum(load.in_flight_by_origin.values()) + load.queued < load.slots
        ):
            self._overlay = overlays.has_room(self._overlay, endpoint)

    def set_condition(self, node: NodeId, condition: Condition | None, until_s: float) -> None:
        """``node`` said how it is; believed until ``until_s``. None: nothing is known of it any more."""
        own = node == self._node
        self._conditions.tell(node, condition, until_s, own=own)
        self._stands.changed_at(node)
        if own:
            self.own_condition = condition

    def set_cached(self, told: EndpointPrefixes) -> None:
        """An owner says which prompts its endpoint has cached. About own endpoints we know better."""
        owner = NodeId(told.endpoint.partition("/")[0])
        if owner != self._node and owner in self._view.table.nodes:
            digest = unpack_digest(told.blocks)
            self.balancer.prefixes.install(told.model, told.endpoint, digest, told.hash_version)

    def _show(self, **changes: object) -> None:
        view = replace(self._view, **changes)  # type: ignore[arg-type]
        if changes.keys() & {"table", "own"}:
            view = build_view(
                view.node,
                view.table,
                view.own,
                suspects=view.suspects,
                stale=view.stale,
                draining=view.draining,
                own_name=view.own_name,
            )
        self.view = self._view = view
        self._groups.clear()
        self._stands.show(view)
        for callback in self._subscribers:
            callback()

    # -- what requests learn ------------------------------------------------------------------------------

    def learn_gone(self, endpoint: EndpointId, now_s: float) -> None:
        """``endpoint`` does not have its model: leave it out until a newer table (or inventory, if own)."""
        self._overlay = overlays.learn_gone(self._overlay, endpoint, self._view.table.version, now_s)

    def hold_full(self, endpoint: EndpointId, until_s: float) -> None:
        """``endpoint`` is full until ``until_s``, or until its owner reports room."""
        self._overlay = overlays.hold_full(self._overlay, endpoint, until_s)

    def eject(self, target: EndpointId | NodeId, until_s: float) -> None:
        """Leave an endpoint or a whole node out until ``until_s`` while others can serve."""
        self._overlay = overlays.eject(self._overlay, target, until_s)

    def connect_failed(self, target: EndpointId | NodeId, now_s: float, draw: float) -> None:
        """Eject ``target`` for a time that grows with every failure in a row."""
        self._overlay = overlays.connect_failed(self._overlay, target, now_s, draw)

    def reached(self, target: EndpointId | NodeId) -> None:
        """``target`` answered; cheap to call for every answer."""
        self._overlay = overlays.reached(self._overlay, target)

    def admits(self, target: EndpointId | NodeId, now_s: float) -> bool:
        """Whether ``target`` is not ejected."""
        return self._overlay.admits(target, now_s)

    def housekeep(self, now_s: float) -> None:
        """Forget overlays and reports without effect; call every few seconds."""
        self._overlay = overlays.pruned(self._overlay, self._view.table.version, now_s)
        for node in self._conditions.housekeep(now_s):
            self._stands.changed_at(node)
        nodes = self._view.table.nodes
        self.balancer.housekeep(now_s, lambda key: key.partition("/")[0] in nodes or key in self._view.own)
        self._stands.keep(nodes)

    # -- counting -----------------------------------------------------------------------------------------

    def begin(self, endpoint: EndpointId, origin: str) -> None:
        """A request that entered at node ``origin`` is now with ``endpoint``."""
        self._counts.begin(endpoint, origin)

    def begin_within(self, endpoint: EndpointId, origin: str, limit: int) -> bool:
        """:meth:`begin`, if fewer than ``limit`` are with it."""
        return self._counts.begin_within(endpoint, origin, limit)

    def end(self, endpoint: EndpointId, origin: str) -> None:
        """It is not any more: the backend is idle again."""
        self._counts.end(endpoint, origin)
        if endpoint in self._overlay.full:
            self._left_room(endpoint)

    def _left_room(self, endpoint: EndpointId) -> None:
        """One of our own ended at an ``endpoint`` that said it is full: by its last report, is it still?"""
        load = self._stands.load(endpoint, self._clock_s())
        if load.known and load.in_flight + load.queued < load.slots:
            self._overlay = overlays.has_room(self._overlay, endpoint)

    def in_flight(self, endpoint: EndpointId) -> int:
        """Requests of ours (at own endpoints: of everybody's) that ``endpoint`` serves."""
        return self._counts.total(endpoint)

    def set_queued(self, endpoint: EndpointId, queued: int) -> None:
        """So many requests wait for a slot of the own ``endpoint``."""
        if self._counts.set_queued(endpoint, queued):
            self._stands.changed(endpoint)

    def set_learned_slots(self, slots: Mapping[EndpointId, int]) -> None:
        """Slots of own endpoints whose number nobody names but which were learned."""
        self._stands.set_learned_slots(slots)

    def load_report(self) -> tuple[EndpointLoad, ...]:
        """What own endpoints carry: every one that served anything since it appeared."""
        return tuple(load for key in self._counts.seen if (load := self.load_of(key)) is not None)

    def load_of(self, endpoint: EndpointId) -> EndpointLoad | None:
        """What the own ``endpoint`` carries; None if it is not ours."""
        own = self._view.own.get(endpoint)
        if own is None:
            return None
        return EndpointLoad(
            endpoint,
            self._counts.by_origin(endpoint),
            self._counts.queued(endpoint),
            own.endpoint.slots or self._stands.learned_slots(endpoint),
        )

    def load_text(self, endpoint: EndpointId) -> str:
        """:meth:`load_of` as it crosses the hop; empty if it is not ours."""
        own = self._view.own.get(endpoint)
        if own is None:
            return ""
        return self._counts.text(endpoint, own.endpoint.slots or self._stands.learned_slots(endpoint))

    # -- resolving ----------------------------------------------------------------------------------------

    def names(self) -> tuple[ModelListing, ...]:
        """Every known model, by name."""
        return listings(self._view, self._conditions.of)

    def resolve(self, asked: str, now_s: float, *, local_only: bool = False) -> Resolution:
        """What may serve the model that a client calls ``asked``.

        ``local_only`` leaves other nodes' endpoints out: the owner's side of a hop, and clients who want it.
        Endpoints known to be gone or full are left out; ejected ones too, unless nothing else is left.
        """
        if not local_only:
            found = self.several(asked, now_s)
            if found is not None:
                return Resolution(found[0].route, found[1].candidates, "ready")
        route = self._view.index.find(asked)
        if route is None:
            return Resolution(None)
        learned = bool(self._overlay.gone or self._overlay.full)
        return self._resolved(asked, route, now_s, learned=learned, local_only=local_only)

    def several(self, asked: str, now_s: float) -> tuple[Group, Offer] | None:
        """What may serve ``asked``, where that follows from the view alone; None: see :meth:`resolve`.

        Nearly always nothing is gone, full or ejected, and nobody has just returned.
        """
        group = self._groups.get(asked)
        if group is None:
            return None
        overlay, balancer = self._overlay, self.balancer
        if overlay is not self._harmless:
            if overlay.gone or overlay.full:
                return None
            if not overlay.ejected:
                self._harmless = overlay
        self.uses.at_s[group.route.name] = now_s
        if overlay.ejected or balancer.returned or balancer.breakers.out:
            return group, Offer(self._candidates(group.endpoints, now_s))
        return group, self._stands.offer(group, now_s)

    def _resolved(
        self, asked: str, route: ModelRoute, now_s: float, *, learned: bool, local_only: bool
    ) -> Resolution:
        view, overlay = self._view, self._overlay
        ready: list[Endpoint] = []
        waits: list[float] = []
        loading = draining = False
        for endpoint in route.endpoints:
            own = endpoint.node == self._node
            if (own and endpoint.id not in view.own) or (local_only and not own):
                continue
            if endpoint.draining or (own and view.draining):
                draining = True
            elif not endpoint.ready:
                loading |= not own or view.own[endpoint.id].loading
            elif learned and overlay.is_gone(endpoint.id, view.table.version, now_s):
                continue
            elif learned and (wait_s := overlay.full_for_s(endpoint.id, now_s)):
                waits.append(wait_s)
            else:
                ready.append(endpoint)
        if ready:
            if len(ready) > 1:
                self.uses.note(route.name, now_s)
                if not learned and not local_only and len(self._groups) < _MOST_GROUPS:
                    self._groups[asked] = self._stands.group(route, ready)
            return Resolution(route, self._candidates(ready, now_s), "ready")
        return unready(route, waits, loading=loading, draining=draining)

    def _candidates(self, ready: list[Endpoint], now_s: float) -> Sequence[Candidate]:
        if len(ready) == 1:
            return (self.candidate(ready[0], now_s),)
        overlay, balancer, left = self._overlay, self.balancer, ready
        if overlay.ejected:
            left = [e for e in ready if overlay.admits(e.id, now_s) and overlay.admits(e.node, now_s)]
        # Never the last candidates: a wrong belief about all of them must not become an outage.
        admission = balancer.admitted(left or ready, now_s)
        if len(admission.endpoints) > FULL_SCAN:
            return self._many(admission, now_s)
        found = [self.candidate(endpoint, now_s) for endpoint in admission.endpoints]
        if admission.doubted:
            doubted = admission.doubted
            found = [replace(c, suspect=True) if c.endpoint.id in doubted else c for c in found]
        if balancer.returned:
            found = [balancer.started(candidate, now_s) for candidate in found]
        return tuple(found)

    def _many(self, admission: Admission, now_s: float) -> Candidates:
        """So many that a request looks at a few of them only."""
        balancer = self.balancer

        def make(endpoint: Endpoint) -> Candidate:
            found = self.candidate(endpoint, now_s)
            if endpoint.id in admission.doubted:
                found = replace(found, suspect=True)
            return balancer.started(found, now_s) if balancer.returned else found

        return Candidates(admission.endpoints, self._node, make)

    def facts_of(self, endpoint: Endpoint) -> Facts:
        """What its owner tells of ``endpoint`` and of the host it is on."""
        return self._conditions.of(endpoint)

    def candidate(self, endpoint: Endpoint, now_s: float) -> Candidate:
        """``endpoint`` of the present view with what is known of it at ``now_s``."""
        return self._stands.candidate(endpoint, now_s)
