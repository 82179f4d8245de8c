from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import overlay as o
from sidecar.core.overlay import Overlay
from swarmplane.routes import Version

V1, V2 = Version(1, 5), Version(1, 6)


def test_gone_holds_until_a_newer_table() -> None:
    """Kills: version ignored, other endpoints affected."""
    overlay = o.learn_gone(Overlay(), "b/x/m", V1, 100.0)
    assert overlay.is_gone("b/x/m", V1, 100.0)
    assert not overlay.is_gone("b/x/m", V2, 100.0)
    assert not overlay.is_gone("c/x/m", V1, 100.0)


def test_gone_is_asked_again_while_no_newer_table_can_come() -> None:
    """Kills: no limit in time, `<=`."""
    overlay = o.learn_gone(Overlay(), "e", V1, 100.0)
    assert overlay.is_gone("e", V1, 129.9)
    assert not overlay.is_gone("e", V1, 130.0)


def test_full_is_held_and_ends_early_by_a_report() -> None:
    """Kills: negative rests, has_room without effect."""
    overlay = o.hold_full(Overlay(), "e", 103.0)
    assert overlay.full_for_s("e", 101.0) == 2.0
    assert overlay.full_for_s("e", 104.0) == 0.0
    assert overlay.full_for_s("f", 101.0) == 0.0
    assert o.has_room(overlay, "e").full_for_s("e", 101.0) == 0.0
    assert o.has_room(overlay, "f") is overlay


def test_ejection_grows_and_success_forgets() -> None:
    """Kills: constant back-off, back-off not reset, jitter that shortens."""
    overlay, now_s, waits = Overlay(), 100.0, []
    for _ in range(8):
        overlay = o.connect_failed(overlay, "n", now_s, 0.0)
        assert not overlay.admits("n", now_s)
        waits.append(overlay.ejected["n"].until_s - now_s)
        now_s = overlay.ejected["n"].until_s
        assert overlay.admits("n", now_s)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    overlay = o.reached(overlay, "n")
    assert overlay.admits("n", 0.0)
    assert o.reached(overlay, "n") is overlay
    assert o.connect_failed(overlay, "n", 5.0, 1.0).ejected["n"].until_s == 6.5


def test_late_failures_of_the_same_moment_count_once() -> None:
    """32 requests fail together when a node dies. Kills: counting each."""
    overlay = Overlay()
    for _ in range(32):
        overlay = o.connect_failed(overlay, "n", 100.0, 0.0)
    assert overlay.ejected["n"].until_s == 101.0
    assert overlay.ejected["n"].times == 1


def test_an_explicit_ejection_stands_as_given() -> None:
    overlay = o.eject(o.eject(Overlay(), "n", 150.0), "n", 120.0)
    assert not overlay.admits("n", 119.9)
    assert overlay.admits("n", 120.0)
    assert overlay.ejected["n"].times == 2


def test_forget_drops_all_that_was_learned_of_one() -> None:
    """Kills: any of the three left, others dropped too."""
    overlay = Overlay()
    for key in ("e", "f"):
        overlay = o.eject(o.hold_full(o.learn_gone(overlay, key, V1, 1.0), key, 9.0), key, 9.0)
    overlay = o.forget(overlay, "e")
    assert not overlay.is_gone("e", V1, 2.0)
    assert overlay.admits("e", 2.0)
    assert not overlay.full_for_s("e", 2.0)
    assert overlay.is_gone("f", V1, 2.0)
    assert not overlay.admits("f", 2.0)
    assert overlay.full_for_s("f", 2.0) == 7.0


times = st.floats(0, 200)


@given(st.lists(st.tuples(st.sampled_from("gfec"), st.sampled_from("ab"), times), max_size=12), times)
def test_pruning_changes_no_answer(history: list[tuple[str, str, float]], now_s: float) -> None:
    """Kills: pruning what still has effect, at any boundary."""
    overlay = Overlay()
    for kind, key, at_s in history:
        match kind:
            case "g":
                overlay = o.learn_gone(overlay, key, V1, at_s)
            case "f":
                overlay = o.hold_full(overlay, key, at_s)
            case "e":
                overlay = o.eject(overlay, key, at_s)
            case _:
                overlay = o.connect_failed(overlay, key, at_s, 0.0)
    small = o.pruned(overlay, V1, now_s)
    for key in "ab":
        assert small.is_gone(key, V1, now_s) == overlay.is_gone(key, V1, now_s)
        assert small.admits(key, now_s) == overlay.admits(key, now_s)
        assert small.full_for_s(key, now_s) == overlay.full_for_s(key, now_s)


def test_pruning_forgets_what_has_no_effect_but_remembers_failures_for_a_while() -> None:
    """Kills: nothing pruned, failures forgotten as soon as an ejection ends."""
    overlay = o.hold_full(o.learn_gone(Overlay(), "e", V1, 0.0), "e", 1.0)
    overlay = o.connect_failed(overlay, "n", 0.0, 0.0)
    soon = o.pruned(overlay, V2, 5.0)
    assert (dict(soon.gone), dict(soon.full), soon.ejected["n"].times) == ({}, {}, 1)
    assert o.pruned(overlay, V2, 61.0).ejected == {}
    assert o.pruned(overlay, V2, 60.9).ejected != {}
