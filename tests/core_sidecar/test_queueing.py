"""The owner's queue as a machine, and by example.

Mutants seen to be killed: see the list above each group.
"""

from __future__ import annotations

from collections import Counter
from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.core.queue_values import (
    Asking,
    ClassPolicy,
    Effect,
    Granted,
    Preempted,
    Priority,
    QueuePolicy,
    Refused,
    Waiting,
    Why,
)
from sidecar.core.queueing import OwnerQueue

INTERACTIVE, DEFAULT, BULK = Priority
SMALL = QueuePolicy(
    ClassPolicy(3, 300, 50.0),
    ClassPolicy(4, 300, 100.0, starve_s=20.0),
    ClassPolicy(5, 300, 200.0, starve_s=60.0),
)
WIDE = QueuePolicy()


def queue_of(*slots: int, policy: QueuePolicy = WIDE) -> OwnerQueue:
    queue = OwnerQueue(policy)
    for index, limit in enumerate(slots):
        queue.set_slots(f"e{index}", limit, 0.0)
    return queue


def runs(queue: OwnerQueue, asking: Asking, now_s: float = 0.0) -> Granted:
    outcome, effects = queue.ask(asking, now_s)
    assert isinstance(outcome, Granted)
    assert not effects
    return outcome


def waits(queue: OwnerQueue, asking: Asking, now_s: float = 0.0) -> int:
    outcome, effects = queue.ask(asking, now_s)
    assert isinstance(outcome, Waiting)
    assert not effects
    return outcome.ticket


def granted(effects: tuple[Effect, ...]) -> list[int]:
    return [effect.ticket for effect in effects if isinstance(effect, Granted)]


# Mutants: taking a second time gives the slot twice, a shrink sends someone away, growth wakes nobody,
# preferred or only ignored, the fuller replica chosen.


def test_slots_are_given_and_come_back_once() -> None:
    queue = queue_of(2)
    first, second = runs(queue, Asking("k", 0.0)), runs(queue, Asking("k", 0.0))
    third, fourth = waits(queue, Asking("k", 0.0)), waits(queue, Asking("k", 0.0))
    assert queue.used("e0") == 2
    assert granted(queue.release(first.lease, 1.0)) == [third]
    assert queue.release(first.lease, 1.0) == ()
    assert granted(queue.release(second.lease, 1.0)) == [fourth]
    assert queue.waiting == 0


def test_limits_may_fall_and_rise() -> None:
    queue = queue_of(3)
    leases = [runs(queue, Asking("k", 0.0)).lease for _ in range(3)]
    waiting = [waits(queue, Asking("k", 0.0)) for _ in range(3)]
    assert queue.set_slots("e0", 1, 1.0) == ()
    assert queue.release(leases[0], 1.0) == ()
    assert queue.release(leases[1], 1.0) == ()
    assert granted(queue.release(leases[2], 1.0)) == waiting[:1]
    assert granted(queue.set_slots("e0", 3, 1.0)) == waiting[1:]
    assert queue.set_slots("e0", 0, 1.0) == ()
    assert queue.used("e0") == 3


def test_replicas() -> None:
    queue = queue_of(4, 1)
    assert runs(queue, Asking("k", 0.0, preferred="e1")).endpoint == "e1"
    assert runs(queue, Asking("k", 0.0, preferred="e1")).endpoint == "e0"
    bound = waits(queue, Asking("k", 0.0, only="e1"))
    assert runs(queue, Asking("k", 0.0)).endpoint == "e0"
    [effect] = queue.set_slots("e1", 2, 1.0)
    assert effect == Granted(bound, effect.lease, "e1")  # type: ignore[union-attr]
    assert runs(queue, Asking("k", 0.0, only="e0")).endpoint == "e0"
    queue.set_slots("e1", 9, 1.0)
    assert runs(queue, Asking("k", 0.0)).endpoint == "e1"


