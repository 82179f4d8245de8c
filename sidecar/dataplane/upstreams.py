"""Where requests go: destinations of candidates, and what their answers teach about them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from sidecar.core.attempts import Decision
from sidecar.core.candidate import Candidate
from sidecar.core.load import parse_load
from sidecar.dataplane.peer_tls import PeerTls
from sidecar.dataplane.policy import DataPlanePolicy
from sidecar.dataplane.pool import Destination, Pool
from sidecar.dataplane.ports import Backends, Clock
from sidecar.routing.current import CurrentRoutes
from swarmplane.addresses import parse_address
from swarmplane.errors import InvalidRequestError
from swarmplane.ids import EndpointId, NodeId

if TYPE_CHECKING:
    from sidecar.backends.target import Target

_MOST_FULL: Final = 4096
"""Endpoints whose refusals are counted; those that come and go must not add up."""

_OUR_KEY: Final = frozenset({401, 402})
"""It does not know the key; it wants to be paid."""
_REMEMBERED_TEXT: Final = 128
_parse_known = functools.lru_cache(maxsize=4096)(parse_load)
"""An owner's figures come again and again, with every answer."""


class Upstreams:
    """Pools of connections to this host's backends and to peers."""

    def __init__(
        self,
        routes: CurrentRoutes,
        backends: Backends,
        policy: DataPlanePolicy,
        tls: PeerTls | None,
        *,
        clock: Clock,
        draw: Clock,
    ) -> None:
        self._routes = routes
        self._backends = backends
        self._policy = policy
        self._tls = tls
        self._clock_s = clock
        self._draw = draw
        self._backend_pool = Pool()
        self._peer_pool = Pool()
        self._targets: dict[str, Target] = {}
        self._suspects: frozenset[NodeId] = frozenset()
        self.full: dict[EndpointId, int] = {}
        """How often in a row endpoints answered "full"; those that served since are not in it."""
        routes.subscribe(self._routes_changed)
        if tls is not None:
            # Peers go by the certificate that a connection began with, and that one ends.
            tls.subscribe(self._peer_pool.clear)

    def adopt(self, policy: DataPlanePolicy) -> None:
        """Go by ``policy`` from now on; what waits already was told how long."""
        self._policy = policy
        for pool, idle_s in (
            (self._backend_pool, policy.idle_backend_s),
            (self._peer_pool, policy.idle_peer_s),
        ):
            for destination in pool:
                destination.adopt(idle_s=idle_s, most_idle=policy.max_idle)

    def destination(self, candidate: Candidate) -> Destination | None:
        """Where to send a request for ``candidate``; None where nothing is known of it."""
        if not candidate.local:
            return self._peer(candidate)
        name = candidate.endpoint.backend
        target = self._backends.targets.get(name)
        if target is None:
            return None
        if self._targets.get(name) is target:
            known = self._backend_pool.get(name)
            if known is not None:
                return known
        self._targets[name] = target
        destination = Destination(
            ((target.host, target.port),),
            idle_s=self._policy.idle_backend_s,
            most_idle=self._policy.max_idle,
            public=target.tls,
            ca_file=target.ca_file,
            server_name=target.host,
        )
        return self._backend_pool.add(name, destination)

    def _peer(self, candidate: Candidate) -> Destination | None:
        node, tls = candidate.endpoint.node, self._tls
        if tls is None or not candidate.peer_addresses:
            return None
        known = self._peer_pool.get(node)
        if known is not None and known.label is candidate.peer_addresses:
            return known
        try:
            parsed = [parse_address(address) for address in candidate.peer_addresses]
        except InvalidRequestError:
            return None
        addresses = tuple((address.host, address.port) for address in parsed)
        if known is not None and known.addresses == addresses:
            known.label = candidate.peer_addresses
            return known
        destination = Destination(
            addresses,
            idle_s=self._policy.idle_peer_s,
            most_idle=self._policy.max_idle,
            context=tls.client_context,
            server_name=tls.server_name(node),
            verify=lambda connection: tls.called(connection, node),
            peer=True,
        )
        destination.label = candidate.peer_addresses
        return self._peer_pool.add(node, destination)

    def sweep(self, now_s: float) -> None:
        """Housekeeping."""
        self._backend_pool.sweep(now_s)
        self._peer_pool.sweep(now_s)
        if len(self.full) > _MOST_FULL:
            self.full.clear()

    def close(self) -> None:
        """Close every connection that waits."""
        self._backend_pool.clear()
        self._peer_pool.clear()

    # -- what answers teach -------------------------------------------------------------------------------

    def reached(self, candidate: Candidate, took_s: float) -> None:
        """A connection to it was made; with a peer that takes two round trips: TCP's, then TLS's."""
        node = candidate.endpoint.node
        if not candidate.local:
            self._routes.reached(node)
            self._routes.balancer.history.node(node).answered_after(took_s / 2.0)

    def learn(self, candidate: Candidate, decision: Decision) -> None:
        """Record what the end of an attempt says about its endpoint."""
        endpoint, now_s = candidate.endpoint, self._clock_s()
        if decision.learn_gone:
            self._routes.learn_gone(endpoint.id, now_s)
            if candidate.local:
                self._backends.report_missing_model(endpoint.backend, endpoint.model)
        if decision.unreachable:
            if candidate.local:
                self._backends.report_failure(endpoint.backend)
            else:
                self._routes.connect_failed(endpoint.node, now_s, self._draw())
                self._peer_pool.drop(endpoint.node)
        if decision.full_hold_s:
            # Answers to requests that were sent together count once.
            if not self._routes.overlay.full_for_s(endpoint.id, now_s):
                self.full[endpoint.id] = self.full.get(endpoint.id, 0) + 1
            self._routes.hold_full(endpoint.id, now_s + decision.full_hold_s)

    def refused_us(self, candidate: Candidate | None, status: int) -> bool:
        """Whether an answer with ``status`` refuses our own key, not the client's: it is looked at again."""
        if status not in _OUR_KEY or candidate is None or not candidate.local:
            return False
        target = self._backends.targets.get(candidate.endpoint.backend)
        if target is None or not target.headers:
            return False
        self._backends.report_failure(candidate.endpoint.backend)
        return True

    def served(self, candidate: Candidate | None) -> None:
        """It serves: what it refused before does not count any more. Call it only while :attr:`full`."""
        if candidate is not None:
            self.full.pop(candidate.endpoint.id, None)

    def learn_load(self, candidate: Candidate, text: str | None) -> None:
        """Take the load that an owner's answer carries; None: it carries none."""
        if not text:
            return
        read = _parse_known if len(text) <= _REMEMBERED_TEXT else parse_load
        load = read(candidate.endpoint.id, text)
        if load is not None:
            self._routes.take_load(load, self._clock_s())

    def load_line(self, candidate: Candidate | None) -> bytes:
        """The header with this owner's load of ``candidate``; empty where there is nothing to say."""
        text = self._routes.load_text(candidate.endpoint.id) if candidate is not None else ""
        return b"x-swarm-load: %b\r\n" % text.encode() if text else b""

    def _routes_changed(self) -> None:
        suspects = self._routes.view.suspects
        for node in suspects - self._suspects:
            # Waiting connections to it may be dead; those in use end by their own time-outs.
            self._peer_pool.drop(node)
        self._suspects = suspects
