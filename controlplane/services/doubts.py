"""What instances wrote of their silent nodes, and what of it has come true: kept from the watch (ADR 23)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from controlplane.core.doubts import Doubt
from controlplane.services import keyspace
from controlplane.services.mirror import Mirror, Turn
from controlplane.store.port import Compare, Delete, Operation, Put, modified
from swarmplane.clock import Clock
from swarmplane.codec import records
from swarmplane.ids import InstanceId, NodeId


class Doubts:
    """Keeps itself by subscribing to ``mirror``; build it before whoever asks it in the same turn.

    Every instance counts down for itself from when it was told: no time of day crosses the wire, and a new
    controller knows what the last one knew.
    """

    def __init__(self, mirror: Mirror, clock: Clock) -> None:
        self._mirror = mirror
        self._clock = clock
        self._ends_s: dict[str, Mapping[Doubt, float]] = {}
        """By instance, when each of its doubts has lasted a lease."""
        mirror.subscribe(self._turn)

    def of(self, instance: InstanceId) -> frozenset[Doubt]:
        """What ``instance`` wrote, but for what is void."""
        return frozenset(doubt for doubt in self._ends_s.get(instance, ()) if self._stands(doubt))

    def about(self, node: NodeId, session: int) -> bool:
        """Whether somebody wrote that he does not hear ``session`` of ``node``."""
        return any(Doubt(node, session) in ends_s for ends_s in self._ends_s.values())

    def run_out(self) -> Mapping[NodeId, Doubt]:
        """Those whose silence has lasted a lease, and nobody took it back."""
        now_s = self._clock.now_s()
        return {
            doubt.node: doubt
            for ends_s in self._ends_s.values()
            for doubt, at_s in ends_s.items()
            if at_s <= now_s and self._stands(doubt)
        }

    def without(self, over: AbstractSet[Doubt]) -> Iterator[tuple[Compare, Operation]]:
        """What takes ``over`` out of the records, each on the condition that it is as it was read."""
        now_s = self._clock.now_s()
        for name, ends_s in self._ends_s.items():
            if not ends_s.keys() & over:
                continue
            kv = self._mirror.below(keyspace.DOUBTS)[name]
            left = {d: at_s - now_s for d, at_s in ends_s.items() if d not in over and self._stands(d)}
            yield modified(kv.key, kv.mod_revision), written(InstanceId(name), left)

    def leftover(self, instance: InstanceId) -> Iterator[tuple[Compare, Operation]]:
        """What takes away records of dead instances that say nothing any more; ``instance`` is not dead."""
        for name in self._ends_s.keys() - self._mirror.below(keyspace.INSTANCES).keys() - {instance}:
            if not self.of(InstanceId(name)):
                kv = self._mirror.below(keyspace.DOUBTS)[name]
                yield modified(kv.key, kv.mod_revision), Delete(kv.key)

    def _stands(self, doubt: Doubt) -> bool:
        kv = self._mirror.below(keyspace.MEMBERS).get(doubt.node)
        return kv is not None and kv.mod_revision == doubt.session

    def _turn(self, turn: Turn) -> None:
        now_s = self._clock.now_s()
        for change in turn.changes:
            if change.prefix != keyspace.DOUBTS:
                continue
            if change.after is None:
                self._ends_s.pop(change.name, None)
                continue
            record = records.parse(records.Doubts, change.after.value)
            self._ends_s[change.name] = {
                Doubt(NodeId(one.node_id), one.session): now_s + one.left_s for one in record.nodes
            }


def written(instance: InstanceId, left_s: Mapping[Doubt, float]) -> Operation:
    """What makes these the doubts of ``instance``, with the seconds that each has left."""
    key = keyspace.doubts(instance)
    if not left_s:
        return Delete(key)
    nodes = [
        records.Doubt(node_id=doubt.node, session=doubt.session, left_s=max(0.0, seconds))
        for doubt, seconds in sorted(left_s.items(), key=lambda item: item[0].node)
    ]
    return Put(key, records.Doubts(nodes=nodes).SerializeToString())