def test_one_that_is_bound_does_not_hold_up_others() -> None:
    queue = queue_of(1, 1)
    first = runs(queue, Asking("a", 0.0, only="e0"))
    second = runs(queue, Asking("a", 0.0))
    assert second.endpoint == "e1"
    bound = waits(queue, Asking("b", 0.0, only="e0"))
    behind = waits(queue, Asking("b", 0.0))
    other = waits(queue, Asking("c", 1.0))
    assert granted(queue.release(second.lease, 1.0)) == [other]
    # The bound one leaves: the one behind it, of the same key, is at once considered.
    queue.set_slots("e1", 2, 2.0)
    assert granted(queue.withdraw(bound, 2.0)) == [behind]
    assert queue.ahead(behind) == 0
    assert queue.waiting == 0
    assert queue.release(first.lease, 3.0) == ()


def test_a_head_that_expires_uncovers_the_next() -> None:
    queue = queue_of(1, 1)
    runs(queue, Asking("a", 0.0, only="e0"))
    lease = runs(queue, Asking("a", 0.0)).lease
    bound = waits(queue, Asking("b", 0.0, only="e0", deadline_s=5.0))
    behind = waits(queue, Asking("b", 0.0))
    assert queue.release(lease, 1.0) == ()
    outcome, effects = queue.ask(Asking("c", 6.0), 6.0)
    assert isinstance(outcome, Waiting)
    assert effects[0] == Refused(Why.EXPIRED, effects[0].wait_s, bound)  # type: ignore[union-attr]
    assert granted(effects) == [behind]


# Mutants: classes ignored, starvation bound ignored, overdue classes always first, the less overdue first,
# overdue grants unlimited.


def test_higher_classes_first() -> None:
    queue = queue_of(1, policy=QueuePolicy(preempt=False))
    lease = runs(queue, Asking("k", 0.0)).lease
    tickets = {p: waits(queue, Asking("k", 0.0, p)) for p in (BULK, DEFAULT, INTERACTIVE)}
    for priority in Priority:
        [effect] = queue.release(lease, 1.0)
        assert isinstance(effect, Granted)
        assert effect.ticket == tickets[priority]
        lease = effect.lease


def test_the_starvation_bound() -> None:
    """Interactive requests keep coming; overdue classes get their share, and no more."""
    queue = queue_of(1, policy=QueuePolicy(preempt=False, overdue_every=4))
    lease, now_s = runs(queue, Asking("k", 0.0)).lease, 0.0
    classes = {}
    for priority in (DEFAULT, BULK):
        for _ in range(200):
            classes[waits(queue, Asking("k", now_s, priority), now_s)] = priority
    order: list[Priority] = []
    for _ in range(400):
        for _ in range(2):
            now_s += 0.5
            outcome, _ = queue.ask(Asking("k", now_s, INTERACTIVE), now_s)
            if isinstance(outcome, Waiting):
                classes[outcome.ticket] = INTERACTIVE
        [effect] = [e for e in queue.release(lease, now_s) if isinstance(e, Granted)]
        order.append(classes[effect.ticket])
        lease = effect.lease
    assert set(order[:28]) == {INTERACTIVE}
    assert DEFAULT in order[28:34]
    assert BULK not in order[:119]
    late = order[200:]
    counts = Counter(late)
    assert counts[INTERACTIVE] == 150
    assert counts[DEFAULT] == counts[BULK] == 25


# Mutants: fair share by arrival, the estimate not put right at the end, absence saves up a claim.


def serve(
    queue: OwnerQueue,
    lease: int,
    seconds: dict[str, float],
    owners: dict[int, str],
    grants: int,
    now_s: float = 0.0,
) -> Counter[str]:
    """Seconds of slot time by key while ``grants`` requests end, one after the other."""
    used = Counter[str]()
    key = owners[0]
    for _ in range(grants):
        now_s += seconds[key]
        used[key] += round(seconds[key])
        [effect] = [e for e in queue.release(lease, now_s) if isinstance(e, Granted)]
        lease, key = effect.lease, owners[effect.ticket]
    return used


