"""What stands in the line of a model: requests with their places, and the queue that decides."""

from __future__ import annotations

from math import inf
from typing import Final, Protocol

from sidecar.core.queue_values import Asking, Refused
from sidecar.core.queueing import OwnerQueue
from sidecar.core.reaper import Reaper
from swarmplane.ids import EndpointId

FREELY: Final = -1
"""The lease of those that run without one."""


class Guest(Protocol):
    """A request that wants a slot. What it is told, it is told once."""

    __slots__ = ()

    def seated(self, place: Place) -> None:
        """``place`` has a slot now: run there."""

    def asking(self) -> Asking:
        """What the queue must know of it."""

    def turned_away(self, refused: Refused) -> None:
        """It waits no more: what it had is gone."""

    def bumped(self) -> None:
        """Stop what runs, at once: a more urgent request takes the slot. It waits again."""

    @property
    def gone(self) -> bool:
        """Whether it ended."""


class Place:
    """A request's place in a line, and then its slot. ``lease`` is 0 while it waits."""

    __slots__ = ("endpoint", "free_at_s", "guest", "lease", "line", "origin", "sent", "started_s", "ticket")

    def __init__(self, line: Line, guest: Guest, origin: str) -> None:
        self.line = line
        self.guest = guest
        self.origin = origin
        self.ticket = 0
        self.lease = 0
        """:data:`FREELY`: it took a slot while nobody waited, and the queue does not know of it yet."""
        self.endpoint = EndpointId("")
        self.started_s = 0.0
        self.sent = False
        self.free_at_s = inf
        """Of a cancelled one: when its backend is idle at the latest."""

    @property
    def ahead(self) -> int:
        """About how many are served before it."""
        return self.line.queue.ahead(self.ticket)

    @property
    def expected_wait_s(self) -> float:
        """About how long it will still wait."""
        line = self.line
        return (self.ahead + 1) * line.queue.service_s / max(sum(line.limits.values()), 1)


class Line:
    """One model: its queue, the limits of its endpoints here, and who stands where."""

    __slots__ = ("freely", "limits", "places", "queue", "reaper", "waiting")

    def __init__(self, queue: OwnerQueue) -> None:
        self.queue = queue
        self.limits: dict[EndpointId, int] = {}
        self.waiting: dict[int, Place] = {}
        """By ticket."""
        self.places: dict[int, Place] = {}
        """By lease."""
        self.freely: dict[Place, None] = {}
        """Those that run without a lease."""
        self.reaper = Reaper()

    def alive(self, lease: int) -> bool:
        """Whether somebody will give ``lease`` back."""
        place = self.places[lease]
        return place.free_at_s != inf or not place.guest.gone


class _Nobody:
    """The guest of a slot whose request went back to the queue."""

    __slots__ = ()
    gone = False

    def seated(self, place: Place) -> None:
        """See :class:`Guest`."""

    def asking(self) -> Asking:
        """See :class:`Guest`."""
        return Asking("", 0.0)

    def turned_away(self, refused: Refused) -> None:
        """See :class:`Guest`."""

    def bumped(self) -> None:
        """See :class:`Guest`."""


NOBODY: Final = _Nobody()
