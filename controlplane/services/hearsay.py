"""What other instances told of the nodes connected to them. Evidence, as fresh as the link to its source."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from swarmplane.ids import InstanceId, NodeId


class Hearsay:
    """By instance: the nodes it suspects. An instance without a link says nothing."""

    def __init__(self) -> None:
        self._suspects: dict[InstanceId, frozenset[NodeId]] = {}
        self._subscribers: list[Callable[[], None]] = []

    @property
    def linked(self) -> AbstractSet[InstanceId]:
        """Instances that tell us of their nodes now."""
        return self._suspects.keys()

    def subscribe(self, act: Callable[[], None]) -> None:
        """Call ``act`` when suspicions changed."""
        self._subscribers.append(act)

    def suspected(self, instance: InstanceId, node: NodeId) -> bool:
        """Whether ``instance`` said that it suspects ``node``."""
        return node in self._suspects.get(instance, ())

    def told(self, instance: InstanceId, suspects: frozenset[NodeId]) -> None:
        """``instance`` suspects exactly these of its nodes."""
        changed = self._suspects.get(instance) != suspects
        self._suspects[instance] = suspects
        if changed:
            self._tell()

    def lost(self, instance: InstanceId) -> None:
        """The link to ``instance`` is gone: what it said is void."""
        if self._suspects.pop(instance, None):
            self._tell()

    def _tell(self) -> None:
        for act in self._subscribers:
            act()
