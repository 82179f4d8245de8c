"""Live, suspect, gone. Docstrings name the mutants seen to be killed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.membership import (
    Holder,
    MembershipPolicy,
    Removals,
    Sighting,
    Standing,
    excused,
    hold,
    is_silent,
    may_connect,
    observe,
    standing,
    was_silent,
)
from swarmplane.ids import InstanceId, NodeId

POLICY = MembershipPolicy()
I1, I2 = InstanceId("i1"), InstanceId("i2")


def nodes(*numbers: int) -> frozenset[NodeId]:
    return frozenset(NodeId(f"n{number}") for number in numbers)


@pytest.mark.parametrize(
    ("sighting", "now_s", "silent"),
    [
        pytest.param(Sighting(100.0), 104.9, False, id="within-the-limit"),
        pytest.param(Sighting(100.0), 105.0, True, id="at-the-limit"),
        pytest.param(Sighting(100.0, reset=True), 100.0, True, id="a-reset-is-silence-at-once"),
    ],
)
def test_silence(sighting: Sighting, now_s: float, silent: bool) -> None:
    assert is_silent(sighting, now_s, POLICY) is silent


def test_who_falls_silent_with_its_instance_is_ended_within_a_lease() -> None:
    """And two seconds, of which more than one is left for ticks, the store and the decision."""
    assert POLICY.doubt_s + POLICY.instance_lease_s <= POLICY.lease_ttl_s + 0.5
    assert POLICY.doubt_s < POLICY.suspect_s < POLICY.instance_lease_s
    assert POLICY.lease_ttl_s < POLICY.forsaken_s <= POLICY.lease_ttl_s + 2.0


def test_a_short_pause_of_our_own_excuses_silence_for_a_moment_and_a_long_one_for_longer() -> None:
    """Kills: no excuse, one that moves when it was heard, `<=` for `<` between short and long."""
    before = Sighting(100.0, reset=True)
    short = excused(before, 6.9, 106.0, POLICY)
    assert (short.heard_s, short.reset) == (100.0, True)
    short = excused(Sighting(100.0), 6.9, 106.0, POLICY)
    assert not is_silent(short, 106.9, POLICY)
    assert is_silent(short, 107.0, POLICY)
    assert was_silent(short, 107.0, 7.0)
    assert not was_silent(short, 107.0, 7.1)
    assert not was_silent(short, 106.9, 1.0)
    long = excused(Sighting(100.0), POLICY.instance_lease_s, 106.0, POLICY)
    assert not is_silent(long, 110.9, POLICY)
    assert is_silent(long, 111.0, POLICY)


@pytest.mark.parametrize(
    ("seen", "gone", "present", "suspected", "expected"),
    [
        pytest.param(False, False, False, False, Standing.NEVER, id="enrolled-only"),
        pytest.param(True, True, False, True, Standing.GONE, id="decided"),
        pytest.param(True, False, True, False, Standing.LIVE, id="present"),
        pytest.param(True, False, True, True, Standing.SUSPECT, id="present-but-silent"),
        pytest.param(True, False, False, False, Standing.SUSPECT, id="lease-ended-undecided"),
    ],
)
def test_standing(seen: bool, gone: bool, present: bool, suspected: bool, expected: Standing) -> None:
    assert standing(seen=seen, gone=gone, present=present, suspected=suspected) is expected


@pytest.mark.parametrize(
    ("holder", "silent", "live", "allowed"),
    [
        pytest.param(None, None, {I1}, True, id="nobody-holds-it"),
        pytest.param(Holder("me", I2), False, {I1, I2}, True, id="the-same-process-comes-back"),
        pytest.param(Holder("other", I1), False, {I1}, False, id="a-second-live-process"),
        pytest.param(Holder("other", I1), True, {I1}, True, id="the-holder-fell-silent"),
        pytest.param(Holder("other", I1), None, {I1}, True, id="we-restarted-and-know-nothing-of-it"),
        pytest.param(Holder("other", I2), None, {I1, I2}, False, id="another-live-instance-holds-it"),
        pytest.param(Holder("other", I2), None, {I1}, True, id="its-instance-is-dead"),
        pytest.param(Holder("other", I2), True, {I1, I2}, True, id="its-instance-says-it-is-silent"),
        pytest.param(Holder("other", I2), None, {I1, I2}, False, id="its-instance-says-nothing-of-it"),
    ],
)
def test_who_may_connect(
    holder: Holder | None, silent: bool | None, live: set[InstanceId], allowed: bool
) -> None:
    assert may_connect(holder, "me", own=I1, live=live, silent=silent) is allowed


def test_one_lost_node_is_removed_at_once() -> None:
    """Kills: removals held always, floor 0, present nodes removed."""
    state, due = observe(Removals(), nodes(1, 2), frozenset(), 0.0, POLICY)
    assert due == frozenset()
    state, due = observe(state, nodes(1), nodes(2), 1.0, POLICY)
    assert due == nodes(2)
    assert dict(state.absent_since_s) == {NodeId("n2"): 1.0}


def test_a_mass_loss_is_held_for_a_minute() -> None:
    """Kills: no hold, hold counted from the first look, `>` for `>=` at its end, renewed by every look."""
    state, due = observe(Removals(), nodes(1), nodes(2, 3), 100.0, POLICY)
    assert due == frozenset()
    for now_s in (101.0, 109.0, 111.0, 159.9):
        state, due = observe(state, nodes(1), nodes(2, 3), now_s, POLICY)
        assert due == frozenset()
    state, due = observe(state, nodes(1), nodes(2, 3), 160.0, POLICY)
    assert due == nodes(2, 3)


def test_the_first_of_a_mass_loss_is_held_with_the_rest() -> None:
    """Kills: doubt ignored, doubt alone counted, doubt without an end, a hold of a minute for mere doubt."""
    state, due = observe(Removals(), nodes(1, 2), nodes(3), 100.0, POLICY, doubtful=nodes(2))
    assert due == frozenset(), "the next lease is about to end"
    state, due = observe(state, nodes(1), nodes(2, 3), 101.9, POLICY)
    assert due == frozenset()
    assert state.waiting == frozenset(), "they are held, which is more"
    _, due = observe(state, nodes(1), nodes(2, 3), 161.8, POLICY)
    assert due == frozenset()
    _, due = observe(state, nodes(1), nodes(2, 3), 161.9, POLICY)
    assert due == nodes(2, 3)


def test_who_is_only_in_doubt_delays_a_removal_by_a_lease_at_most() -> None:
    """Kills: `>` for `>=` at the wait's end, a wait that goes on once the doubt has gone, a limit of 1."""
    state, due = observe(Removals(), nodes(1, 2), nodes(3), 100.0, POLICY, doubtful=nodes(2))
    assert state.waiting == nodes(3)
    after, removed = observe(state, nodes(1, 2), nodes(3), 100.5, POLICY)
    assert (after.waiting, removed) == (frozenset(), nodes(3))
    for now_s in (104.0, 109.9):
        state, due = observe(state, nodes(1, 2), nodes(3), now_s, POLICY, doubtful=nodes(2))
        assert due == frozenset()
    _, due = observe(state, nodes(1, 2), nodes(3), 110.0, POLICY, doubtful=nodes(2))
    assert due == nodes(3)
    many = nodes(*range(10))
    _, due = observe(Removals(), many - nodes(0), nodes(0), 0.0, POLICY, doubtful=nodes(1, 2))
    assert due == nodes(0), "three of ten are no mass"


