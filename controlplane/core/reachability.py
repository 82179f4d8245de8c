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
        """``node`` left, or came anew: what it said, and what was said of it, is void."""
        self._reports.pop(node, None)
        for reports in self._reports.values():
            reports.pop(node, None)

    def unreachable_reason(self, node: NodeId) -> str:
        """A sentence where every node that reported on ``node`` fails to reach it; else empty."""
        reports = self._reports.get(node, {})
        if not reports or not all(reports.values()):
            return ""
        reason = reports[min(reports)]
        return f"{len(reports)} other node(s) can't reach it: {reason}"
