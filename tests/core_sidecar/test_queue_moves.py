"""Who moves, and who is dead.

Mutants seen to be killed: a slot given twice, a third move, to where it waits already, to where it must not
go, stale loads believed, the youngest first, classes ignored, all senders at once, a live owner reaped, an
orphan reaped at first sight, an orphan never reaped, an unsettled one kept.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.candidate import Candidate
from sidecar.core.queue_moves import MOST_MOVES, QueuedAttempt, free_slots, moves
from sidecar.core.queue_values import Priority
from sidecar.core.reaper import Cause, Dead, Entry, Reaper
from swarmplane.ids import BackendName, EndpointId, NodeId
from swarmplane.routes import Endpoint


def candidate(
    name: str, *, in_flight: int = 0, queued: int = 0, slots: int = 1, local: bool = False
) -> Candidate:
    endpoint = Endpoint(EndpointId(name), NodeId(name), BackendName("b"), "m")
    return Candidate(endpoint, local, in_flight=in_flight, queued=queued, slots=slots, load_known=True)


def attempt(request: int, **other: object) -> QueuedAttempt:
    return replace(QueuedAttempt(request, EndpointId("busy"), float(request), 30.0), **other)  # type: ignore[arg-type]


BUSY = candidate("busy", in_flight=1, queued=3)
IDLE = candidate("idle")


def moved(
    *queued: QueuedAttempt, among: tuple[Candidate, ...] = (BUSY, IDLE), draw: float = 0.0
) -> list[int]:
    return [move.request for move in moves(queued, among, draw)]


def test_the_oldest_of_the_most_urgent_takes_the_free_slot() -> None:
    assert moved(attempt(3), attempt(1), attempt(2)) == [1]
    assert moved(attempt(3, priority=Priority.INTERACTIVE), attempt(1), attempt(2)) == [3]
    assert moved(attempt(1), attempt(2), attempt(3), among=(BUSY, candidate("idle", slots=2))) == [1, 2]
    [move] = moves([attempt(1)], (candidate("busy", in_flight=1, queued=1), IDLE), 0.0)
    assert move.to == IDLE


def test_each_free_slot_is_given_once() -> None:
    more = candidate("more", slots=2)
    found = moves([attempt(1), attempt(2), attempt(3)], (BUSY, IDLE, more), 0.0)
    assert sorted(move.to.node_name or move.to.endpoint.id for move in found) == ["idle", "more", "more"]


def test_a_slot_that_was_given_is_not_free_though_others_are() -> None:
    only = frozenset({EndpointId("idle")})
    queued = (attempt(1, permitted=only), attempt(2, permitted=only), attempt(3))
    assert moved(*queued, among=(BUSY, IDLE, candidate("more", slots=2))) == [1, 3]


def test_who_stays() -> None:
    one = candidate("busy", in_flight=1, queued=1)
    assert moved(attempt(1), among=(one,)) == []
    assert moved(among=(one, IDLE)) == []
    assert moved(attempt(1, moves=MOST_MOVES), among=(one, IDLE)) == []
    assert moved(attempt(1, moves=MOST_MOVES - 1), among=(one, IDLE)) == [1]
    assert moved(attempt(1, expected_wait_s=0.1), among=(one, IDLE)) == []
    assert moved(attempt(1, permitted=frozenset({EndpointId("other")})), among=(one, IDLE)) == []
    assert moved(attempt(1, permitted=frozenset({EndpointId("idle")})), among=(one, IDLE)) == [1]
    assert moved(attempt(1, endpoint=EndpointId("idle")), among=(one, IDLE)) == []


def test_free_slots_must_be_known() -> None:
    assert free_slots(IDLE) == 1
    assert free_slots(BUSY) == 0
    assert free_slots(replace(IDLE, load_known=False)) == 0
    assert free_slots(replace(IDLE, suspect=True)) == 0
    assert free_slots(replace(IDLE, slots=0)) == 0
    assert free_slots(replace(IDLE, endpoint=replace(IDLE.endpoint, ready=False))) == 0


def test_this_host_first_then_the_emptiest() -> None:
    one = candidate("busy", in_flight=1, queued=1)
    emptier = candidate("emptier", slots=5)
    [move] = moves([attempt(1)], (one, IDLE, emptier), 0.0)
    assert move.to == emptier
    [move] = moves([attempt(1)], (one, emptier, candidate("home", local=True)), 0.0)
    assert move.to.local


@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), st.integers(1, 4), st.integers(0, 10_000))
def test_all_senders_together_send_about_as_many_as_there_are_slots(
    senders: list[int], slots: int, seed: int
) -> None:
    """Each knows its own queued attempts and all that are queued; draws are spread evenly."""
    busy = candidate("busy", in_flight=1, queued=sum(senders))
    idle = candidate("idle", slots=slots)
    total = 0.0
    rounds = 64
    for turn in range(rounds):
        for index, own in enumerate(senders):
            draw = ((turn * 37 + index * 11 + seed) % rounds) / rounds
            taken = moved(*(attempt(n) for n in range(own)), among=(busy, idle), draw=draw)
            assert len(taken) == len(set(taken)) <= min(slots, own)
            total += len(taken)
    assert total / rounds <= slots + len(senders) / rounds
    assert total / rounds >= min(slots, sum(senders)) * 0.5


def test_reaper() -> None:
    reaper, living = Reaper(), {1, 2, 3}
    entries = [Entry(11, 1), Entry(12, 2), Entry(13, 3, free_at_s=50.0)]

    def look(now_s: float) -> tuple[Dead, ...]:
        return reaper.look(entries, living.__contains__, now_s)

    assert look(0.0) == look(54.9) == ()
    assert look(55.0) == (Dead(13, Cause.UNSETTLED),)
    entries.pop()
    living.clear()
    assert look(60.0) == ()
    living.add(1)
    assert look(64.0) == ()
    assert look(65.0) == (Dead(12, Cause.ORPHANED),)
    entries.pop()
    assert look(1e9) == ()
    living.clear()
    assert look(1e9 + 1) == ()
    assert look(1e9 + 5.9) == ()
    assert look(1e9 + 6) == (Dead(11, Cause.ORPHANED),)
