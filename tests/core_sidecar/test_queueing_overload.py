"""Overload in virtual time: an owner's queue, clients that come again, and a backend that refuses in 1 ms.

Mutants that were tried and are killed: waiting requests that never expire, starved classes left out, requests
that give way to their own class, a hold of nothing after a refusal, one that does not grow. Bounds of lanes,
shares and the spread of Retry-After are seen by the tests of their own cores, not here.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from sidecar.core.backoff import retry_after_s
from sidecar.core.queue_values import (
    Asking,
    ClassPolicy,
    Effect,
    Granted,
    Preempted,
    Priority,
    QueuePolicy,
    Refused,
)
from sidecar.core.queueing import OwnerQueue
from sidecar.core.retry_after import hold_s

SLOTS = 4
SERVICE_S = 1.0
TIGHT = QueuePolicy(
    ClassPolicy(16, 1 << 30, 20.0),
    ClassPolicy(16, 1 << 30, 30.0, starve_s=5.0),
    ClassPolicy(16, 1 << 30, 60.0, starve_s=15.0),
)


class Events:
    """Things to do, by virtual time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now_s + seconds, self._count, act))

    def run(self, until_s: float) -> None:
        while self._heap and self._heap[0][0] <= until_s:
            self.now_s, _, act = heapq.heappop(self._heap)
            act()


class Owner:
    """A node with slots; serves exponentially long, mean ``SERVICE_S``, and counts."""

    def __init__(self, events: Events, random: Random, *, policy: QueuePolicy = TIGHT) -> None:
        self.events, self.random = events, random
        self.queue = OwnerQueue(policy)
        self.queue.set_slots("e", SLOTS, 0.0)
        self.askers: dict[int, tuple[str, Priority, Callable[[float], None] | None, float]] = {}
        self.running: dict[int, int] = {}
        self.served: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.waits: dict[Priority, list[float]] = {priority: [] for priority in Priority}
        self.started = 0

    def ask(self, key: str, priority: Priority, again: Callable[[float], None] | None) -> None:
        now_s = self.events.now_s
        outcome, effects = self.queue.ask(Asking(key, now_s, priority), now_s)
        if isinstance(outcome, Refused):
            self._turned_away(key, again, outcome)
        else:
            self.askers[outcome.ticket] = (key, priority, again, now_s)
            if isinstance(outcome, Granted):
                self._start(outcome)
        self._apply(effects)

    def _turned_away(self, key: str, again: Callable[[float], None] | None, refused: Refused) -> None:
        self.refused[key] += 1
        if again is not None:
            again(retry_after_s(refused.wait_s, self.random.random()))

    def _apply(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, Granted):
                self._start(effect)
            elif isinstance(effect, Preempted):
                del self.running[effect.lease]
                self.events.after(0.2, lambda lease=effect.lease: self._release(lease))  # type: ignore[misc]
            else:
                key, _, again, _ = self.askers.pop(effect.ticket)
                self._turned_away(key, again, effect)

    def _start(self, grant: Granted) -> None:
        _, priority, _, asked_s = self.askers[grant.ticket]
        self.waits[priority].append(self.events.now_s - asked_s)
        self.running[grant.lease] = grant.ticket
        self.started += 1
        self.events.after(0.05, lambda: self.queue.sent(grant.lease) if grant.lease in self.running else None)
        length_s = 0.06 + self.random.expovariate(1.0 / SERVICE_S)
        self.events.after(length_s, lambda: self._end(grant.lease))

    def _end(self, lease: int) -> None:
        ticket = self.running.pop(lease, None)
        if ticket is not None:
            self.served[self.askers.pop(ticket)[0]] += 1
            self._release(lease)

    def _release(self, lease: int) -> None:
        self._apply(self.queue.release(lease, self.events.now_s))


def load(times_capacity: float, seconds: float, *, persistent: bool, seed: int = 1) -> Owner:
    events, random = Events(), Random(seed)
    owner = Owner(events, random)
    gap_s = SERVICE_S / SLOTS / times_capacity

    def arrive() -> None:
        events.after(random.expovariate(1.0 / gap_s), arrive)
        key = f"client-{random.randrange(8)}"
        priority = random.choices(list(Priority), [1, 3, 1])[0]
        if not persistent:
            owner.ask(key, priority, None)
            return

        def knock(wait_s: float = 0.0) -> None:
            events.after(wait_s, lambda: owner.ask(key, priority, knock))

        knock()

    arrive()
    events.run(seconds)
    return owner


