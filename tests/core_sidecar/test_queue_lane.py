"""Shares and expiry.

Mutants seen to be killed: a floor that falls, newcomers at zero, no sweep, no bound; actual use forgotten, or
charged beside the estimate; a sweep that leaves no heap behind, that drops who waits, or keeps who does not;
who gives up before its time, after it, or by the later of its times; the newest of a lane taken for the
oldest, the bound of starvation added; who comes back and does not wait; one too many sent away, or nobody.

Equivalent, by a tool that changed every operator and constant: when idle keys or served tickets are swept
(which costs memory or time, and changes no answer), the shortcut for the first of a line, the one past ranks
that can't win, and ``waiting`` of a ticket before it is put anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import queue_expiry
from sidecar.core.fair_share import FairShare
from sidecar.core.queue_expiry import Expiry
from sidecar.core.queue_lane import Lane, Ticket
from sidecar.core.queue_values import Asking, ClassPolicy


def test_newcomers_start_where_the_others_are() -> None:
    shares = FairShare()
    shares.start("a", 5.0)
    shares.advance(5.0)
    shares.advance(3.0)
    assert shares.used_s("never-seen") == 5.0
    shares.settle("a", 5.0, 9.0)
    assert shares.used_s("a") == 9.0


def test_idle_keys_are_forgotten_once_they_owe_nothing() -> None:
    shares = FairShare()
    for key in "abc":
        shares.start(key, 5.0)
    shares.settle("c", 5.0, 1.0)
    shares.advance(2.0)
    shares.forget_idle(["b"])
    assert len(shares) == 2
    assert shares.used_s("a") == 5.0
    for index in range(300):
        shares.start(f"k{index}", 10.0)
    shares.forget_idle(["b"])
    assert len(shares) == 1
    assert shares.used_s("b") == 5.0
    shares.settle("gone", 1.0, 3.0)
    assert shares.used_s("gone") == 4.0


def test_who_has_waited_elsewhere_goes_between_those_of_its_key() -> None:
    """Kills: compared with another than the last, the newest put last, equals overtaken."""
    lane = Lane(ClassPolicy(10, 10, 600.0))
    tickets = [Ticket(index, Asking("k", since_s)) for index, since_s in enumerate((1, 3, 4, 2, 3, 0.5))]
    for ticket in tickets:
        lane.put(ticket)
    assert [lane.ahead(ticket, 1.0) for ticket in tickets] == [1, 3, 5, 2, 4, 0]


def test_served_tickets_do_not_pile_up() -> None:
    expiry, policy = Expiry(), ClassPolicy(10, 10, 600.0)
    kept = Ticket(0, Asking("k", 0.0))
    expiry.add(kept, policy)
    expiry.add(kept, policy)
    for number in range(1, 10_000):
        ticket = Ticket(number, Asking("k", 0.0))
        expiry.add(ticket, policy)
        ticket.waiting = False
    assert len(expiry._heap) < 200
    for ticket in expiry.due(600.0):
        assert ticket is kept
        kept.waiting = False


requests = st.tuples(st.sampled_from("abc"), st.floats(0.1, 10.0), st.floats(0.1, 10.0))


@given(st.lists(requests, min_size=3, max_size=60))
def test_who_always_asks_gets_as_much_as_others_whatever_was_estimated(
    wished: Sequence[tuple[str, float, float]],
) -> None:
    """Each turn is the key's that used least: none is ahead of another by more than what one request took."""
    shares, true_s = FairShare(), dict.fromkeys("abc", 0.0)
    for _, estimate_s, actual_s in wished:
        key = min(true_s, key=lambda one: (shares.used_s(one), one))
        shares.advance(shares.used_s(key))
        floor_s = shares.used_s("a newcomer")
        shares.start(key, estimate_s)
        assert shares.used_s(key) == pytest.approx(max(true_s[key], floor_s) + estimate_s)
        shares.settle(key, estimate_s, actual_s)
        true_s[key] += actual_s
        assert shares.used_s("a newcomer") == floor_s
    assert max(true_s.values()) - min(true_s.values()) <= 10.0 + 1e-9


