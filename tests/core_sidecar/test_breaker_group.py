"""Whom a group admits.

Mutants seen to be killed: panic at half, panic never, the last one excluded, none excluded in a fleet of two,
the node's breaker ignored, the order of endpoints lost, doubted without panic, eras restarting after a reset,
what is in no table any more left out.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.breaker import NO_STAKE, Breaker, Phase, Policy, Signal
from sidecar.core.breaker_group import Breakers, admitted
from swarmplane.ids import BackendName, EndpointId, NodeId
from swarmplane.routes import Endpoint

OUT = Breaker(Phase.EJECTED, 1, ejections=1, retry_at_s=10.0)


def endpoints(count: int) -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(EndpointId(f"n{i}/b/m"), NodeId(f"n{i}"), BackendName("b"), "m") for i in range(count)
    )


@pytest.mark.parametrize(
    ("fleet", "ejected", "left", "panic"),
    [
        pytest.param(1, 1, 1, True, id="the-last-one-never"),
        pytest.param(2, 1, 1, False, id="one-of-two"),
        pytest.param(2, 2, 2, True, id="both-of-two"),
        pytest.param(3, 1, 2, False, id="one-of-three"),
        pytest.param(3, 2, 3, True, id="two-of-three-is-more-than-half"),
        pytest.param(4, 2, 2, False, id="half"),
        pytest.param(4, 3, 4, True, id="more-than-half"),
        pytest.param(5, 0, 5, False, id="none"),
        pytest.param(0, 0, 0, False, id="nobody-to-begin-with"),
    ],
)
def test_shares(fleet: int, ejected: int, left: int, *, panic: bool) -> None:
    group = endpoints(fleet)
    breakers: dict[str, Breaker] = {e.id: OUT for e in group[:ejected]} or {"other": OUT}
    found = admitted(breakers, group, 5.0)
    assert (len(found.endpoints), found.panic) == (left, panic)
    assert len(found.doubted) == (ejected if panic else 0)
    assert len(found.excluded) == (0 if panic else ejected)


def test_a_node_takes_its_endpoints_along() -> None:
    group = endpoints(3)
    assert admitted({"n1": OUT}, group, 5.0).endpoints == (group[0], group[2])
    assert admitted({"n1": OUT}, group, 10.0).endpoints == group
    assert admitted({}, group, 5.0).endpoints == group


def test_an_ejected_one_gets_one_real_request_as_probe() -> None:
    group = endpoints(2)
    key = group[0].id
    breakers = Breakers(Policy())
    assert breakers.sent(key, 0.0) == 0
    assert breakers.ended(key, Signal.UNCONNECTED, 0, 0.0, 0.0)
    assert breakers.admitted(group, 0.5).endpoints == group[1:]
    assert breakers.sent(key, 0.5) == NO_STAKE
    assert not breakers.ended(key, Signal.SUCCEEDED, NO_STAKE, 0.6, 0.0)
    assert breakers.admitted(group, 1.0).endpoints == group
    era = breakers.sent(key, 1.0)
    assert breakers.admitted(group, 1.1).endpoints == group[1:]
    assert breakers.ended(key, Signal.SUCCEEDED, era, 1.2, 0.0)
    assert breakers.admitted(group, 1.3).endpoints == group
    assert breakers.of(key).since_s == 1.2
    assert breakers.sent(key, 1.3) == era
    assert not breakers.ended(key, Signal.SUCCEEDED, era, 1.3, 0.0)


def test_a_new_life_is_unblamed_and_late_answers_of_the_old_one_are_ignored() -> None:
    breakers = Breakers(Policy())
    era = breakers.sent("k", 0.0)
    breakers.ended("k", Signal.UNCONNECTED, era, 0.0, 0.0)
    breakers.reset("k", 5.0)
    assert breakers.of("k") == Breaker(era=2, since_s=5.0)
    assert not breakers.ended("k", Signal.UNCONNECTED, era, 6.0, 0.0)
    assert breakers.ended("k", Signal.UNCONNECTED, breakers.sent("k", 6.0), 6.0, 0.0)


def test_keys_that_are_in_no_table_are_forgotten() -> None:
    breakers = Breakers(Policy())
    for key in "ab":
        breakers.ended(key, Signal.UNCONNECTED, breakers.sent(key, 0.0), 0.0, 0.0)
    breakers.keep(lambda key: key == "b")
    assert [key for key, _ in breakers.items()] == list(breakers.out) == ["b"]
    assert breakers.of("a") == Breaker()
    group = endpoints(1)
    assert breakers.admitted(group, 0.0).endpoints == group


@given(st.integers(1, 12), st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_never_nobody_and_never_less_than_half_but_for_one(
    fleet: int, own: set[int], nodes: set[int]
) -> None:
    group = endpoints(fleet)
    breakers = {f"n{i}/b/m": OUT for i in own} | {f"n{i}": OUT for i in nodes}
    found = admitted(breakers, group, 5.0)
    assert found.endpoints
    assert len(group) - len(found.endpoints) <= max(1, fleet // 2)
    assert list(found.endpoints) == [e for e in group if e in found.endpoints]
    ejected = {e.id for e in group if e.id in breakers or e.node in breakers}
    if found.panic:
        assert found.endpoints == group
        assert found.doubted == ejected
    else:
        assert {e.id for e in found.endpoints} == {e.id for e in group} - ejected
        assert not found.doubted


def test_another_policy_holds_from_now_on() -> None:
    """Kills: the old policy kept."""
    breakers = Breakers(Policy(max_failures=3))
    breakers.adopt(Policy(max_failures=1))
    era = breakers.sent("e", 1.0)
    assert breakers.ended("e", Signal.FAILED, era, 1.0, 0.0)
    assert breakers.of("e").phase is Phase.EJECTED


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Signal.SUCCEEDED] * 3 + [s for s in Signal if s is not Signal.DISPATCHED]),
            st.sampled_from([0.0, 0.1, 0.9, 1.0, 3.0, 20.0, 70.0]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_successes_that_are_only_counted_are_steps_nevertheless(
    ends: list[tuple[Signal, float, bool, bool]],
) -> None:
    """Kills: a tally kept over its second, over a failure, for another era, while probing; one too many."""
    policy = Policy(max_failures=3, max_local_failures=3)
    counted, stepped, now_s, eras = Breakers(policy), Breakers(policy), 0.0, [0]
    for signal, later_s, late, looks in ends:
        now_s += later_s
        assert counted.sent("k", now_s) == stepped.sent("k", now_s)
        eras.append(stepped.sent("k", now_s))
        assert counted.sent("k", now_s) == eras[-1]
        era = eras[len(eras) // 2] if late else eras[-1]
        changed = (
            counted.succeeded("k", era, now_s)
            if signal is Signal.SUCCEEDED
            else counted.ended("k", signal, era, now_s, 0.5)
        )
        assert changed is stepped.ended("k", signal, era, now_s, 0.5)
        assert counted.out.keys() == stepped.out.keys()
        if looks:
            assert counted.of("k") == stepped.of("k")
    assert dict(counted.items()).get("k", Breaker()) == stepped.of("k")


def test_what_was_only_counted_is_forgotten_with_its_key() -> None:
    """Kills: tallies kept by `keep`."""
    breakers = Breakers(Policy())
    for key in "ab":
        breakers.succeeded(key, breakers.sent(key, 1.0), 1.0)
        breakers.succeeded(key, 0, 1.5)
    assert not breakers.succeeded("b", 7, 1.6), "of another era"
    breakers.ended("c", Signal.UNCONNECTED, breakers.sent("c", 1.0), 1.0, 0.0)
    assert breakers.sent("c", 1.1) == NO_STAKE
    assert breakers.sent("c", 100.0) == 2
    breakers.keep(lambda key: key == "b")
    assert breakers.of("a") == Breaker()
    assert breakers.of("b").window == ((1, 2, 0),)
