"""Each invariant of a chaos run accepts what is right and finds what is not."""

from __future__ import annotations

from math import inf
from typing import ClassVar

from tests.chaos.invariants import (
    ELECTION,
    EPOCH,
    Circumstances,
    Claim,
    Mutation,
    Request,
    Sample,
    Span,
    Write,
    deadline_s,
    no_failed_requests,
    no_ghosts,
    no_mass_removal,
    no_stale_routes,
    nothing_lost,
    one_controller,
    same_history,
    vacancies,
    waits,
)


def elected(revision: int, instance: str, epoch: int) -> list[Write]:
    return [
        Write(revision, ELECTION, {"instance_id": instance, "epoch": epoch}),
        Write(revision, EPOCH, {"value": epoch}, {"value": epoch - 1}),
    ]


def over(revision: int) -> Write:
    return Write(revision, ELECTION, None)


def route(revision: int, *nodes: str) -> Write:
    return Write(revision, "routes/m", {"nodes": list(nodes)})


def gone(revision: int, node: str = "n1", at_s: float = 0.0) -> Write:
    return Write(revision, f"nodes/{node}", {"gone": True}, {"gone": False}, at_s)


def back(revision: int, node: str = "n1") -> Write:
    return Write(revision, f"nodes/{node}", {"gone": False}, {"gone": True})


def member(revision: int, node: str = "n1") -> Write:
    return Write(revision, f"members/{node}", {})


REIGNS = [*elected(2, "i1", 1), route(3, "n1"), gone(4), over(5), *elected(7, "i2", 2), route(8, "n1")]


class TestOneController:
    def test_reigns_one_after_another(self) -> None:
        assert one_controller(REIGNS, [Claim("i1", 3, 1), Claim("i1", 4, 1), Claim("i2", 8, 2)]) == []

    def test_two_in_one_epoch(self) -> None:
        again = [Write(9, ELECTION, None), Write(10, ELECTION, {"instance_id": "i3", "epoch": 2})]
        (found,) = one_controller([*REIGNS, *again])
        assert "epoch 2 again" in found

    def test_one_takes_the_place_of_another(self) -> None:
        (found,) = one_controller([*REIGNS, Write(9, ELECTION, {"instance_id": "i3", "epoch": 3})])
        assert "took the place" in found

    def test_an_epoch_that_was_not_counted(self) -> None:
        found = one_controller([*REIGNS, over(9), Write(10, ELECTION, {"instance_id": "i3", "epoch": 3})])
        assert any("the counter says" in one for one in found)

    def test_epochs_that_do_not_rise(self) -> None:
        found = one_controller([*REIGNS, Write(9, EPOCH, {"value": 2})])
        assert found == ["epochs went from 2 to 2"]

    def test_a_decision_of_nobody(self) -> None:
        (found,) = one_controller([*REIGNS, over(9), route(10)])
        assert "nobody was elected" in found
        assert one_controller([*REIGNS, over(9), gone(10, "n2")])
        # What a session itself says of its node is no decision.
        assert one_controller([*REIGNS, over(9), back(10)]) == []

    def test_a_write_by_an_old_one(self) -> None:
        (found,) = one_controller(REIGNS, [Claim("i1", 8, 1)])
        assert "written by i1 as of epoch 1, while 2 stood" in found


class TestSameHistory:
    def test_each_once(self) -> None:
        assert same_history(REIGNS, REIGNS) == []

    def test_what_goes_wrong(self) -> None:
        assert "never told" in same_history(REIGNS[:-1], REIGNS)[0]
        assert "told twice" in same_history([*REIGNS, REIGNS[-1]], REIGNS)[0]
        assert "does not have" in same_history(REIGNS, REIGNS[:-1])[0]
        assert same_history([*REIGNS[:-2], REIGNS[-1], REIGNS[-2]], REIGNS) == ["a watch went back"]


class TestNoGhosts:
    def test_a_new_session_brings_it_back(self) -> None:
        assert no_ghosts([member(2), gone(5), route(6), member(7), back(8), route(9, "n1")]) == []
        assert no_ghosts([member(2), gone(5), member(7), back(7)]) == []

    def test_back_without_a_session(self) -> None:
        (found,) = no_ghosts([member(2), gone(5), back(8)])
        assert "without a new session" in found

    def test_back_after_it_was_deleted(self) -> None:
        deleted = Write(5, "nodes/n1", None)
        for ghost in (member(7), back(7)):
            found = no_ghosts([member(2), deleted, ghost])
            assert "after it was deleted" in found[0]

    def test_a_route_leads_to_it_again(self) -> None:
        assert no_ghosts([route(2, "n1", "n2"), gone(3), route(4, "n1", "n2"), route(5, "n2")]) == []
        (found,) = no_ghosts([route(2, "n1", "n2"), gone(3), route(4, "n2"), route(5, "n1", "n2")])
        assert "leads to removed nodes: ['n1']" in found


