"""When leases end, and how old history is: the parts of the store that only compute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.store.leases import LeaseTimes
from controlplane.store.limits import prefix_end
from controlplane.store.retention import HistoryAge, Retention


def looked_after(leases: LeaseTimes, now_s: float, until_s: float) -> float:
    """Do what the reaper does until ``until_s``, in time."""
    while now_s < until_s:
        now_s = min(until_s, now_s + leases.rest_s(now_s))
        leases.ended(now_s)
    return now_s


def test_a_lease_ends_at_its_time_and_not_before() -> None:
    leases = LeaseTimes({1: 5.0}, 100.0)
    leases.grant(2, 3.0, looked_after(leases, 100.0, 101.0))
    looked_after(leases, 101.0, 103.9)
    assert leases.ended(103.9) == ()
    assert leases.ended(104.0) == (2,)
    assert leases.ended(104.9) == (2,)
    assert leases.ended(105.0) == (1, 2)
    leases.forget(2)
    assert leases.ended(105.0) == (1,)


def test_nothing_brings_an_ended_lease_back() -> None:
    leases = LeaseTimes({1: 1.0, 2: 60.0, 3: 60.0}, 0.0)
    looked_after(leases, 0.0, 0.5)
    assert leases.end(2)
    assert not leases.end(2)
    for lease in (1, 2, 4):
        assert not leases.renew(lease, 1.0)
        assert leases.remaining_s(lease, 1.0) is None
    assert leases.renew(3, 1.0)
    assert leases.ended(1.0) == (1, 2)


@pytest.mark.parametrize("gap_s", [1.01, 5.0, 86_400.0])
@pytest.mark.parametrize("first", ["renew", "remaining", "ended", "grant"])
def test_whoever_runs_first_after_a_gap_gives_it_to_every_lease_once(gap_s: float, first: str) -> None:
    leases = LeaseTimes({1: 2.0, 2: 30.0}, 0.0)
    due_s = leases.rest_s(0.0)
    now_s = due_s + gap_s
    if first == "renew":
        assert leases.renew(1, now_s)
        left_s = 2.0
    else:
        left_s = 2.0 - due_s
        if first == "remaining":
            leases.remaining_s(1, now_s)
        elif first == "ended":
            assert leases.ended(now_s) == ()
        else:
            leases.grant(3, 7.0, now_s)
            assert leases.remaining_s(3, now_s) == pytest.approx(7.0)
    assert leases.remaining_s(1, now_s) == pytest.approx(left_s, abs=1e-4)
    assert leases.remaining_s(2, now_s) == pytest.approx(30.0 - due_s, abs=1e-4)


def test_a_short_delay_is_no_gap() -> None:
    leases = LeaseTimes({1: 2.0}, 0.0)
    due_s = leases.rest_s(0.0)
    assert leases.remaining_s(1, due_s + 0.9) == pytest.approx(2.0 - due_s - 0.9)


@given(st.lists(st.floats(0.01, 100.0), max_size=8))
def test_the_reaper_rests_until_the_next_end_but_neither_long_nor_idly(ttls: list[float]) -> None:
    leases = LeaseTimes(dict(enumerate(ttls, 1)), 0.0)
    rest_s = leases.rest_s(0.0)
    assert 0.05 <= rest_s <= 1.0
    assert rest_s <= max(0.05, min(ttls, default=1.0))


RETENTION = Retention(min_revisions=10, max_revisions=100, max_age_s=60.0)


def test_history_beyond_the_most_revisions_is_forgotten() -> None:
    assert HistoryAge(RETENTION).oldest_to_keep(250, 0.0) == 150


def test_history_beyond_the_age_is_forgotten_but_for_the_last_revisions() -> None:
    age = HistoryAge(RETENTION)
    kept = [
        age.oldest_to_keep(revision, now_s) for now_s, revision in ((0, 20), (30, 40), (59, 60), (60, 61))
    ]
    assert kept == [0, 0, 0, 20]
    assert age.oldest_to_keep(62, 89.9) == 20
    assert age.oldest_to_keep(62, 90.0) == 40
    assert age.oldest_to_keep(62, 1_000.0) == 52


def test_asking_for_a_long_time_costs_no_memory() -> None:
    age = HistoryAge(RETENTION)
    for second in range(0, 100_000, 10):
        age.oldest_to_keep(second, float(second))
    assert len(age._marks) <= 8


@given(st.binary(max_size=4), st.binary(max_size=4))
def test_the_end_of_a_prefix_parts_what_starts_with_it_from_what_comes_after(
    prefix: bytes, key: bytes
) -> None:
    end = prefix_end(prefix)
    assert key.startswith(prefix) is (key >= prefix and (end is None or key < end))