@pytest.mark.parametrize("persistent", [False, True], ids=["clients-give-up", "clients-come-again"])
def test_throughput_under_three_times_the_load(*, persistent: bool) -> None:
    """The peak is what the slots give when they are never idle: 4 per 1.06 s."""
    peak = SLOTS * 400.0 / (SERVICE_S + 0.06)
    owner = load(3.0, 400.0, persistent=persistent)
    assert owner.served.total() >= 0.95 * peak
    assert sum(owner.refused.values()) > 0
    # No livelock by preemption: what was started and thrown away is little.
    assert owner.started <= 1.05 * owner.served.total() + SLOTS


def test_every_persistent_client_is_served_in_the_end() -> None:
    events, random = Events(), Random(3)
    owner = Owner(events, random)

    def client(index: int) -> None:
        def knock(wait_s: float = 0.0) -> None:
            events.after(wait_s, lambda: owner.ask(f"c{index}", Priority(index % 3), knock))

        knock()

    for index in range(300):
        client(index)
    events.run(3600.0)
    assert owner.served == Counter({f"c{index}": 1 for index in range(300)})


def test_waits_under_overload_keep_to_their_bounds() -> None:
    owner = load(3.0, 1000.0, persistent=False, seed=2)
    for priority in Priority:
        assert owner.waits[priority]
        assert max(owner.waits[priority]) <= TIGHT.of(priority).max_wait_s
    mean_s = {priority: sum(waits) / len(waits) for priority, waits in owner.waits.items()}
    assert mean_s[Priority.INTERACTIVE] < mean_s[Priority.DEFAULT]
    assert len(owner.waits[Priority.BULK]) >= len(owner.waits[Priority.DEFAULT]) / 20


def test_a_flood_takes_its_share_and_no_more() -> None:
    """Three clients at a third of the capacity each, a fourth at ten times all of it."""
    events, random = Events(), Random(4)
    owner = Owner(events, random)
    capacity = SLOTS / (SERVICE_S + 0.06)

    def arrivals(key: str, rate: float) -> None:
        def arrive() -> None:
            owner.ask(key, Priority.DEFAULT, None)
            events.after(random.expovariate(rate), arrive)

        arrive()

    for key in ("a", "b", "c"):
        arrivals(key, capacity / 3)
    arrivals("flood", capacity * 10)
    events.run(2000.0)
    share = {key: served / owner.served.total() for key, served in owner.served.items()}
    for key in ("a", "b", "c"):
        assert 0.21 <= share[key] <= 0.29
    assert share["flood"] <= 0.31
    for key in ("a", "b", "c"):
        assert owner.refused[key] <= 0.4 * (owner.served[key] + owner.refused[key])


def test_a_backend_that_refuses_in_a_millisecond_gets_no_more_than_a_healthy_one() -> None:
    """Eight clients without pause, two backends: one serves in 0.5 s, the other always answers 429."""
    events, random = Events(), Random(5)
    asked: Counter[str] = Counter()
    held_until_s, times, in_flight = 0.0, 0, Counter[str]()

    def turn() -> None:
        nonlocal held_until_s, times
        # The hold is what keeps it away: by load alone it always looks idle.
        free = in_flight["refusing"] <= in_flight["healthy"] and events.now_s >= held_until_s
        name = "refusing" if free else "healthy"
        asked[name] += 1
        in_flight[name] += 1

        def end() -> None:
            nonlocal held_until_s, times
            in_flight[name] -= 1
            if name == "refusing":
                held_until_s = events.now_s + hold_s(0.0, owner_said=False, times=times, draw=random.random())
                times += 1
            turn()

        events.after(0.001 if name == "refusing" else 0.5, end)

    for _ in range(8):
        turn()
    events.run(300.0)
    assert asked["healthy"] >= 0.99 * 8 * 300 / 0.5
    assert 10 <= asked["refusing"] <= 120
