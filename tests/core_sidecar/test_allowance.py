"""What is left of a limit that refills evenly.

Mutants that were tried and are killed: no cap at the limit, a clock that goes back, use that adds or is free,
waits that are too short, too long, or below nothing, another default of ``units`` than one.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.allowance import Allowance, refilled, used, wait_s


@pytest.mark.parametrize(
    ("was", "now_s", "left"),
    [
        pytest.param(None, 5.0, 10.0, id="nothing-was-used-yet"),
        pytest.param(Allowance(0.0, 0.0), 30.0, 5.0, id="half-the-time-is-half-of-it"),
        pytest.param(Allowance(9.0, 0.0), 600.0, 10.0, id="never-more-than-the-limit"),
        pytest.param(Allowance(-5.0, 0.0), 30.0, 0.0, id="a-debt-is-paid-first"),
        pytest.param(Allowance(3.0, 9.0), 8.0, 3.0, id="a-clock-that-goes-back-gives-nothing"),
    ],
)
def test_it_refills_evenly(was: Allowance | None, now_s: float, left: float) -> None:
    assert refilled(was, 10, 60.0, now_s) == Allowance(left, now_s)


@given(
    # Few, so that they are used up: nothing is to be seen of a limit that nobody reaches.
    st.integers(1, 5),
    st.floats(1.0, 90_000.0),
    st.lists(st.floats(0.0, 500.0), max_size=60),
)
def test_never_more_than_a_burst_and_the_rate(limit: int, period_s: float, gaps: list[float]) -> None:
    """Kills: no cap at the limit; a wait that is too short or that another one has to follow."""
    has: Allowance | None = None
    now_s, taken = 0.0, 0
    for gap_s in gaps:
        now_s += gap_s
        has = refilled(has, limit, period_s, now_s)
        left_s = wait_s(has, limit, period_s)
        if left_s == 0.0:
            before, has, taken = has, used(has, 1.0), taken + 1
            assert has == Allowance(before.left - 1.0, now_s)
        else:
            later = refilled(has, limit, period_s, now_s + left_s)
            assert later.left == pytest.approx(1.0)
            assert wait_s(has, limit, period_s, 1.0) == left_s > 0.0
    assert taken <= limit + now_s * limit / period_s + 1e-6