class TestNoMassRemoval:
    def test_who_was_left_alone_is_not_removed(self) -> None:
        history = [gone(5, "n1", at_s=30.0)]
        assert no_mass_removal(history, {"n1": [Span(15.0, 28.0)]}, hold_s=60) == []
        (found,) = no_mass_removal(history, {"n2": [Span(15.0, 28.0)]}, hold_s=60)
        assert "nothing had been done to it" in found
        assert no_mass_removal(history, {"n1": [Span(1.0, 14.9)]}, hold_s=60)
        assert no_mass_removal(history, {"n1": [Span(1.0, 15.1)]}, hold_s=60) == [], "it may pause still"
        assert no_mass_removal(history, {"n1": [Span(31.0, 40.0)]}, hold_s=60)

    def test_those_that_vanish_together_are_held(self) -> None:
        downs = {"n1": [Span(100.0, inf)], "n2": [Span(100.5, inf)]}

        def judge(first_s: float, second_s: float, *gone_s: float) -> list[str]:
            ends = [Write(3, "members/n1", None, {}, first_s), Write(4, "members/n2", None, {}, second_s)]
            removed = [
                gone(5 + n, node, at_s)
                for n, (node, at_s) in enumerate(zip(("n1", "n2"), gone_s, strict=True))
            ]
            return no_mass_removal([*ends, *removed], downs, hold_s=60)

        assert "n2 vanished together; n1 was not held" in judge(110, 110.5, 112.5, 171)[0]
        assert "n2 vanished together; n2 was not held" in judge(110, 115, 110.5, 118)[0]
        assert judge(110, 110.5, 171, 171) == []
        assert judge(110, 130, 111, 133) == [], "apart"
        assert judge(110, 115, 110.5, 176) == [], "the first was removed when it was alone"
        assert judge(60, 61, 121.5, 121.5) == [], "their leases had ended long before"


class TestNoStaleRoutes:
    downs: ClassVar = {"n1": [Span(100.0, 150.0)]}

    def stale(self, at_s: float, given: Circumstances | None = None, sidecar: str = "n2") -> list[str]:
        sample = Sample(at_s, sidecar, frozenset({"n1", "n3"}))
        return no_stale_routes([sample], self.downs | {"n4": [Span(90, 200)]}, given or Circumstances())

    def test_lease_and_two_seconds(self) -> None:
        assert self.stale(111.9) == []
        (found,) = self.stale(112.1)
        assert "n2 has a route to n1" in found
        assert self.stale(150.5) == [], "it is back"
        assert self.stale(113.0, sidecar="n4") == [], "a table that nobody could tell anything"

    def test_without_a_stream_nothing_new_is_known(self) -> None:
        """Kills: excused for ever, excused although it was connected, frozen instances not seen."""

        def stale(at_s: float, given: Circumstances, *, connected: bool, instance: str = "i1") -> bool:
            sample = Sample(at_s, "n2", frozenset({"n1"}), connected, instance)
            downs = {"n1": [Span(100.0, 190.0)], "n2": [Span(105.0, 115.0)], "i1": [Span(140.0, 145.0)]}
            return bool(no_stale_routes([sample], downs, given))

        calm = Circumstances()
        assert stale(118.0, calm, connected=True), "it was told"
        assert not stale(131.9, calm, connected=False), "it pauses"
        assert stale(132.1, calm, connected=False)
        blind = Circumstances(blind=[Span(130.0, 150.0)])
        assert not stale(166.9, blind, connected=False), "nobody could welcome it"
        assert stale(167.1, blind, connected=False)
        assert not stale(146.9, calm, connected=True), "nobody told it"
        assert stale(147.1, calm, connected=True)
        assert stale(142.0, calm, connected=True, instance="i2")

    def test_nobody_decides_from_when_one_stepped_down_to_when_one_was_elected(self) -> None:
        assert vacancies([10.0, 30.0, 90.0], [5.0, 42.0, 17.0]) == [
            Span(10.0, 17.0),
            Span(30.0, 42.0),
            Span(90.0, 90.0),
        ]

    def test_what_delays_it(self) -> None:
        assert deadline_s(100, Circumstances()) == 112
        assert deadline_s(100, Circumstances(leader_changes_s=[105])) == 122
        assert deadline_s(100, Circumstances(leader_changes_s=[105, 121, 140])) == 132
        assert deadline_s(100, Circumstances(leader_changes_s=[50])) == 112
        assert deadline_s(100, Circumstances(blind=[Span(90, 104)])) == 116
        assert deadline_s(100, Circumstances(blind=[Span(200, 204)])) == 112
        assert deadline_s(100, Circumstances(holds=[Span(105, 117)])) == 119
        assert deadline_s(100, Circumstances(holds=[Span(90, 102)])) == 112
        assert deadline_s(100, Circumstances(holds=[Span(105, 117), Span(118, 130)])) == 132

    def test_a_removal_waits_for_what_becomes_of_others_for_a_lease_at_most(self) -> None:
        """Kills: a wait without an end, or that ends with the one before it."""
        told = [(90.0, True), (108.0, False), (111.0, True), (115.0, False), (120.0, False)]
        assert waits(told) == [Span(90.0, 100.0), Span(111.0, 115.0)]
        assert waits([(50.0, True)]) == [Span(50.0, 60.0)]
        assert deadline_s(100, Circumstances(holds=waits(told))) == 117

    def test_a_deadline_is_no_licence(self) -> None:
        given = Circumstances(leader_changes_s=[105])
        assert self.stale(121.0, given) == []
        assert self.stale(123.0, given)


