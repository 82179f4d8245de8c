"""Who can't be reached by others, folded from what sidecars report: evidence, never a decision."""

from __future__ import annotations

from swarmplane.ids import NodeId


class Reachability:
    """The last report of every node about every peer."""

    def __init__(self) -> None:
        self._reports: dict[NodeId, dict[NodeId, str]] = {}

    def report(self, reporter: NodeId, peer: NodeId, reason: str) -> None:
        """``reporter`` can't reach ``peer`` for ``reason``; empty: it can."""
        self._reports.setdefault(peer, {})[reporter] = reason

    def drop(self, node: NodeId) -> None:
        """``node`` broke off: what it said is void, what others said of it stands."""
        for reports in self._reports.values():
            reports.pop(node, None)

    def forget(self, node: NodeId) -> None:
        """``node`` was removed."""
        self._reports.pop(node, None)
        self.drop(node)

    def unreachable_reason(self, node: NodeId) -> str:
        """A sentence where every node that reported on ``node`` fails to reach it; else empty."""
        reports = self._reports.get(node, {})
        if not reports or not all(reports.values()):
            return ""
        reason = reports[min(reports)]
        return f"{len(reports)} other node(s) can't reach it: {reason}"
