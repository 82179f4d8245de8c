"""What is written of silent nodes. Docstrings name the mutants seen to be killed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.doubts import Doubt, to_write
from controlplane.core.membership import MembershipPolicy
from swarmplane.ids import NodeId

POLICY = MembershipPolicy()


def doubts(*numbers: int) -> frozenset[Doubt]:
    return frozenset(Doubt(NodeId(f"n{number}"), number) for number in numbers)


def test_silence_is_written_once_and_taken_back_when_it_is_over() -> None:
    """Kills: written at every look, or never taken back."""
    assert to_write(frozenset(), frozenset(), 10, POLICY) is None
    assert to_write(doubts(1), frozenset(), 10, POLICY) == doubts(1)
    assert to_write(doubts(1), doubts(1), 10, POLICY) is None
    assert to_write(doubts(1, 2), doubts(1), 10, POLICY) == doubts(1, 2)
    assert to_write(doubts(2), doubts(1, 2), 10, POLICY) == doubts(2)
    assert to_write(frozenset(), doubts(1), 10, POLICY) == frozenset()


def test_another_session_of_the_same_node_is_another_doubt() -> None:
    """Kills: doubts told apart by node alone."""
    node = NodeId("n1")
    assert to_write({Doubt(node, 2)}, {Doubt(node, 1)}, 10, POLICY) == frozenset({Doubt(node, 2)})


def test_a_mass_of_silence_adds_nothing_and_still_takes_back() -> None:
    """Kills: no limit, `>=` for `>`, the floor or the ratio alone, nothing taken back in a mass."""
    assert to_write(doubts(1, 2, 3), frozenset(), 10, POLICY) == doubts(1, 2, 3)
    assert to_write(doubts(1, 2, 3, 4), frozenset(), 10, POLICY) is None
    assert to_write(doubts(1), frozenset(), 1, POLICY) == doubts(1)
    assert to_write(doubts(1, 2), frozenset(), 2, POLICY) is None
    assert to_write(doubts(1, 2, 3, 4), doubts(1, 9), 10, POLICY) == doubts(1)


@given(st.frozensets(st.integers(0, 9)), st.frozensets(st.integers(0, 9)), st.integers(0, 10))
def test_what_is_written_is_always_silent_and_a_second_look_writes_nothing(
    silent: frozenset[int], written: frozenset[int], population: int
) -> None:
    """Kills: what stood before kept though it was heard."""
    wanted = to_write(doubts(*silent), doubts(*written), population, POLICY)
    stands = doubts(*written) if wanted is None else wanted
    assert stands <= doubts(*silent)
    assert to_write(doubts(*silent), stands, population, POLICY) is None
