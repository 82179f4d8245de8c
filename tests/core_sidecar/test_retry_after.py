"""Retry-After. Mutants seen to be killed: the cap, the jitter, the owner's shorter hold, milliseconds as
seconds, dates against no date, limits that are not used up, the shortest of several, growth without a
named wait.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.retry_after import asked_wait_s, hold_s

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
LATER = "Wed, 21 Oct 2026 07:28:30 GMT"


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        pytest.param({}, 0, id="none"),
        pytest.param({"retry-after": "7"}, 7, id="seconds"),
        pytest.param({"retry-after": " 1.5 "}, 1.5, id="fractions"),
        pytest.param({"retry-after": "86400"}, 300, id="capped"),
        pytest.param({"retry-after-ms": "250", "retry-after": "1"}, 0.25, id="milliseconds-first"),
        pytest.param({"retry-after-ms": "x", "retry-after": "1"}, 1, id="unreadable-milliseconds"),
        pytest.param({"retry-after": LATER, "date": DATE}, 30, id="date"),
        pytest.param({"retry-after": DATE, "date": LATER}, 0, id="past"),
        pytest.param({"retry-after": LATER}, 0, id="date-without-a-clock"),
        pytest.param({"retry-after": LATER, "date": "Wed, 21 Oct 2026 07:28:00 -0000"}, 0, id="zone-unknown"),
        pytest.param({"retry-after": "-5"}, 0, id="negative"),
        pytest.param({"retry-after": "soon"}, 0, id="words"),
        pytest.param({"retry-after": "nan"}, 0, id="nan"),
        pytest.param(
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m6s"}, 66, id="used-up"
        ),
        pytest.param(
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms",
             "x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "1h"}, 0.02,
            id="only-used-up-ones",
        ),
        pytest.param(
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12"}, 12, id="plain-seconds"
        ),
        pytest.param(
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "3s",
             "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "5s"}, 5,
            id="the-longest-of-several",
        ),
        pytest.param(
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "tomorrow"}, 0,
            id="unreadable-reset",
        ),
    ],
)  # fmt: skip
def test_asked_wait(headers: dict[str, str], wait_s: float) -> None:
    assert asked_wait_s(headers) == pytest.approx(wait_s)


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date"]), st.text(max_size=30)))
def test_any_text_is_a_bounded_wait(headers: dict[str, str]) -> None:
    assert 0 <= asked_wait_s(headers) <= 300


def test_holds() -> None:
    assert hold_s(20, owner_said=False, times=0, draw=0) == 20
    assert hold_s(20, owner_said=False, times=9, draw=1) == 30
    assert hold_s(20, owner_said=True, times=0, draw=0) == 3
    assert hold_s(1e6, owner_said=False, times=0, draw=0) == 300
    assert [hold_s(0, owner_said=False, times=n, draw=0) for n in (0, 1, 2, 5, 2000)] == [0.5, 1, 2, 15, 15]
    assert hold_s(0, owner_said=True, times=9, draw=0) == 3