def test_slot_time_is_shared_fairly_whoever_asks_more() -> None:
    queue = queue_of(1)
    owners = {0: "many"}
    lease = runs(queue, Asking("many", 0.0)).lease
    for _ in range(400):
        owners[waits(queue, Asking("many", 0.0))] = "many"
    for _ in range(100):
        owners[waits(queue, Asking("few", 0.0))] = "few"
    used = serve(queue, lease, {"many": 1.0, "few": 1.0}, owners, 100)
    assert abs(used["many"] - used["few"]) <= 2


def test_long_requests_count_for_what_they_take() -> None:
    queue = queue_of(1)
    owners = {0: "long"}
    lease = runs(queue, Asking("long", 0.0)).lease
    for key in ("long", "short"):
        for _ in range(200):
            owners[waits(queue, Asking(key, 0.0))] = key
    used = serve(queue, lease, {"long": 9.0, "short": 1.0}, owners, 100)
    assert 0.8 <= used["long"] / used["short"] <= 1.25


def test_absence_saves_up_no_claim_and_debts_stay() -> None:
    queue = queue_of(1)
    owners = {0: "here"}
    lease = runs(queue, Asking("here", 0.0)).lease
    for _ in range(400):
        owners[waits(queue, Asking("here", 0.0))] = "here"
    serve_for = {"here": 1.0, "new": 1.0}
    now_s = 0.0
    for _ in range(100):
        now_s += 1.0
        [effect] = queue.release(lease, now_s)
        assert isinstance(effect, Granted)
        lease = effect.lease
    owners[0] = "here"
    for _ in range(100):
        owners[waits(queue, Asking("new", now_s), now_s)] = "new"
    queue.housekeep()
    used = serve(queue, lease, serve_for, owners, 40, now_s)
    assert abs(used["here"] - used["new"]) <= 4


def test_use_beside_free_slots_is_not_held_against_anybody() -> None:
    queue = queue_of(1)
    for second in range(100):
        queue.release(runs(queue, Asking("here", 0.0), second).lease, second + 1.0)
    owners = {0: "here"}
    lease = runs(queue, Asking("here", 100.0), 100.0).lease
    for key in ("new", "here"):
        for _ in range(50):
            owners[waits(queue, Asking(key, 100.0), 100.0)] = key
    used = serve(queue, lease, {"here": 1.0, "new": 1.0}, owners, 40, 100.0)
    assert abs(used["here"] - used["new"]) <= 4


def test_what_others_use_while_a_key_waits_counts_for_it() -> None:
    queue = queue_of(1, 1)
    held = runs(queue, Asking("a", 0.0, only="e0")).lease
    owners = {waits(queue, Asking("b", 0.0, only="e0")): "b"}
    for second in range(50):
        queue.release(runs(queue, Asking("a", 0.0), second).lease, second + 1.0)
    for key in ("a", "b"):
        for _ in range(20):
            owners[waits(queue, Asking(key, 50.0, only="e0"), 50.0)] = key
    order, now_s = "", 50.0
    for _ in range(20):
        [effect] = [e for e in queue.release(held, now_s) if isinstance(e, Granted)]
        order += owners[effect.ticket]
        held, now_s = effect.lease, now_s + 1.0
    assert order == "b" * 20


# Mutants: length or bytes unbounded, the oldest evicted, the newcomer always refused, short keys give way.


def test_a_full_class_refuses_with_the_expected_wait() -> None:
    queue = queue_of(2, policy=SMALL)
    for _ in range(2):
        runs(queue, Asking("k", 0.0))
    for _ in range(4):
        waits(queue, Asking("k", 0.0))
    outcome, effects = queue.ask(Asking("k", 0.0), 0.0)
    assert outcome == Refused(Why.FULL, 5 * 5.0 / 2)
    assert not effects
    assert isinstance(queue.ask(Asking("k", 0.0, BULK), 0.0)[0], Waiting)
    assert queue.expected_wait_s(INTERACTIVE) == 2.5


