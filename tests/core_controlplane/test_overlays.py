"""Load and reachability. Docstrings name the mutants seen to be killed."""

from __future__ import annotations

from controlplane.core.loads import MOST_OF_A_NODE, LoadBoard, owner_of
from controlplane.core.reachability import Reachability
from swarmplane.ids import EndpointId, NodeId
from swarmplane.load import LoadEntry

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
EA, EB = EndpointId("a/x/org/model"), EndpointId("b/x/m")


def test_a_node_speaks_of_its_own_endpoints_only() -> None:
    """Kills: owner not checked, owner split at the last slash."""
    assert owner_of(EA) == A
    board = LoadBoard()
    assert board.fold(A, [LoadEntry(EA, {"b": 1}), LoadEntry(EB, {"b": 9})], 10.0) == {EA}
    assert board.digest([EA, EB], 10.0) == (LoadEntry(EA, {"b": 1}),)


def test_what_a_node_serves_and_holds_is_the_sum_of_its_endpoints() -> None:
    """Kills: queued ones left out, one origin counted, other nodes counted."""
    board = LoadBoard()
    other = EndpointId("a/y/m")
    board.fold(A, [LoadEntry(EA, {"a": 1, "b": 2}, queued=3), LoadEntry(other, {"b": 4})], 10.0)
    board.fold(B, [LoadEntry(EB, {"b": 9})], 10.0)
    assert board.in_flight(A) == 10
    assert board.in_flight(C) == 0


def test_reports_age_and_are_dropped_when_useless() -> None:
    """Kills: age at the sender lost, age not added, `<=` at the limit, stale ones sent."""
    board = LoadBoard()
    board.fold(A, [LoadEntry(EA, {}, queued=2, age_ms=500)], 10.0)
    assert board.digest([EA], 11.0) == (LoadEntry(EA, {}, queued=2, age_ms=1500),)
    assert board.digest([EA], 12.499) != ()
    assert board.digest([EA], 12.5) == ()


def test_the_newest_report_stands_and_leaves_with_its_node() -> None:
    """Kills: first report kept, everybody's dropped, queued ones not counted or taken off."""
    board = LoadBoard()
    board.fold(A, [LoadEntry(EA, {"a": 1})], 10.0)
    board.fold(A, [LoadEntry(EA, {"a": 2})], 10.1)
    board.fold(B, [LoadEntry(EB, {})], 10.1)
    assert board.digest([EA], 10.1)[0].in_flight_by_origin == {"a": 2}
    board.fold(A, [LoadEntry(EndpointId("a/y/m"), {"a": 3, "b": 4}, queued=5)], 10.1)
    assert [board.in_flight(node) for node in (A, B, C)] == [14, 0, 0]
    board.drop(A)
    assert board.digest([EA, EB], 10.1) == (LoadEntry(EB, {}),)


def test_of_one_node_so_many_endpoints_are_known_and_the_newest_stay() -> None:
    """Kills: no bound, the newest dropped, what was dropped told of, a bound shared by all nodes."""
    board = LoadBoard()
    board.fold(B, [LoadEntry(EB, {})], 10.0)
    ids = [EndpointId(f"a/x/{n}") for n in range(MOST_OF_A_NODE + 2)]
    assert board.fold(A, [LoadEntry(key, {}) for key in ids[:2]], 10.0) == set(ids[:2])
    board.fold(A, [LoadEntry(ids[0], {})], 10.0)
    assert board.fold(A, [LoadEntry(key, {}) for key in ids[2:]], 10.0) == set(ids[2:])
    assert board.of([A]) == set(ids) - set(ids[:2])
    assert board.fold(A, [LoadEntry(key, {}) for key in ids], 10.0) == set(ids[2:])
    assert board.of([B, C]) == {EB}
    assert [one.endpoint for one in board.digest([EB, ids[0]], 10.0)] == [EB]
    assert board.fold(C, [], 10.0) == frozenset()


def test_a_node_is_unreachable_when_nobody_who_tried_reaches_it() -> None:
    """Kills: any for all, reports of the departed kept."""
    found = Reachability()
    assert found.unreachable_reason(B) == ""
    found.report(A, B, "connection refused")
    assert found.unreachable_reason(B) == "1 other node(s) can't reach it: connection refused"
    found.report(C, B, "")
    assert found.unreachable_reason(B) == ""
    found.report(C, B, "timed out")
    assert found.unreachable_reason(B) == "2 other node(s) can't reach it: connection refused"
    found.drop(A)
    assert found.unreachable_reason(B) == "1 other node(s) can't reach it: timed out"
    found.drop(B)
    assert found.unreachable_reason(B) != ""
    found.report(B, C, "timed out")
    found.forget(B)
    assert found.unreachable_reason(B) == ""
    assert found.unreachable_reason(C) == ""
