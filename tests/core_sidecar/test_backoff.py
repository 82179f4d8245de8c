from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.backoff import doubling_s, full_jitter_s, retry_after_s

draws = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("times", "expected"), [(0, 1.0), (1, 2.0), (4, 16.0), (5, 30.0), (6, 30.0), (5000, 30.0)]
)
def test_doubling(times: int, expected: float) -> None:
    """Kills: no cap, no bound on the power (overflow), tripling, starting at two."""
    assert doubling_s(times, base_s=1.0, cap_s=30.0) == expected


@pytest.mark.parametrize(
    ("failures", "draw", "expected"),
    [(1, 0.0, 0.0), (1, 1.0, 0.025), (2, 1.0, 0.075), (3, 0.5, 0.0875), (4, 1.0, 0.25), (9999, 0.5, 0.125)],
)
def test_full_jitter(failures: int, draw: float, expected: float) -> None:
    """Kills: equal jitter (never 0), no cap, bound without the -1."""
    assert full_jitter_s(failures, draw) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wait_s", "draw", "expected"),
    [(0.0, 0.9, 1), (0.4, 0.0, 1), (10.0, 0.0, 10), (10.0, 0.999, 15), (59.0, 0.999, 60), (900.0, 0.0, 60)],
)
def test_retry_after(wait_s: float, draw: float, expected: int) -> None:
    """Kills: bounds of 0 or 61, no jitter, jitter that comes back early."""
    assert retry_after_s(wait_s, draw) == expected


@given(st.floats(0, 1e6), draws)
def test_retry_after_is_always_allowed_and_never_much_too_early(wait_s: float, draw: float) -> None:
    value = retry_after_s(wait_s, draw)
    assert 1 <= value <= 60
    assert value >= min(wait_s, 60) - 0.5
