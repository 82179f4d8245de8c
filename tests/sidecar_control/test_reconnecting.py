"""Kills: no jitter, no cap, the soon cap kept for ever, overflow after many failures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.control.reconnect import reconnect_delay_s

draws = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 10_000), st.floats(0, 1e6), draws)
def test_a_delay_is_never_above_the_cap_of_its_time(failures: int, lost_for_s: float, draw: float) -> None:
    delay_s = reconnect_delay_s(failures, lost_for_s, draw)
    assert 0 <= delay_s <= (2.0 if lost_for_s < 10 else 15.0)


def test_the_first_try_comes_within_a_tenth_of_a_second() -> None:
    assert reconnect_delay_s(0, 0.0, 0.999) < 0.1


def test_delays_double_until_the_cap() -> None:
    assert [round(reconnect_delay_s(n, 0.0, 0.5), 3) for n in range(7)] == [
        0.05,
        0.1,
        0.2,
        0.4,
        0.8,
        1.0,
        1.0,
    ]
    assert round(reconnect_delay_s(9, 60.0, 0.5), 3) == 7.5


def test_the_whole_range_below_the_cap_is_used() -> None:
    assert reconnect_delay_s(9, 60.0, 0.0) == 0.0
    assert reconnect_delay_s(9, 60.0, 0.99) > 14
