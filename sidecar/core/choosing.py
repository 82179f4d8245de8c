"""Which candidate to ask first, and which next: the strategies of DESIGN section 3 over the cost's terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sidecar.core import cost
from sidecar.core.candidate import Candidate, Warmth
from sidecar.core.candidates import Candidates, ids_of, places_of
from sidecar.core.choice import Choice, Prices
from sidecar.core.choosing_picks import lowest_first, spread, two_of, with_room
from sidecar.core.choosing_rules import charge_waiting, drop_credits, free, unstack
from sidecar.core.cost import Ask, Breakdown
from sidecar.core.estimates_history import History
from sidecar.core.prefix_index import PrefixIndex
from sidecar.core.session import Sessions
from sidecar.core.strategies import DEFAULT_STRATEGY, STRATEGIES, by_load, drawn, front_by_load, order
from swarmplane.ids import EndpointId

FULL_SCAN: Final = 16
"""Up to so many candidates all are priced; above, two at random and those who may have the prompt cached."""
MOST_HOLDERS: Final = 2
SAMPLED: Final = frozenset({"least_load", "local_spillover", "local_first"})
"""Strategies by load: above 16 they look at this host and at two others."""


class Chooser:
    """Chooses by what was measured. Reads its parts, changes none: callers record what happens in them.

    A pick by cost takes 10 µs of CPU among 4 and 35 among 16, where prompt and session are known and some are
    full; among 100, of which a few are priced, 37.
    """

    __slots__ = ("_history", "_prefixes", "_sessions")

    def __init__(self, history: History, prefixes: PrefixIndex, sessions: Sessions) -> None:
        self._history = history
        self._prefixes = prefixes
        self._sessions = sessions

    def choose(
        self,
        candidates: Sequence[Candidate],
        ask: Ask,
        *,
        strategy: str,
        draw: float,
        now_s: float,
        front: Sequence[Candidate] | None = None,
    ) -> Choice:
        """The order in which ``candidates`` are to be asked. An unknown ``strategy`` means the default one.

        Args:
            candidates: May be empty; their order matters only to which ties are drawn.
            ask: The request.
            strategy: Of :func:`sidecar.core.strategies.effective`.
            draw: Uniform in [0, 1); the only chance in it.
            now_s: Monotonic time.
            front: What :func:`sidecar.core.strategies.front_by_load` gives, where that is known already.
        """
        if strategy not in STRATEGIES:
            strategy = DEFAULT_STRATEGY
        if strategy in SAMPLED and candidates:
            if len(candidates) > FULL_SCAN:
                return self._sampled_by_load(candidates, strategy, draw)
            first, draw = drawn(front or front_by_load(candidates, strategy), draw)
            return Choice(strategy, candidates, draw=draw, first=first)
        if strategy == "least_cost":
            if len(candidates) > FULL_SCAN:
                return self._sampled(candidates, ask, draw, now_s)
            return Choice(strategy, candidates, self._prices(candidates, ask, now_s), draw=draw)
        if strategy == "latency":
            return self._by_latency(candidates, ask, draw, now_s)
        ordered = order(
            candidates,
            strategy,
            draw,
            turn=ask.turn,
            shard=ask.shard,
            batch=ask.batch,
            preferred=ask.preferred,
        )
        return Choice(strategy, candidates, ordered=ordered)

    def sample(self, endpoints: Sequence[EndpointId], ask: Ask, draw: float, now_s: float) -> Sequence[int]:
        """Which of ``endpoints`` are worth pricing: all up to 16, else two at random and the affine ones.

        For callers who make candidates only of those; :meth:`choose` samples by itself.
        """
        return self._sample(endpoints, None, ask, draw, now_s)

    def _sample(
        self,
        endpoints: Sequence[EndpointId],
        where: Mapping[EndpointId, int] | None,
        ask: Ask,
        draw: float,
        now_s: float,
    ) -> Sequence[int]:
        if len(endpoints) <= FULL_SCAN:
            return range(len(endpoints))
        places = dict.fromkeys(two_of(len(endpoints), draw))
        wanted: set[EndpointId] = set()
        if ask.blocks:
            holders = sorted(self._prefixes.holders(ask.model, ask.blocks))
            wanted.update(endpoint for _, endpoint in holders[-MOST_HOLDERS:])
        session = self._sessions.find(ask.session, now_s)
        if session is not None:
            wanted.add(session.endpoint)
        if wanted:
            where = where if where is not None else {key: place for place, key in enumerate(endpoints)}
            places.update(dict.fromkeys(sorted(where[key] for key in wanted if key in where)))
        return tuple(places)

    def explain(self, candidates: Sequence[Candidate], ask: Ask, *, now_s: float) -> tuple[Breakdown, ...]:
        """All ``candidates`` with their costs, cheapest first: for people, whatever the strategy."""
        return Choice("least_cost", candidates, self._prices(candidates, ask, now_s)).breakdowns()

    # -- least_cost ---------------------------------------------------------------------------------------

    def _sampled(self, candidates: Sequence[Candidate], ask: Ask, draw: float, now_s: float) -> Choice:
        where = candidates.known.by_id if isinstance(candidates, Candidates) else None
        places = self._sample(ids_of(candidates), where, ask, draw, now_s)
        draw = spread(draw)
        some = with_room([candidates[place] for place in places], candidates, draw)
        prices = self._prices(some, ask, now_s)
        if not prices.rows:
            prices = self._prices(candidates, ask, now_s)
        return Choice("least_cost", candidates, prices, draw=draw)

    @staticmethod
    def _sampled_by_load(candidates: Sequence[Candidate], strategy: str, draw: float) -> Choice:
        """This host's own (of many, two) and two others at random; the rest where those do not answer."""
        home = places_of(candidates, local=True) if strategy != "least_load" else []
        if len(home) > FULL_SCAN:
            home = [home[place] for place in two_of(len(home), draw)]
            draw = spread(draw)
        places = dict.fromkeys((*home, *two_of(len(candidates), draw)))
        draw = spread(draw)
        some = with_room([candidates[place] for place in places], candidates, draw)

        def ordered() -> Iterator[Candidate]:
            yield from by_load(some, strategy, draw)
            seen = {c.endpoint.id for c in some}
            yield from lowest_first([c for c in candidates if c.endpoint.id not in seen], draw)

        return Choice(strategy, candidates, ordered=ordered())

    def _prices(self, candidates: Sequence[Candidate], ask: Ask, now_s: float) -> Prices:
        models, cached = self._history.of(ask.model), self._prefixes.of(ask.model) if ask.blocks else {}
        by_node, unknown_node = self._history.by_node, self._history.unknown_node
        by_endpoint, pool = models.by_endpoint, models.pool
        session = self._sessions.find(ask.session, now_s) if ask.session else None
        prices, waiting, needed = Prices(), False, ask.needed_tokens
        rows = prices.rows
        for candidate in candidates:
            endpoint = candidate.endpoint
            key = endpoint.id
            known = cached.get(key) if cached else None
            matched = known.match(ask.blocks) if known is not None else 0
            terms = cost.price(
                candidate,
                ask,
                by_endpoint.get(key, pool),
                pool,
                by_node.get(endpoint.node, unknown_node),
                matched,
                session,
                now_s,
            )
            if needed > endpoint.context_length > 0 or candidate.facts.warmth is not Warmth.LOADED:
                reason = cost.exclusion(candidate, ask)
                if reason is not None:
                    prices.excluded.append((candidate, reason))
                    prices.barred.append((sum(terms), candidate, terms))
                    continue
            rows.append((sum(terms), candidate, terms))
            if 0 < candidate.slots <= candidate.in_flight + candidate.queued:
                waiting = True
        if len(rows) > 1:
            running = session is not None and session.running
            unused = free(rows, models, now_s) if waiting or running else ()
            if running and session is not None and any(not c.in_flight + c.queued for _, c, _ in unused):
                unstack(rows, session)
            if cached:
                drop_credits(rows)
            if waiting and unused:
                charge_waiting(rows, min(row[0] for row in unused))
        return prices

    # -- latency ------------------------------------------------------------------------------------------

    def _by_latency(self, candidates: Sequence[Candidate], ask: Ask, draw: float, now_s: float) -> Choice:
        """Peak-EWMA time to the first token, once for each request there and for this one (Linkerd)."""
        some = candidates
        if len(candidates) > FULL_SCAN:
            some = [candidates[place] for place in two_of(len(candidates), draw)]
            draw = spread(draw)
        models, prices = self._history.of(ask.model), Prices()
        for candidate in some:
            ahead = candidate.in_flight + candidate.queued
            terms = [0.0] * len(cost.TERMS)
            terms[cost.LATENCY] = models.of(candidate.endpoint.id).peak_s(ask.prompt_tokens, now_s)
            terms[cost.QUEUE] = terms[cost.LATENCY] * ahead
            terms[cost.TREND] = cost.SUSPECT_S if candidate.suspect else 0.0
            if not candidate.local:
                terms[cost.HOP] = self._history.of_node(candidate.endpoint.node).round_trip_s
            prices.rows.append((sum(terms), candidate, terms))
        return Choice("latency", candidates, prices, draw=draw)
