"""Shares and expiry. Mutants seen to be killed: a floor that falls, newcomers at zero, no sweep, no bound."""

from __future__ import annotations

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