class TestNoFailedRequests:
    serving: ClassVar = {"m": ("n1", "n2")}
    downs: ClassVar = {"n1": [Span(10.0, 20.0)], "n2": [Span(40.0, 50.0)], "n3": [Span(10.0, 20.0)]}

    def judge(self, begins_s: float, entry: str = "n4", served: str = "", *, fine: bool = False) -> int:
        request = Request(entry, "m", Span(begins_s, begins_s + 1), fine, served)
        found, excused = no_failed_requests([request], self.downs, self.serving)
        assert len(found) + excused == (0 if fine else 1)
        return len(found)

    def test_whose_failures_count(self) -> None:
        assert self.judge(15.0, fine=True) == 0
        assert self.judge(30.0) == 1
        assert self.judge(15.0) == 1, "another one could have served it"
        assert self.judge(15.0, served="n1") == 0, "cut while it was answered"
        assert self.judge(9.5, served="n1") == 0, "it met the first moment"
        assert self.judge(15.0, served="n2") == 1
        assert self.judge(15.0, entry="n3") == 0
        assert self.judge(21.0, entry="n3") == 0, "just back"
        assert self.judge(23.0, entry="n3") == 1

    def test_who_was_not_known_could_not_be_asked(self) -> None:
        request = Request("n4", "m", Span(30.0, 31.0), fine=False)
        for at_s, nodes, violations in (
            (29.0, {"n1"}, 1),
            (29.0, {"n3"}, 0),
            (31.0, {"n3"}, 1),
            (20.0, {"n3"}, 1),
        ):
            sample = Sample(at_s, "n4", frozenset(nodes))
            found, _ = no_failed_requests([request], self.downs, self.serving, [sample])
            assert len(found) == violations, (at_s, nodes)

    def test_nobody_was_left(self) -> None:
        downs: ClassVar = {"n1": [Span(10.0, 20.0)], "n2": [Span(15.0, 25.0)]}
        request = Request("n4", "m", Span(16.0, 17.0), fine=False)
        assert no_failed_requests([request], downs, self.serving) == ([], 1)


def test_nothing_acknowledged_is_lost() -> None:
    did = [
        Mutation("a", "1", acknowledged=True),
        Mutation("b", "1", acknowledged=True),
        Mutation("b", "2", acknowledged=True),
        Mutation("c", "1", acknowledged=True),
        Mutation("c", "2", acknowledged=False),
        Mutation("d", None, acknowledged=True),
        Mutation("e", "1", acknowledged=False),
    ]
    end = {"a": "1", "b": "2", "c": "1"}
    assert nothing_lost(did, end) == []
    assert nothing_lost(did, end | {"c": "2", "e": "1"}) == []
    for wrong in ({"a": "2"}, {"b": "1"}, {"c": "3"}, {"d": "1"}):
        (found,) = nothing_lost(did, end | wrong)
        assert next(iter(wrong)) in found
    (found,) = nothing_lost(did, {"b": "2", "c": "1"})
    assert found.startswith("a is None")