def test_the_key_with_the_most_gives_way() -> None:
    queue = queue_of(1, policy=SMALL)
    runs(queue, Asking("k", 0.0))
    tickets = [waits(queue, Asking("flood", 0.0)) for _ in range(4)]
    outcome, effects = queue.ask(Asking("polite", 0.0), 0.0)
    assert isinstance(outcome, Waiting)
    assert effects == (Refused(Why.EVICTED, 20.0, tickets[3]),)
    outcome, effects = queue.ask(Asking("polite", 0.0), 0.0)
    assert isinstance(outcome, Waiting)
    assert effects == (Refused(Why.EVICTED, 20.0, tickets[2]),)
    assert isinstance(queue.ask(Asking("polite", 0.0), 0.0)[0], Refused)
    assert isinstance(queue.ask(Asking("flood", 0.0), 0.0)[0], Refused)


def test_one_more_than_the_newcomer_is_no_reason_to_give_way() -> None:
    queue = queue_of(1, policy=SMALL)
    runs(queue, Asking("k", 0.0, INTERACTIVE))
    for _ in range(3):
        waits(queue, Asking("flood", 0.0, INTERACTIVE))
    assert isinstance(queue.ask(Asking("polite", 0.0, INTERACTIVE), 0.0)[0], Waiting)
    assert isinstance(queue.ask(Asking("polite", 0.0, INTERACTIVE), 0.0)[0], Refused)


def test_another_policy_holds_from_now_on() -> None:
    """Kills: lanes or preemption that go by the old one, those who wait sent away."""
    queue = queue_of(1)
    first = runs(queue, Asking("a", 0.0, Priority.BULK))
    waiting = waits(queue, Asking("b", 0.0, Priority.BULK))
    none = ClassPolicy(0, 0, 1.0)
    queue.adopt(QueuePolicy(interactive=none, bulk=none, preempt=False))
    outcome, _ = queue.ask(Asking("c", 0.0, Priority.BULK), 0.0)
    assert isinstance(outcome, Refused)
    outcome, effects = queue.ask(Asking("d", 0.0), 0.0)
    assert isinstance(outcome, Waiting)
    assert not effects, "nobody gives way any more"
    assert granted(queue.release(first.lease, 5.0)) == [outcome.ticket]
    assert queue.waiting == 1
    assert waiting


def test_bytes_are_bounded() -> None:
    queue = queue_of(1, policy=SMALL)
    runs(queue, Asking("k", 0.0, size_bytes=10_000))
    assert isinstance(queue.ask(Asking("k", 0.0, size_bytes=301), 0.0)[0], Refused)
    tickets = [waits(queue, Asking("k", 0.0, size_bytes=100)) for _ in range(3)]
    assert isinstance(queue.ask(Asking("k", 0.0, size_bytes=1), 0.0)[0], Refused)
    outcome, effects = queue.ask(Asking("other", 0.0, size_bytes=150), 0.0)
    assert isinstance(outcome, Waiting)
    assert [e.ticket for e in effects] == [tickets[2], tickets[1]]


# Mutants: deadlines ignored, age not kept, granted after the deadline, the wrong reason.


def test_deadlines() -> None:
    queue = queue_of(1, policy=SMALL)
    lease = runs(queue, Asking("k", 0.0)).lease
    assert queue.ask(Asking("k", 0.0, deadline_s=0.0), 0.0) == (Refused(Why.EXPIRED, 0.0), ())
    soon = waits(queue, Asking("k", 0.0, deadline_s=7.0))
    aged = waits(queue, Asking("k", -95.0))
    last = waits(queue, Asking("k", 0.0))
    assert queue.next_expiry_s() == 5.0
    [effect] = queue.expire(5.0)
    assert isinstance(effect, Refused)
    assert (effect.why, effect.ticket) == (Why.TOO_LONG, aged)
    assert queue.next_expiry_s() == 7.0
    effects = queue.release(lease, 7.0)
    assert isinstance(effects[0], Refused)
    assert (effects[0].why, effects[0].ticket) == (Why.EXPIRED, soon)
    assert granted(effects) == [last]
    assert queue.next_expiry_s() == inf


