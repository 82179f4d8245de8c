"""Load reports of all nodes, folded into what others are told. Never stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from swarmplane.ids import EndpointId, NodeId
from swarmplane.load import LoadEntry

FRESH_S: Final = 3.0
"""Older reports are of no use to anybody."""
MOST_OF_A_NODE: Final = 2048
"""Endpoints of one node that are known: as many as count in a table."""


@dataclass(frozen=True, slots=True)
class _Report:
    entry: LoadEntry
    taken_s: float


class LoadBoard:
    """The newest report on every endpoint; of one node on at most ``MOST_OF_A_NODE``."""

    def __init__(self) -> None:
        self._reports: dict[NodeId, dict[EndpointId, _Report]] = {}

    def fold(self, node: NodeId, entries: Iterable[LoadEntry], now_s: float) -> frozenset[EndpointId]:
        """Take in what ``node`` says of its own endpoints; what it says of others' is ignored.

        Of too many those told of longest ago are dropped. Returns the endpoints that others should hear of.
        """
        own = {
            e.endpoint: _Report(e, now_s - e.age_ms / 1000) for e in entries if owner_of(e.endpoint) == node
        }
        if not own:
            return frozenset()
        reports = self._reports.setdefault(node, {})
        for key, report in own.items():
            reports.pop(key, None)
            reports[key] = report
        while len(reports) > MOST_OF_A_NODE:
            del reports[next(iter(reports))]
        return frozenset(own.keys() & reports.keys())

    def drop(self, node: NodeId) -> frozenset[EndpointId]:
        """``node`` left: what it said is void. Returns of which endpoints."""
        return frozenset(self._reports.pop(node, {}))

    def fresh(self, endpoint: EndpointId, now_s: float) -> tuple[LoadEntry, int] | None:
        """What was told of ``endpoint``, and its age in ms at ``now_s``; None: nothing fresh is known."""
        report = self._report(endpoint)
        if report is None or now_s - report.taken_s >= FRESH_S:
            return None
        return report.entry, max(0, round((now_s - report.taken_s) * 1000))

    def of(self, nodes: Iterable[NodeId]) -> frozenset[EndpointId]:
        """Endpoints of ``nodes`` of which there is a report."""
        return frozenset(key for node in nodes for key in self._reports.get(node, ()))

    def in_flight(self, node: NodeId) -> int:
        """Requests that the endpoints of ``node`` serve or hold queued, as it said last.

        It says so on every change, so its last word holds while its stream does.
        """
        return sum(
            report.entry.queued + sum(report.entry.in_flight_by_origin.values())
            for report in self._reports.get(node, {}).values()
        )

    def digest(self, endpoints: Iterable[EndpointId], now_s: float) -> tuple[LoadEntry, ...]:
        """What is known and fresh of ``endpoints``, with its age at ``now_s``."""
        found = (self.fresh(endpoint, now_s) for endpoint in endpoints)
        return tuple(replace(entry, age_ms=age_ms) for entry, age_ms in filter(None, found))

    def _report(self, endpoint: EndpointId) -> _Report | None:
        return self._reports.get(owner_of(endpoint), {}).get(endpoint)


def owner_of(endpoint: EndpointId) -> NodeId:
    """The node in an endpoint's id."""
    return NodeId(endpoint.partition("/")[0])
