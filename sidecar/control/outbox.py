"""What this node has to say next: one message at a time, most urgent first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sidecar.control.slow_news import SlowNews
from sidecar.engines.status import EngineStatus
from sidecar.routing.current import CurrentRoutes
from swarmplane.codec.inventory import inventory_to_pb
from swarmplane.codec.load import load_entry_to_pb
from swarmplane.codec.policies import pull_report_to_pb
from swarmplane.conditions import Condition
from swarmplane.ids import ModelName, NodeId
from swarmplane.inventory import Inventory
from swarmplane.load import LoadEntry
from swarmplane.pulls import PullReport
from swarmplane.v1 import sidecar_pb2 as pb

LOAD_REFRESH_S: Final = 2.0
"""While anything runs, load is said again this often: figures older than 3 s are unknown to others."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Intervals that Welcome set, in seconds."""

    heartbeat_s: float
    load_interval_s: float


def _unknown() -> Condition | None:
    return None


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Facts:
    """Where a session looks for what it reports."""

    routes: CurrentRoutes
    inventory: Callable[[], Inventory]
    engines: Callable[[], Sequence[EngineStatus]]
    condition: Callable[[], Condition | None] = _unknown
    """How this host is; None: not known yet."""
    settled: Callable[[], bool] = _always
    """Whether the inventory is whole: at the start of the process nothing was looked at."""
    pulls: Callable[[], Sequence[PullReport]] = tuple
    """How pulls go that were told to be made here."""


class Outbox:
    """Decides what to send now and when to look again; one per session. Never waits.

    Inventory and engines are compared, not queued, so that a slow instance costs no memory here.
    """

    def __init__(self, facts: Facts, pace: Pace, now_s: float, said: Inventory | None = None) -> None:
        """``said`` is the inventory that was sent with Hello."""
        self._facts = facts
        self._pace = pace
        self._answers: deque[pb.SidecarMessage] = deque()
        self._sequence = 0
        self._heartbeat_due_s = now_s + pace.heartbeat_s
        self._load_due_s = now_s
        self._load_said_s = now_s
        self._load_revision = -1
        self._uses: frozenset[ModelName] = frozenset()
        self._busy = False
        self._inventory = said
        self._engines: tuple[EngineStatus, ...] | None = None
        self._pulls: dict[str, PullReport] = {}
        self._ejected: frozenset[NodeId] = frozenset()
        self._slow = SlowNews(facts.routes, facts.condition, now_s)

    def answer(self, message: pb.SidecarMessage) -> None:
        """Send ``message`` before anything else: an ACK, a NACK."""
        self._answers.append(message)

    def next(self, now_s: float) -> pb.SidecarMessage | None:
        """What to send now; None: nothing until :meth:`due_s` or a change."""
        if self._answers:
            return self._answers.popleft()
        if now_s >= self._heartbeat_due_s:
            self._heartbeat_due_s = now_s + self._pace.heartbeat_s
            self._sequence += 1
            return pb.SidecarMessage(heartbeat=pb.Heartbeat(sequence=self._sequence))
        return (
            self._inventory_message()
            or self._engine_message()
            or self._pull_message()
            or self._load_message(now_s)
            or self._slow.next(now_s)
        )

    def due_s(self, now_s: float) -> float:
        """When to look again if nothing wakes us. Load changes silently: it is polled."""
        return min(self._heartbeat_due_s, max(self._load_due_s, now_s + self._pace.load_interval_s))

    def slow_down(self, load_interval_s: float) -> None:
        """Say load not oftener than so: the fleet grew, or shrank."""
        self._pace = replace(self._pace, load_interval_s=load_interval_s)

    def reports(self) -> Sequence[pb.SidecarMessage]:
        """Peers that can't be reached since the last call, and those that can be again."""
        nodes = self._facts.routes.view.table.nodes
        overlay = self._facts.routes.overlay
        # An ejection that ran out is no proof of recovery: only an answer removes its entry.
        ejected = frozenset(NodeId(key) for key in overlay.ejected if key in nodes)
        before, self._ejected = self._ejected, ejected
        lost = [(node, False, "it accepts no connection") for node in sorted(ejected - before)]
        back = [(node, True, "") for node in sorted(before - ejected)]
        return [
            pb.SidecarMessage(peer_report=pb.PeerReport(node_id=node, reachable=ok, reason=reason))
            for node, ok, reason in (*lost, *back)
        ]

    def _inventory_message(self) -> pb.SidecarMessage | None:
        inventory = self._facts.inventory()
        if inventory == self._inventory:
            return None
        self._inventory = inventory
        return pb.SidecarMessage(inventory=inventory_to_pb(inventory))

    def _engine_message(self) -> pb.SidecarMessage | None:
        engines = tuple(self._facts.engines())
        if engines == (self._engines or ()):
            return None
        self._engines = engines
        return pb.SidecarMessage(engine_status=pb.EngineStatus(engines=map(_engine, engines)))

    def _pull_message(self) -> pb.SidecarMessage | None:
        """A wish for a model, or how a pull goes that was told to be made here."""
        wanted = self._facts.routes.uses.wanted
        if wanted:
            return pb.SidecarMessage(want_model=pb.WantModel(model=wanted.pop()))
        for report in self._facts.pulls():
            if self._pulls.get(report.model) != report:
                self._pulls[report.model] = report
                return pb.SidecarMessage(pull_report=pull_report_to_pb(report))
        return None

    def _load_message(self, now_s: float) -> pb.SidecarMessage | None:
        uses = self._facts.routes.uses.lately(now_s)
        changed = self._facts.routes.load_revision != self._load_revision or uses != self._uses
        stale = self._busy and now_s - self._load_said_s >= LOAD_REFRESH_S
        if now_s < self._load_due_s or not (changed or stale):
            return None
        report = self._facts.routes.load_report()
        self._load_revision = self._facts.routes.load_revision
        self._uses = uses
        self._busy = any(load.queued or any(load.in_flight_by_origin.values()) for load in report)
        self._load_said_s = now_s
        self._load_due_s = now_s + self._pace.load_interval_s
        entries = [
            LoadEntry(load.endpoint, load.in_flight_by_origin, load.queued, load.slots) for load in report
        ]
        return pb.SidecarMessage(load=pb.Load(endpoints=map(load_entry_to_pb, entries), uses=sorted(uses)))


def _engine(status: EngineStatus) -> pb.Engine:
    return pb.Engine(
        name=status.name,
        model=status.model,
        state=status.state.value,
        reason=status.reason,
        restarts=status.restarts,
        eta_s=status.eta_s,
    )