def test_of_keys_that_used_as_much_the_one_that_waited_longest_is_next() -> None:
    queue = queue_of(1)
    lease = runs(queue, Asking("k", 0.0)).lease
    waits(queue, Asking("young", 5.0), 5.0)
    old = waits(queue, Asking("old", 1.0), 5.0)
    assert queue.ahead(old) == 0
    assert granted(queue.release(lease, 6.0)) == [old]


def test_moved_requests_keep_their_age() -> None:
    queue = queue_of(1)
    lease = runs(queue, Asking("k", 0.0)).lease
    waits(queue, Asking("k", 1.0), 1.0)
    outcome, _ = queue.ask(Asking("k", 0.5), 2.0)
    assert isinstance(outcome, Waiting)
    assert outcome.ahead == 0
    assert granted(queue.release(lease, 2.0)) == [outcome.ticket]


# Mutants: preempting what has sent a byte, the same class, what can't be repeated, what was preempted before,
# overdue grants, more than wait, when it is off, at another replica, the older one, a higher class; the slot
# given before the backend is idle; its service time measured.


def preemptions(queue: OwnerQueue, asking: Asking, now_s: float = 1.0) -> list[int]:
    outcome, effects = queue.ask(asking, now_s)
    assert isinstance(outcome, Waiting)
    return [effect.lease for effect in effects if isinstance(effect, Preempted)]


def test_preemption() -> None:
    queue = queue_of(4)
    older = runs(queue, Asking("k", 0.0, BULK))
    newer = runs(queue, Asking("k", 0.0, BULK))
    middle = runs(queue, Asking("k", 0.0, DEFAULT))
    stateful = runs(queue, Asking("k", 0.0, BULK, repeatable=False))
    assert preemptions(queue, Asking("k", 1.0, BULK)) == []
    first, _ = queue.ask(Asking("k", 1.0, INTERACTIVE), 1.0)
    assert queue.used("e0") == 4
    assert queue.waiting == 3
    # Vacated slots are promised already: only one more than those gives way.
    assert preemptions(queue, Asking("k", 1.0, INTERACTIVE)) == [older.lease]
    assert preemptions(queue, Asking("k", 1.0, INTERACTIVE)) == [middle.lease]
    assert preemptions(queue, Asking("k", 1.0, INTERACTIVE)) == []
    service_s = queue.service_s
    [effect] = queue.release(newer.lease, 3.0)
    assert isinstance(first, Waiting)
    assert isinstance(effect, Granted)
    assert effect.ticket == first.ticket
    assert queue.service_s == service_s
    queue.release(stateful.lease, 3.0)
    assert queue.service_s == 3.0


def test_what_has_sent_a_byte_is_left_alone() -> None:
    queue = queue_of(1)
    lease = runs(queue, Asking("k", 0.0, BULK)).lease
    queue.sent(lease)
    assert preemptions(queue, Asking("k", 1.0, INTERACTIVE)) == []
    queue.sent(99)
    queue.closing(99)


def test_a_slot_that_is_being_vacated_needs_no_preemption() -> None:
    queue = queue_of(2)
    staying = runs(queue, Asking("k", 0.0, BULK)).lease
    leaving = runs(queue, Asking("k", 0.0, BULK)).lease
    queue.closing(leaving)
    assert preemptions(queue, Asking("k", 1.0, INTERACTIVE)) == []
    assert preemptions(queue, Asking("k", 1.0, INTERACTIVE)) == [staying]


