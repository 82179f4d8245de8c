"""Who comes in, who waits, and who comes again when.

Mutants that were tried and are killed: places are not bounded; who comes later overtakes the line; the line
is not bounded, for those who are told of it either; turns are told to all alike; turns are told without end;
a turn before the line's end; the mean forgets everything or nothing; who gave up keeps its place in the line.
"""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.admission import (
    AdmissionPolicy,
    Answer,
    Line,
    admits,
    arrive,
    crowded,
    enter,
    give_up,
    leave,
)

POLICY = AdmissionPolicy(places=2, patience_s=1.0, longest_s=10.0, spread=0.5)
# A turn takes 0.1 s here: ten wait within their patience.
FULL = Line(inside=2, waiting=10, each_s=0.2)


@pytest.mark.parametrize(
    ("line", "after", "answer", "again_s"),
    [
        pytest.param(Line(), Line(inside=1), Answer.ENTER, 0.0, id="an-empty-instance-takes-in"),
        pytest.param(Line(inside=2), Line(inside=2, waiting=1), Answer.WAIT, 0.0, id="places-are-bounded"),
        pytest.param(
            Line(inside=1, waiting=1), Line(inside=1, waiting=2), Answer.WAIT, 0.0, id="nobody-overtakes"
        ),
        pytest.param(
            Line(inside=2, waiting=9, each_s=0.2), FULL, Answer.WAIT, 0.0, id="the-last-who-has-patience"
        ),
    ],
)
def test_arrivals(line: Line, after: Line, answer: Answer, again_s: float) -> None:
    assert arrive(line, 5.0, POLICY, 0.0) == (after, answer, again_s)


def test_who_can_be_told_of_the_line_has_more_patience() -> None:
    policy = AdmissionPolicy(places=2, patience_s=1.0, told_patience_s=3.0)
    longer, answer, _ = arrive(FULL, 5.0, policy, 0.0, told=True)
    assert (longer.waiting, answer) == (11, Answer.WAIT)
    assert arrive(FULL, 5.0, policy, 0.0)[1] is Answer.LATER
    line = Line(inside=2, waiting=30, each_s=0.2)
    assert arrive(line, 5.0, policy, 0.0, told=True)[1] is Answer.LATER, "it is bounded, too"


@pytest.mark.parametrize(
    ("line", "crowded_"),
    [(Line(), False), (Line(inside=8), False), (Line(inside=9), True), (Line(inside=1, waiting=1), True)],
)
def test_a_crowd_is_who_waits_or_many_at_once(line: Line, crowded_: bool) -> None:
    assert crowded(line, AdmissionPolicy(places=24)) is crowded_


def test_those_sent_away_have_a_turn_each_after_the_line() -> None:
    line, answer, first_s = arrive(FULL, 5.0, POLICY, 0.0)
    assert answer is Answer.LATER
    assert (line.inside, line.waiting) == (2, 10)
    assert first_s == pytest.approx(1.2)
    line, _, second_s = arrive(line, 5.0, POLICY, 0.0)
    assert second_s == pytest.approx(1.3)
    _, _, later_s = arrive(line, 6.0, POLICY, 0.0)
    assert later_s == pytest.approx(1.2), "time that passed counts; the line's end is the least"
    _, _, spread_s = arrive(FULL, 5.0, POLICY, 0.999)
    assert first_s < spread_s < first_s * 1.5


def test_nobody_is_sent_away_for_ever() -> None:
    line = FULL
    for _ in range(1000):
        line, _, again_s = arrive(line, 5.0, POLICY, 0.0)
        assert again_s <= POLICY.longest_s
    assert line.told_until_s <= 5.0 + POLICY.longest_s, "those who come after it is over find it short again"


def test_the_line_moves_on() -> None:
    assert admits(Line(inside=1, waiting=1), POLICY)
    assert not admits(Line(inside=2, waiting=1), POLICY)
    assert not admits(Line(inside=0, waiting=0), POLICY)
    assert enter(Line(inside=1, waiting=2)) == Line(inside=2, waiting=1)
    assert give_up(Line(inside=1, waiting=2)) == Line(inside=1, waiting=1)
    left = leave(Line(inside=2, each_s=0.2), 1.2)
    assert (left.inside, left.waiting, left.each_s) == (1, 0, pytest.approx(0.3))


@given(
    arrivals=st.lists(st.floats(0, 3), min_size=1, max_size=300),
    takes_s=st.floats(0.01, 0.5),
    places=st.integers(1, 8),
    draws=st.randoms(use_true_random=False),
)
def test_everybody_comes_in_and_never_too_many_at_once(
    arrivals: list[float], takes_s: float, places: int, draws: st.DataObject
) -> None:
    """Everybody comes back when it was told to, and nobody is left."""
    policy = AdmissionPolicy(places=places, patience_s=1.0, longest_s=15.0)
    events = [(at_s, number, "comes") for number, at_s in enumerate(arrivals)]
    heapq.heapify(events)
    line, served, waiting, count = Line(), 0, 0, len(events)

    def begin(now_s: float) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (now_s + takes_s, count, "leaves"))

    while events:
        now_s, number, what = heapq.heappop(events)
        if what == "comes":
            line, answer, again_s = arrive(line, now_s, policy, draws.random())  # type: ignore[attr-defined]
            if answer is Answer.ENTER:
                begin(now_s)
            elif answer is Answer.WAIT:
                waiting += 1
            else:
                assert again_s > 0
                heapq.heappush(events, (now_s + again_s, number, "comes"))
        else:
            line, served = leave(line, takes_s), served + 1
            while admits(line, policy):
                line, waiting = enter(line), waiting - 1
                begin(now_s)
        assert 0 <= line.inside <= places
        assert line.waiting == waiting
    assert served == len(arrivals)
    assert (line.inside, line.waiting) == (0, 0)