waits = st.tuples(st.floats(0.0, 50.0), st.one_of(st.just(inf), st.floats(0.0, 100.0)), st.booleans())


@given(st.lists(waits, max_size=60), st.lists(st.floats(0.0, 30.0), min_size=1, max_size=5))
def test_each_gives_up_at_its_time(
    found: Sequence[tuple[float, float, bool]], later: Sequence[float]
) -> None:
    """As a list that is looked through says it; sweeps come often."""
    policy = ClassPolicy(10, 10, 20.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue_expiry, "_SMALL", 2)
        expiry = Expiry()
        waiting: dict[Ticket, float] = {}
        for number, (since_s, deadline_s, served) in enumerate(found):
            ticket = Ticket(number, Asking("k", since_s, deadline_s=deadline_s))
            expiry.add(ticket, policy)
            waiting[ticket] = min(deadline_s, since_s + 20.0)
            if served:
                other = min(waiting, key=lambda one: (one.number * 7) % 5)
                other.waiting = False
                del waiting[other]
        now_s = 0.0
        for later_s in later:
            assert expiry.next_s() == min(waiting.values(), default=inf)
            now_s += later_s
            over = []
            for ticket in expiry.due(now_s):
                ticket.waiting = False
                over.append(ticket)
            assert over == sorted(
                (one for one, until_s in waiting.items() if until_s <= now_s),
                key=lambda one: (waiting[one], one.number),
            )
            for ticket in over:
                del waiting[ticket]


def test_the_oldest_says_how_long_a_lane_was_starved() -> None:
    lane = Lane(ClassPolicy(10, 10, 600.0, starve_s=5.0))
    assert lane.overdue_s(100.0) == -5.0
    for number, (key, since_s) in enumerate((("a", 90.0), ("b", 97.0), ("a", 99.0))):
        lane.put(Ticket(number, Asking(key, since_s)))
    assert lane.overdue_s(100.0) == 5.0


def test_who_comes_back_waits_again() -> None:
    lane = Lane(ClassPolicy(10, 10, 600.0))
    ticket = Ticket(0, Asking("k", 0.0))
    lane.put(ticket)
    lane.take(ticket)
    assert (ticket.waiting, lane.length, list(lane.keys)) == (False, 0, [])
    lane.put(ticket)
    assert (ticket.waiting, lane.length, list(lane.keys)) == (True, 1, ["k"])


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from((0, 1, 40))), max_size=20),
    st.sampled_from("add"),
    st.sampled_from((0, 1, 100)),
)
def test_room_is_made_by_whoever_has_most_and_no_more_than_is_needed(
    held: Sequence[tuple[str, int]], key: str, size_bytes: int
) -> None:
    lane = Lane(ClassPolicy(6, 100, 600.0))
    for number, (owner, size) in enumerate(held):
        lane.put(Ticket(number, Asking(owner, float(number), size_bytes=size)))
    before = {one: sum(owner == one for owner, _ in held) for one in "abcd"}
    victims = lane.to_evict(Asking(key, 99.0, size_bytes=size_bytes))
    if victims is None:
        return
    left = {one: before[one] - sum(victim.asking.key == one for victim in victims) for one in "abcd"}
    length = sum(left.values()) + 1
    size = lane.size_bytes - sum(victim.asking.size_bytes for victim in victims) + size_bytes
    assert (length <= 6, size <= 100) == (True, True)
    if victims:
        last = victims[-1].asking
        assert length + 1 > 6 or size + last.size_bytes > 100, "the last one had to go too"
        assert left[last.key] >= left[key] + 1, "whoever gives way keeps as much as the newcomer has then"
        assert len(set(victims)) == len(victims)


def test_one_that_has_two_gives_way_to_one_that_has_none() -> None:
    lane = Lane(ClassPolicy(3, 100, 600.0))
    tickets = [Ticket(number, Asking(key, float(number))) for number, key in enumerate("aab")]
    for ticket in tickets:
        lane.put(ticket)
    assert lane.to_evict(Asking("c", 9.0)) == [tickets[1]]
    assert lane.to_evict(Asking("b", 9.0)) is None