def test_preemption_happens_once_per_request_and_can_be_off() -> None:
    queue = queue_of(1)
    victim = runs(queue, Asking("k", 0.0, BULK))
    assert preemptions(queue, Asking("k", 1.0, INTERACTIVE)) == [victim.lease]
    [effect] = queue.release(victim.lease, 2.0)
    assert isinstance(effect, Granted)
    [again] = queue.release(effect.lease, 3.0)
    assert isinstance(again, Granted)
    assert again.ticket == victim.ticket
    assert preemptions(queue, Asking("k", 4.0, INTERACTIVE), 4.0) == []
    off = queue_of(1, policy=QueuePolicy(preempt=False))
    runs(off, Asking("k", 0.0, BULK))
    assert preemptions(off, Asking("k", 1.0, INTERACTIVE)) == []


def test_preemption_at_the_replica_that_is_wanted_and_within_its_limit() -> None:
    queue = queue_of(1, 1)
    wanted = runs(queue, Asking("k", 0.0, BULK, only="e0"))
    runs(queue, Asking("k", 0.0, BULK, only="e1"))
    other = preemptions(queue, Asking("k", 1.0, INTERACTIVE, only="e0"))
    assert other == [wanted.lease]
    shrunk = queue_of(2)
    for _ in range(2):
        runs(shrunk, Asking("k", 0.0, BULK))
    shrunk.set_slots("e0", 1, 0.0)
    assert preemptions(shrunk, Asking("k", 1.0, INTERACTIVE)) == []


def test_who_gives_way_to_one_that_is_bound_runs_elsewhere() -> None:
    """Kills: no look at the free slots after a preemption."""
    queue = queue_of(1, 1)
    runs(queue, Asking("a", 0.0, Priority.BULK, preferred="e0"))
    bound = Asking("b", 1.0, Priority.INTERACTIVE, only="e0")
    outcome, effects = queue.ask(bound, 1.0)
    assert isinstance(outcome, Waiting)
    gave_way, moved = effects
    assert isinstance(gave_way, Preempted)
    assert isinstance(moved, Granted)
    assert (moved.ticket, moved.endpoint) == (gave_way.ticket, "e1")
    assert granted(queue.release(gave_way.lease, 2.0)) == [outcome.ticket]


def test_overdue_grants_are_not_preempted() -> None:
    queue = queue_of(1)
    lease = runs(queue, Asking("k", 0.0, INTERACTIVE)).lease
    overdue = waits(queue, Asking("k", 0.0, BULK))
    waits(queue, Asking("k", 0.0, INTERACTIVE))
    assert granted(queue.release(lease, 130.0)) == [overdue]
    assert preemptions(queue, Asking("k", 130.0, INTERACTIVE), 130.0) == []


def test_the_wait_that_is_expected() -> None:
    queue = OwnerQueue(WIDE)
    assert queue.expected_wait_s(DEFAULT) == 5.0
    queue.set_slots("e0", 1, 0.0)
    assert queue.expected_wait_s(DEFAULT) == 0.0
    assert queue.ahead(7) == 0
    lease = runs(queue, Asking("k", 0.0)).lease
    queue.release(lease, 0.0)
    assert 0.0 < queue.service_s < 0.01
    assert queue.withdraw(12345, 0.0) == ()


def test_higher_classes_are_ahead() -> None:
    queue = queue_of(1, policy=QueuePolicy(preempt=False))
    runs(queue, Asking("k", 0.0))
    bulk = waits(queue, Asking("k", 0.0, BULK))
    assert queue.ahead(bulk) == 0
    waits(queue, Asking("k", 0.0, INTERACTIVE))
    default = waits(queue, Asking("k", 0.0))
    assert [queue.ahead(ticket) for ticket in (bulk, default)] == [2, 1]


@pytest.mark.parametrize("keys", [["a"], ["a", "b"], ["a", "b", "b", "c", "a", "a", "c", "b", "a"]])
def test_ahead_is_the_order_of_service(keys: list[str]) -> None:
    """Each uses what was estimated, so that the estimate is exact."""
    queue = queue_of(1)
    lease = runs(queue, Asking("a", 0.0)).lease
    tickets = [waits(queue, Asking(key, float(i)), float(i)) for i, key in enumerate(keys)]
    ahead = {ticket: queue.ahead(ticket) for ticket in tickets}
    now_s, served = 100.0, []
    for _ in tickets:
        held = next(iter(queue.leases))
        held.started_s = now_s - queue.service_s
        [effect] = queue.release(lease, now_s)
        assert isinstance(effect, Granted)
        served.append(effect.ticket)
        lease = effect.lease
    assert [ahead[ticket] for ticket in served] == list(range(len(tickets)))


