"""First bytes, stalls, hedges, slow start.

Mutants seen to be killed: the floor, the factor, the hard limit, the scale or its least dropped; few samples
believed like many, or wider than none, or narrower than many; others or
spent ignored; silence while paused or suspended counted; a hedge that something forbids; weights below
the least.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from sidecar.core.deadlines import FirstBytePolicy, Usual, first_byte_limit_s
from sidecar.core.hedging import Hedgeable, HedgePolicy, hedge_at_s, may_hedge
from sidecar.core.slow_start import SlowStart, usable_slots, weight
from sidecar.core.stalls import LEAST_BEATS, Gaps, Pace, StallPolicy, silence_s, stall_limit_s

POLICY = FirstBytePolicy()


@pytest.mark.parametrize(
    ("usual", "tokens", "others", "spent", "limit_s"),
    [
        pytest.param(Usual(5.0, 1000), 1000, True, False, 20.0, id="four-times-the-worst"),
        pytest.param(Usual(5.0, 1000), 3000, True, False, 60.0, id="scaled-by-the-prompt"),
        pytest.param(Usual(5.0, 0), 3000, True, False, 20.0, id="no-size-no-scale"),
        pytest.param(Usual(0.2, 1000), 1000, True, False, 10.0, id="floor"),
        pytest.param(Usual(100.0, 1000), 1, True, False, 100.0, id="a-part-does-not-depend-on-the-prompt"),
        pytest.param(Usual(100.0, 1000), 50_000, True, False, 600.0, id="hard-limit"),
        pytest.param(Usual(5.0, 1000), 1000, False, False, 600.0, id="nobody-else"),
        pytest.param(Usual(5.0, 1000), 1000, True, True, 600.0, id="fires-once"),
        pytest.param(Usual(0.5, 0, 2), 100, True, False, 10.0, id="two-quick-ones"),
        pytest.param(Usual(1.5, 0, 2), 100, True, False, 24.0, id="the-fewer-the-wider"),
        pytest.param(Usual(5.0, 0, 1), 100, True, False, 30.0, id="no-wider-than-without-history"),
        pytest.param(Usual(10.0, 0, 1), 100, True, False, 40.0, id="but-never-narrower-than-with-many"),
        pytest.param(Usual(3.0, 0, 8), 100, True, False, 12.0, id="enough"),
        pytest.param(None, 100, True, False, 30.0, id="no-history"),
        pytest.param(None, 5000, True, False, 200.0, id="no-history-and-a-long-prompt"),
    ],
)
def test_first_byte_limit(
    usual: Usual | None, tokens: int, limit_s: float, *, others: bool, spent: bool
) -> None:
    assert first_byte_limit_s(usual, tokens, others=others, spent=spent, policy=POLICY) == limit_s


def test_stalls() -> None:
    policy = StallPolicy()
    assert stall_limit_s(0.0, policy) == 300.0
    assert stall_limit_s(0.02, policy) == 60.0
    assert stall_limit_s(1.0, policy) == 100.0
    assert stall_limit_s(100.0, policy) == 300.0
    assert silence_s(50.0, 10.0, listening_since_s=0.0) == 40.0
    assert silence_s(50.0, 10.0, listening_since_s=30.0) == 20.0
    assert silence_s(50.0, 10.0, listening_since_s=inf) == 0.0
    assert silence_s(50.0, 10.0, listening_since_s=0.0, awake_since_s=45.0) == 5.0


def test_a_pace_is_seen_by_looking() -> None:
    """Kills: looks counted in which nothing came, the mean over looks instead of time, few looks believed."""
    pace = Pace(10.0)
    for look in range(LEAST_BEATS - 1):
        for _ in range(3):
            pace.look(10.5 + look / 2)
    assert pace.gap_s == 0.0
    pace.look(10.0 + LEAST_BEATS / 2)
    pace.look(0.0)
    assert pace.gap_s == 0.5


def test_gaps_follow_what_answers_show() -> None:
    """Kills: one endpoint's gap taken for another's, zero learned, no smoothing, the first one smoothed."""
    gaps = Gaps()
    gaps.learn("a", 0.0)
    assert gaps.of("a") == 0.0
    gaps.learn("a", 1.0)
    assert (gaps.of("a"), gaps.of("b")) == (1.0, 0.0)
    gaps.learn("a", 2.0)
    gaps.learn("a", 0.0)
    gaps.learn("b", 7.0)
    assert gaps.of("a") == pytest.approx(1.2)
    gaps.keep("b".__eq__)
    assert (gaps.of("a"), gaps.of("b")) == (0.0, 7.0)


GOOD = Hedgeable(stateless=True, paid=False, answering=False, running=True, hedged=False)
ON = HedgePolicy(enabled=True)


def hedges(
    request: Hedgeable = GOOD, *, free: bool = True, hedging: int = 0, budget: bool = True, active: int = 10,
    policy: HedgePolicy = ON,
) -> bool:  # fmt: skip
    return may_hedge(
        request, free_elsewhere=free, hedging=hedging, retry_budget_free=budget, active=active, policy=policy
    )


def test_hedging() -> None:
    assert hedges()
    assert not hedges(policy=HedgePolicy())
    assert not hedges(free=False)
    assert not hedges(budget=False)
    assert not hedges(hedging=1)
    assert hedges(hedging=1, active=40)
    assert not hedges(hedging=2, active=40)
    for change in (
        {"stateless": False},
        {"paid": True},
        {"answering": True},
        {"running": False},
        {"hedged": True},
    ):
        assert not hedges(replace(GOOD, **change))
    assert hedge_at_s(100.0, 3.0, ON) == 103.0
    assert hedge_at_s(100.0, 0.1, ON) == 100.5
    assert hedge_at_s(100.0, 0.0, ON) == 110.0
    assert hedge_at_s(100.0, 3.0, HedgePolicy()) == inf


def test_slow_start() -> None:
    policy = SlowStart(window_s=30.0)
    assert [weight(100.0, now_s, policy) for now_s in (99, 100, 103, 115, 130, 1e9)] == [
        0.1,
        0.1,
        0.1,
        0.5,
        1,
        1,
    ]
    assert weight(-inf, 0.0, policy) == 1.0
    assert weight(100.0, 100.0, SlowStart(window_s=0.0)) == 1.0
    assert weight(0.0, 7.5, SlowStart(aggression=2.0)) == 0.5
    assert [usable_slots(8, share) for share in (0.1, 0.3, 0.5, 1.0)] == [1, 3, 4, 8]
    assert usable_slots(0, 1.0) == 1
