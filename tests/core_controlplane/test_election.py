"""How long an elected holder may act.

Mutants that were tried and are killed: the margin added instead of taken off; the time of the answer kept
instead of that of the question; a late answer that shortens a tenure; ``<=`` at the end.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.election import ElectionPolicy, Tenure, ends_s, holds, renewed

POLICY = ElectionPolicy(ttl_s=3.0, margin_s=0.3, renewals=3)
SECONDS = st.floats(0, 100, allow_nan=False)


def test_a_tenure_ends_before_its_lease_can() -> None:
    tenure = Tenure(5, 1, 7, sent_s=10.0)
    assert ends_s(tenure, POLICY) == 12.7
    assert holds(tenure, 12.6, POLICY)
    assert not holds(tenure, 12.7, POLICY)
    assert not holds(None, 0.0, POLICY)
    assert POLICY.every_s == 1.0


@given(sent=SECONDS, delays=st.lists(st.tuples(SECONDS, st.floats(0, 5)), max_size=8), now=SECONDS)
def test_nobody_holds_longer_than_the_lease_of_the_last_question(
    sent: float, delays: list[tuple[float, float]], now: float
) -> None:
    """The store counts from some moment between question and answer; the holder must be done by then."""
    tenure, last = Tenure(5, 1, 7, sent), sent
    for asked_s, _answered_after_s in delays:
        tenure = renewed(tenure, asked_s)
        last = max(last, asked_s)
    assert tenure.sent_s == last
    if holds(tenure, now, POLICY):
        assert now < last + POLICY.ttl_s
    else:
        assert now >= last + POLICY.ttl_s - POLICY.margin_s