@pytest.mark.parametrize(
    ("text", "priority"), [("interactive", INTERACTIVE), ("bulk", BULK), ("", DEFAULT), ("system", DEFAULT)]
)
def test_names_of_classes(text: str, priority: Priority) -> None:
    assert Priority.of(text) is priority


class Owner(RuleBasedStateMachine):
    """A model of the queue: who waits, who holds what. Every ticket and lease ends exactly once."""

    @initialize()
    def begin(self) -> None:
        self.queue = OwnerQueue(SMALL)
        self.now_s = 0.0
        self.limits = {"e0": 0, "e1": 0}
        self.waiting: dict[int, Asking] = {}
        self.running: dict[int, tuple[int, Asking, str]] = {}
        """By lease."""
        self.sent: set[int] = set()
        self.vacating: set[int] = set()
        self.cancelled: set[int] = set()
        self.preempted: set[int] = set()
        self.ended: set[int] = set()
        self.released: set[int] = set()

    def used(self, endpoint: str) -> int:
        return sum(held == endpoint for _, _, held in self.running.values())

    def grant(self, effect: Granted, asking: Asking) -> None:
        assert effect.lease not in self.running
        assert effect.lease not in self.released
        assert effect.ticket not in self.ended
        assert self.used(effect.endpoint) < self.limits[effect.endpoint]
        assert asking.deadline_s > self.now_s
        assert asking.only in {"", effect.endpoint}
        self.running[effect.lease] = (effect.ticket, asking, effect.endpoint)

    def apply(self, effects: tuple[Effect, ...], asking: Asking | None = None) -> None:
        for effect in effects:
            match effect:
                case Granted():
                    self.grant(effect, self.waiting.pop(effect.ticket))
                case Refused():
                    refused = self.waiting.pop(effect.ticket)
                    self.ended.add(effect.ticket)
                    assert effect.wait_s >= 0
                    if effect.why is Why.EXPIRED:
                        assert refused.deadline_s <= self.now_s
                    elif effect.why is Why.TOO_LONG:
                        assert self.now_s - refused.since_s >= SMALL.of(refused.priority).max_wait_s
                    else:
                        assert asking is not None
                        assert effect.why is Why.EVICTED
                        assert refused.priority is asking.priority
                        assert refused.key != asking.key
                case Preempted():
                    ticket, victim, _ = self.running[effect.lease]
                    assert asking is not None
                    assert ticket == effect.ticket
                    assert effect.lease not in self.sent | self.vacating | self.cancelled
                    assert ticket not in self.preempted
                    assert victim.repeatable
                    assert victim.priority > asking.priority
                    self.preempted.add(ticket)
                    self.vacating.add(effect.lease)
                    self.waiting[ticket] = victim

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 20.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(
        key=st.sampled_from("abc"),
        priority=st.sampled_from(Priority),
        size_bytes=st.sampled_from([0, 50, 120]),
        timeout_s=st.sampled_from([inf, inf, 5.0, 0.0]),
        age_s=st.sampled_from([0.0, 0.0, 0.0, 10.0, 250.0]),
        preferred=st.sampled_from(["", "e0"]),
        only=st.sampled_from(["", "", "", "e0", "e1"]),
        repeatable=st.booleans(),
    )
    def ask(self, key: str, age_s: float, timeout_s: float, **other: object) -> None:
        asking = Asking(key, self.now_s - age_s, deadline_s=self.now_s + timeout_s, **other)  # type: ignore[arg-type]
        outcome, effects = self.queue.ask(asking, self.now_s)
        match outcome:
            case Granted():
                self.apply(effects)
                self.grant(outcome, asking)
            case Waiting():
                self.waiting[outcome.ticket] = asking
                assert 0 <= outcome.ahead < len(self.waiting) + len(effects)
                self.apply(effects, asking)
                bounds = SMALL.of(asking.priority)
                lane = [a for t, a in self.waiting.items() if a.priority is asking.priority]
                fresh = [a for t, a in self.waiting.items() if a in lane and t not in self.preempted]
                assert len(fresh) <= bounds.length
                assert sum(a.size_bytes for a in fresh) <= bounds.size_bytes
            case Refused():
                self.apply(effects)
                assert outcome.ticket == 0
                assert outcome.why in {Why.FULL, Why.EXPIRED}
                if outcome.why is Why.FULL:
                    bounds = SMALL.of(asking.priority)
                    lane = [a for a in self.waiting.values() if a.priority is asking.priority]
                    crowd = Counter(a.key for a in lane)
                    size_bytes = sum(a.size_bytes for a in lane) + asking.size_bytes
                    assert len(lane) >= bounds.length or size_bytes > bounds.size_bytes
                    if asking.size_bytes == 0 and size_bytes <= bounds.size_bytes:
                        assert max(crowd.values()) <= crowd[asking.key] + 1

    @precondition(lambda self: self.running)
    @rule(data=st.data(), twice=st.booleans())
    def release(self, data: st.DataObject, *, twice: bool) -> None:
        lease = data.draw(st.sampled_from(sorted(self.running)))
        ticket, _, _ = self.running.pop(lease)
        if lease not in self.vacating:
            self.ended.add(ticket)
        self.released.add(lease)
        self.apply(self.queue.release(lease, self.now_s))
        if twice:
            assert self.queue.release(lease, self.now_s) == ()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def send_byte(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(sorted(self.running)))
        self.queue.sent(lease)
        self.sent.add(lease)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def client_leaves(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(sorted(self.running)))
        self.queue.closing(lease)
        if lease not in self.vacating:
            self.cancelled.add(lease)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[ticket]
        self.ended.add(ticket)
        self.apply(self.queue.withdraw(ticket, self.now_s))
        assert self.queue.withdraw(ticket, self.now_s) == ()

    @rule(endpoint=st.sampled_from(["e0", "e1"]), limit=st.integers(0, 3))
    def resize(self, endpoint: str, limit: int) -> None:
        self.limits[endpoint] = limit
        self.apply(self.queue.set_slots(endpoint, limit, self.now_s))

    @rule()
    def expire(self) -> None:
        self.apply(self.queue.expire(self.now_s))
        self.queue.housekeep()
        assert self.queue.next_expiry_s() > self.now_s
        assert all(asking.deadline_s > self.now_s for asking in self.waiting.values())

    @invariant()
    def counts_agree(self) -> None:
        assert self.queue.waiting == len(self.waiting)
        assert {lease.number for lease in self.queue.leases} == self.running.keys()
        assert {lease.number for lease in self.queue.leases if lease.closing} == (
            self.vacating | self.cancelled
        ) & self.running.keys()
        for endpoint in self.limits:
            assert self.queue.used(endpoint) == self.used(endpoint)

    @invariant()
    def no_slot_is_idle_beside_a_request_that_fits(self) -> None:
        heads: dict[tuple[str, Priority], tuple[float, int]] = {}
        for ticket, asking in self.waiting.items():
            lane = (asking.key, asking.priority)
            heads[lane] = min(heads.get(lane, (inf, 0)), (asking.since_s, ticket))
        for _, ticket in heads.values():
            only = self.waiting[ticket].only
            for endpoint, limit in self.limits.items():
                assert self.used(endpoint) >= limit or only not in {"", endpoint}

    @invariant()
    def positions_are_sane(self) -> None:
        for ticket in self.waiting:
            assert 0 <= self.queue.ahead(ticket) < len(self.waiting)


TestOwner = Owner.TestCase
TestOwner.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