def test_several_that_lost_their_instance_have_time_to_find_another_one() -> None:
    """Kills: no time; time for one alone or with earlier ones, for those said to be silent; no end."""
    many = nodes(*range(10))
    state, due = observe(Removals(), many - nodes(0), nodes(0), 100.0, POLICY, orphaned=nodes(0))
    assert due == nodes(0)
    absent, present = nodes(1, 2, 3), nodes(*range(4, 24))
    state, due = observe(Removals(), present, absent, 100.0, POLICY, orphaned=nodes(1, 2))
    assert (due, state.waiting) == (nodes(3), nodes(1, 2))
    state, due = observe(state, present - nodes(9), nodes(1, 2, 9), 103.9, POLICY, orphaned=nodes(1, 2, 9))
    assert due == nodes(9), "that one was alone"
    _, due = observe(state, present, nodes(2), 104.0, POLICY, orphaned=nodes(2))
    assert due == nodes(2)


def test_losses_spread_over_one_lease_count_together_and_over_two_do_not() -> None:
    """Kills: only simultaneous losses counted, window without an end."""
    everybody = nodes(*range(10))
    state, _ = observe(Removals(), everybody, frozenset(), 0.0, POLICY)
    for lost, now_s in enumerate((1.0, 4.0, 9.0), start=1):
        state, due = observe(state, everybody - nodes(*range(lost)), nodes(lost - 1), now_s, POLICY)
        assert due == nodes(lost - 1)
    _, held = observe(state, everybody - nodes(0, 1, 2, 3), nodes(3), 10.9, POLICY)
    assert held == frozenset()
    _, later = observe(state, everybody - nodes(0, 1, 2, 3), nodes(3), 14.5, POLICY)
    assert later == nodes(3)


