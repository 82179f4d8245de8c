"""In which order control planes are tried.

Mutants that were tried and are killed: the lost one first; old addresses before those that live; no shuffle.
"""

from __future__ import annotations

import random

from sidecar.control.places import MOST, Places


def test_the_first_round_is_in_the_order_that_was_kept() -> None:
    places = Places(("a:1", "b:1", "c:1"), ())
    assert [places.next() for _ in range(3)] == ["a:1", "b:1", "c:1"]


def test_a_lost_instance_is_tried_when_the_others_were_and_before_those_that_nobody_lists() -> None:
    places = Places(("old:1", "a:1"), ())
    assert places.learned(["a:1", "b:1", "c:1"], ["a:5"])
    assert not places.learned(["a:1", "b:1", "c:1"], ["a:5"])
    places.lost("b:1")
    round_ = [places.next() for _ in range(4)]
    assert set(round_[:2]) == {"a:1", "c:1"}
    assert round_[2:] == ["b:1", "old:1"]
    assert places.control == ("a:1", "b:1", "c:1", "old:1")
    assert places.join == ("a:5",)


def test_where_somebody_points_is_tried_next_and_only_once() -> None:
    places = Places(("a:1", "b:1"), ("a:5",))
    assert not places.pointed(["b:1", "a:1"], ["a:5"])
    assert [places.next() for _ in range(2)] == ["a:1", "b:1"]
    assert places.pointed(["new:1", "newer:1", "a:1"], ["new:5", "a:5"])
    assert [places.next() for _ in range(2)] == ["new:1", "newer:1"]
    assert places.control == ("new:1", "newer:1", "a:1", "b:1")
    assert places.join == ("new:5", "a:5")
    assert not places.pointed(["new:1", "newer:1", "a:1"], ["new:5", "a:5"])


def test_pointing_at_more_than_are_kept_comes_to_an_end() -> None:
    old = [f"old:{n}" for n in range(MOST)]
    places = Places(old, ())
    assert places.pointed(["new:1", *old], [])
    assert places.control == ("new:1", *old[:-1])
    assert not places.pointed(["new:1", *old], [])


def test_what_one_instance_leaves_behind_spreads_over_the_others() -> None:
    chance = random.Random(7)
    first = []
    for _ in range(300):
        places = Places(("a:1", "b:1", "c:1"), (), chance.shuffle)
        places.lost("a:1")
        first.append(places.next())
    assert 100 < first.count("b:1") < 200
    assert first.count("a:1") == 0


def test_a_redirect_is_followed_and_a_single_instance_is_tried_again() -> None:
    places = Places(("a:1", "b:1"), ())
    places.redirected(["c:1"])
    assert places.next() == "c:1"
    alone = Places(("a:1",), ())
    assert alone.next() == "a:1"
    alone.lost("a:1")
    assert [alone.next(), alone.next()] == ["a:1", "a:1"]


def test_addresses_are_bounded() -> None:
    places = Places(("a:1",), ())
    places.learned([f"n{number}:1" for number in range(100)], [f"n{number}:5" for number in range(100)])
    assert len(places.control) == len(places.join) == MOST
