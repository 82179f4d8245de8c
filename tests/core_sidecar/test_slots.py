"""Slots. Mutants seen to be killed: freed at once after a cancellation,
negative use, negative limits, the fuller replica chosen.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.slots import Ending, Seats, Settling, free_at_s

POLICY = Settling()


@pytest.mark.parametrize(
    ("ending", "answering", "notices", "rest_s", "free_s"),
    [
        pytest.param(Ending.COMPLETED, True, False, 50.0, 10.0, id="completed-is-idle"),
        pytest.param(Ending.BROKEN, False, False, 50.0, 10.0, id="broken-is-over"),
        pytest.param(Ending.CANCELLED, True, True, 50.0, 10.25, id="stops-at-the-next-token"),
        pytest.param(Ending.CANCELLED, False, True, 50.0, 12.0, id="stops-after-a-batch-of-the-prompt"),
        pytest.param(Ending.CANCELLED, True, False, 50.0, 60.0, id="runs-to-its-end"),
        pytest.param(Ending.CANCELLED, True, False, 500.0, 70.0, id="but-not-for-ever"),
        pytest.param(Ending.CANCELLED, True, False, -5.0, 10.0, id="longer-than-usual-already"),
    ],
)
def test_when_a_slot_is_free(
    ending: Ending, rest_s: float, free_s: float, *, answering: bool, notices: bool
) -> None:
    found = free_at_s(ending, 10.0, answering=answering, notices=notices, rest_s=rest_s, policy=POLICY)
    assert found == free_s


def test_places() -> None:
    seats = Seats()
    assert seats.place() == ""
    assert not seats.any_free
    seats.set_limit("a", 4)
    seats.set_limit("b", 2)
    seats.take("a")
    assert seats.place() == "b"
    assert seats.place(preferred="a") == "a"
    assert seats.place(preferred="gone") == "b"
    assert seats.place(only="a") == "a"
    assert seats.place(only="gone") == ""
    assert (seats.total, list(seats), seats.limit("gone")) == (6, ["a", "b"], 0)
    seats.set_limit("b", -1)
    assert seats.total == 4


@given(
    st.lists(st.tuples(st.sampled_from(["take", "give", "limit"]), st.sampled_from("ab"), st.integers(-1, 4)))
)
def test_never_negative_and_never_beyond(steps: list[tuple[str, str, int]]) -> None:
    seats = Seats()
    for act, endpoint, limit in steps:
        if act == "take" and (place := seats.place()):
            assert seats.used(place) < seats.limit(place)
            seats.take(place)
        elif act == "give":
            before = seats.used(endpoint)
            seats.give(endpoint)
            assert seats.used(endpoint) == max(before - 1, 0)
        else:
            seats.set_limit(endpoint, limit)
        for name in "ab":
            assert seats.limit(name) >= 0
            assert seats.free(name) == max(seats.limit(name) - seats.used(name), 0)
        assert seats.any_free == bool(seats.place()) == any(seats.free(name) for name in "ab")