def test_a_third_of_a_large_swarm_is_the_limit() -> None:
    """Kills: `>=` for `>`, a ratio of those left instead of all."""
    _, due = observe(Removals(), nodes(*range(3, 10)), nodes(0, 1, 2), 0.0, POLICY)
    assert due == nodes(0, 1, 2)
    _, due = observe(Removals(), nodes(*range(4, 10)), nodes(0, 1, 2, 3), 0.0, POLICY)
    assert due == frozenset()


def test_after_an_outage_removals_wait() -> None:
    """Kills: hold without effect, a shorter hold replacing a longer one."""
    state = hold(Removals(), 100.0, POLICY)
    assert hold(state, 90.0, POLICY).held_until_s == 160.0
    state, due = observe(state, frozenset(), nodes(1), 159.0, POLICY)
    assert due == frozenset()
    state, due = observe(state, frozenset(), nodes(1), 160.0, POLICY)
    assert due == nodes(1)


def test_who_comes_back_during_a_hold_is_not_removed() -> None:
    """Kills: decisions from what was absent before."""
    state, _ = observe(Removals(), frozenset(), nodes(1, 2), 0.0, POLICY)
    _, due = observe(state, nodes(1), nodes(2), 61.0, POLICY)
    assert due == nodes(2)


@given(
    st.lists(
        st.tuples(st.floats(0.1, 30.0), st.frozensets(st.integers(0, 9), max_size=10)),
        min_size=1,
        max_size=12,
    )
)
def test_within_one_lease_never_more_than_the_allowed_share_is_removed(
    history: list[tuple[float, frozenset[int]]],
) -> None:
    """Ten nodes come and go; what is removed stays removed. Kills: window cleared by a removal, floor 9."""
    everybody = nodes(*range(10))
    state, now_s = Removals(), 0.0
    gone: set[NodeId] = set()
    lost_s: dict[NodeId, float] = {}
    for wait_s, away in history:
        now_s += wait_s
        absent = nodes(*away) - gone
        for node in absent:
            lost_s.setdefault(node, now_s)
        for node in everybody - absent - gone:
            lost_s.pop(node, None)
        state, due = observe(state, everybody - gone - absent, absent, now_s, POLICY)
        assert due <= absent
        quick = [n for n in due if now_s - lost_s[n] < POLICY.removal_hold_s and lost_s[n] == now_s]
        assert len(quick) <= max(POLICY.mass_floor, POLICY.mass_ratio * len(everybody))
        gone |= due
