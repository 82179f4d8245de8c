"""What nodes tell of themselves for others. Docstrings name the mutants seen to be killed."""

from __future__ import annotations

from controlplane.core.boards import ConditionBoard, PrefixBoard
from swarmplane.conditions import Condition, EndpointCondition, NodeCondition
from swarmplane.ids import EndpointId, ModelName, NodeId
from swarmplane.prefixes import HASH_BYTES, MOST_BLOCKS, EndpointPrefixes

A, B = NodeId("a"), NodeId("b")
EA, EB = EndpointId("a/x/m"), EndpointId("b/x/m")
M = ModelName("m")


def test_a_node_tells_of_its_own_endpoints_until_its_word_is_too_old() -> None:
    """Kills: owner not checked, age lost, `>` at the limit, a word that is never too old."""
    board = ConditionBoard()
    own, others = EndpointCondition(EA, "cold"), EndpointCondition(EB, "cold")
    board.fold(A, Condition(1, endpoints=(own, others), valid_s=90.0), 10.0)
    assert board.nodes == {A}
    kept = Condition(1, endpoints=(own,), valid_s=90.0)
    assert board.digest([A, B], 12.5) == (NodeCondition(A, kept, 2500), NodeCondition(B, None))
    assert board.digest([A], 99.9)[0].condition == kept
    assert board.digest([A], 100.0) == (NodeCondition(A, None),)
    assert board.digest([A], 9.0)[0].age_ms == 0
    assert board.drop(A)
    assert not board.drop(A)
    assert board.digest([A], 12.5) == (NodeCondition(A, None),)


def told(endpoint: EndpointId, blocks: bytes = b"12345678") -> EndpointPrefixes:
    return EndpointPrefixes(endpoint, M, blocks, 1)


def test_digests_are_of_own_endpoints_news_only_and_bounded() -> None:
    """Kills: owner not checked, what did not change told again, no bound, the newest dropped."""
    board = PrefixBoard(most=2)
    assert board.fold(A, [told(EA), told(EB)]) == {EA}
    assert board.fold(A, [told(EA)]) == frozenset()
    assert board.fold(A, [told(EA, b"87654321")]) == {EA}
    assert board.digest([EA, EB]) == (told(EA, b"87654321"),)
    second, third = EndpointId("a/x/2"), EndpointId("a/x/3")
    board.fold(A, [told(second)])
    board.fold(A, [told(EA)])
    board.fold(A, [told(third)])
    assert board.endpoints == {EA, third}
    board.fold(B, [told(EB, b"x" * HASH_BYTES * (MOST_BLOCKS + 1))])
    assert len(board.digest([EB])[0].blocks) == HASH_BYTES * MOST_BLOCKS
    board.drop(A)
    assert board.endpoints == {EB}


def test_one_node_drives_out_nothing_that_others_say() -> None:
    """Kills: no bound per node, the newest of the node dropped, what was dropped told of."""
    board = PrefixBoard(most=10, most_of_a_node=2)
    board.fold(B, [told(EB)])
    ids = [EndpointId(f"a/x/{n}") for n in range(20)]
    assert board.fold(A, map(told, ids)) == set(ids[-2:])
    assert board.endpoints == {EB, *ids[-2:]}
    board.drop(A)
    assert board.fold(A, map(told, ids[:2])) == set(ids[:2])
    board.drop(A)
    board.drop(A)
    assert board.endpoints == {EB}
