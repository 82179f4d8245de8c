"""The outcome of a choice: candidates in the order in which they are to be asked, found as far as needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sidecar.core import cost
from sidecar.core.candidate import Candidate
from sidecar.core.choosing_picks import lowest_first, pick, weight
from sidecar.core.choosing_rules import Row
from sidecar.core.cost import Breakdown, Excluded
from sidecar.core.strategies import order


@dataclass(slots=True)
class Prices:
    """Candidates that were priced: those to choose from, and the ``barred`` ones with the reasons."""

    rows: list[Row] = field(default_factory=list)
    barred: list[Row] = field(default_factory=list)
    excluded: list[tuple[Candidate, Excluded]] = field(default_factory=list)

    @property
    def everyone(self) -> list[Row]:
        """Those to choose from, then the barred ones."""
        return self.rows + self.barred


class Choice(Iterator[Candidate]):
    """Candidates, the one to ask first in front; later ones are only ordered when they are asked for.

    As many as its length are still to come. Every request with a choice makes one: 0.5 µs.

    Attributes:
        strategy: The one that was used.
    """

    __slots__ = ("_all", "_draw", "_first", "_left", "_ordered", "_prices", "_rows", "strategy")

    def __init__(
        self,
        strategy: str,
        candidates: Sequence[Candidate],
        prices: Prices | None = None,
        *,
        draw: float = 0.0,
        ordered: Iterable[Candidate] | None = None,
        first: Candidate | None = None,
    ) -> None:
        self.strategy = strategy
        self._all = candidates
        self._draw = draw
        self._first = first
        self._left = len(candidates)
        self._ordered = iter(ordered) if ordered is not None else None
        self._prices = prices
        self._rows: list[Row] | None = None
        if prices is not None:
            self._rows = list(prices.rows or prices.barred)
            if prices.rows:
                self._left -= len(prices.excluded)

    @property
    def excluded(self) -> Sequence[tuple[Candidate, Excluded]]:
        """Who can't serve it, of those that were priced; they are not given."""
        return self._prices.excluded if self._prices is not None else ()

    @property
    def relaxed(self) -> bool:
        """Everyone was excluded: estimates err, so all are given nevertheless, cheapest first."""
        prices = self._prices
        return prices is not None and not prices.rows and bool(prices.barred)

    def __len__(self) -> int:
        return self._left

    def __iter__(self) -> Choice:
        return self

    def __next__(self) -> Candidate:
        left, rows = self._left, self._rows
        if not left:
            raise StopIteration
        self._left = left - 1
        if self._first is not None and left == len(self._all):
            return self._first
        if rows:
            if len(rows) == 1:
                return rows.pop()[1]
            place, self._draw = pick(
                [row[0] for row in rows], lambda place: weight(rows[place][1]), self._draw
            )
            return rows.pop(place)[1]
        if self._ordered is None:
            self._ordered = iter(self._others())
        return next(self._ordered)

    pop = __next__
    """As of a list of which the next one is the last."""

    def _others(self) -> Sequence[Candidate]:
        if self._prices is None:
            return order([c for c in self._all if c is not self._first], self.strategy, self._draw)
        # The priced ones were given, or are excluded.
        seen = {row[1].endpoint.id for row in self._prices.everyone}
        return lowest_first([c for c in self._all if c.endpoint.id not in seen], self._draw)

    def breakdowns(self) -> tuple[Breakdown, ...]:
        """Every priced candidate as it stood at the decision, cheapest first, excluded ones last.

        Empty where the strategy prices nothing; :meth:`Chooser.explain` prices all.
        """
        if self._prices is None:
            return ()
        reasons = {candidate.endpoint.id: reason for candidate, reason in self.excluded}
        found = [
            cost.breakdown(c, terms, reasons.get(c.endpoint.id)) for _, c, terms in self._prices.everyone
        ]
        return tuple(sorted(found, key=lambda b: (b.excluded is not None, b.cost_s, b.candidate.endpoint.id)))
