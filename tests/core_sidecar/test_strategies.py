"""Strategies: mutants each test was seen to kill are named in its docstring."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.candidate import Candidate, permitted
from sidecar.core.strategies import (
    STRATEGIES,
    by_load,
    effective,
    least_load,
    local_spillover,
    order,
)
from swarmplane.ids import BackendName, EndpointId, NodeId
from swarmplane.routes import Endpoint


def candidate(
    name: str,
    *,
    local: bool = False,
    in_flight: int = 0,
    queued: int = 0,
    slots: int = 4,
    suspect: bool = False,
    node_name: str = "",
) -> Candidate:
    endpoint = Endpoint(EndpointId(f"{name}/x/m"), NodeId(name), BackendName("x"), "m")
    return Candidate(
        endpoint,
        local,
        node_name=node_name or f"name-{name}",
        in_flight=in_flight,
        queued=queued,
        slots=slots,
        suspect=suspect,
        load_known=True,
    )


candidates = st.lists(
    st.builds(
        candidate,
        st.sampled_from("abcdefghij"),
        local=st.booleans(),
        in_flight=st.integers(0, 20),
        queued=st.integers(0, 5),
        slots=st.integers(0, 8),
        suspect=st.booleans(),
    ),
    unique_by=lambda c: c.endpoint.id,
    max_size=8,
)
draws = st.floats(0, 1, exclude_max=True)
strategies = st.sampled_from([*sorted(STRATEGIES), "", "cheapest"])


def nodes(ordered: tuple[Candidate, ...]) -> str:
    return "".join(c.endpoint.node for c in ordered)


@given(candidates, strategies, draws)
def test_every_candidate_is_kept_exactly_once(given_: list[Candidate], strategy: str, draw: float) -> None:
    """Kills: dropping suspects, dropping full ones, `left.pop(0)` beside the chosen one."""
    ordered = order(given_, strategy, draw)
    assert sorted(c.endpoint.id for c in ordered) == sorted(c.endpoint.id for c in given_)


@given(candidates, strategies, draws)
def test_input_order_does_not_matter(given_: list[Candidate], strategy: str, draw: float) -> None:
    """Kills: sorting without the id as the second key."""
    assert order(given_, strategy, draw) == order(given_[::-1], strategy, draw)


@given(candidates, draws)
def test_least_load_never_asks_a_clearly_busier_one_first(given_: list[Candidate], draw: float) -> None:
    """Kills: reversed sort, NEAR_RATIO of 3, cost without `queued`, cost not divided by slots."""
    ordered = least_load(given_, draw)
    for before, after in pairwise(ordered):
        assert before.load <= after.load * 1.1 + 1e-9


@given(candidates, draws)
def test_local_spillover_keeps_requests_at_home_while_there_is_room(
    given_: list[Candidate], draw: float
) -> None:
    """Kills: local group after remote, suspects counted as local with room, ignoring `has_room`."""
    ordered = local_spillover(given_, draw)
    groups = [
        3 if not c.has_room else 2 if c.suspect else 0 if c.local else 1
        for c in ordered
    ]  # fmt: skip
    assert groups == sorted(groups)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        pytest.param(
            [candidate("a", in_flight=1), candidate("b", local=True, in_flight=3)], "ba", id="room-at-home"
        ),
        pytest.param(
            [candidate("a", in_flight=1), candidate("b", local=True, in_flight=4)], "ab", id="home-is-full"
        ),
        pytest.param(
            [candidate("a", in_flight=1), candidate("b", local=True, in_flight=3, queued=1)],
            "ab",
            id="a-queue-at-home-is-no-room",
        ),
        pytest.param(
            [candidate("a", in_flight=8), candidate("b", local=True, in_flight=5)],
            "ba",
            id="all-full-least-loaded-first",
        ),
        pytest.param(
            [candidate("a", in_flight=3), candidate("b", local=True, suspect=True)],
            "ab",
            id="a-suspect-comes-after-others-with-room",
        ),
        pytest.param(
            [candidate("a", in_flight=4), candidate("b", suspect=True)],
            "ba",
            id="a-suspect-with-room-beats-a-full-one",
        ),
        pytest.param(
            [candidate("a"), candidate("b", local=True, in_flight=3, slots=0)],
            "ba",
            id="unknown-slots-at-home-count-as-four",
        ),
        pytest.param(
            [candidate("a"), candidate("b", local=True, in_flight=4, slots=0)],
            "ab",
            id="unknown-slots-at-home-fill-up",
        ),
        pytest.param([], "", id="none"),
    ],
)
def test_local_spillover(given_: list[Candidate], expected: str) -> None:
    """Kills: `<=` in has_room, ASSUMED_SLOTS of 3 and of 5, groups 2 and 3 swapped."""
    assert nodes(local_spillover(given_, 0.0)) == expected


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        pytest.param([candidate("a", in_flight=2), candidate("b", in_flight=1)], "ba", id="fewer-in-flight"),
        pytest.param(
            [candidate("a", in_flight=2, slots=8), candidate("b", in_flight=1, slots=2)],
            "ab",
            id="for-each-slot",
        ),
        pytest.param([candidate("a", queued=2), candidate("b", in_flight=1)], "ba", id="queued-count-too"),
        pytest.param(
            [candidate("a", suspect=True), candidate("b", in_flight=12)], "ba", id="suspicion-costs-four-sets"
        ),
        pytest.param(
            [candidate("a", suspect=True), candidate("b", in_flight=20)],
            "ab",
            id="suspicion-never-excludes",
        ),
        pytest.param(
            [candidate("a", in_flight=1), candidate("b", local=True, in_flight=2)],
            "ab",
            id="home-has-no-advantage",
        ),
    ],
)
def test_least_load(given_: list[Candidate], expected: str) -> None:
    """Kills: SUSPECT_COST of 2 and of 6, a bonus for local ones."""
    assert nodes(least_load(given_, 0.0)) == expected


def test_ties_are_spread_evenly_by_the_draw_in_every_place() -> None:
    """Kills: rotation instead of permutation, the same draw for every pick, ties by id only."""
    equal = [candidate(name) for name in "abcd"]
    seen = Counter(nodes(least_load(equal, i / 2400 + 1e-9)) for i in range(2400))
    assert len(seen) == 24
    assert set(seen.values()) == {100}


def test_near_ties_count_as_ties_but_clear_differences_do_not() -> None:
    """Kills: NEAR_RATIO of 1.0, NEAR_RATIO of 1.2, a limit that grows with the last pick's cost."""
    given_ = [candidate(n, in_flight=f, slots=100) for n, f in [("a", 100), ("b", 109), ("c", 118)]]
    firsts = {nodes(least_load(given_, i / 100))[0] for i in range(100)}
    assert firsts == {"a", "b"}


def test_a_draw_of_one_is_tolerated() -> None:
    """Kills: `chosen = int(scaled)` without its bound."""
    assert nodes(least_load([candidate("a"), candidate("b")], 1.0)) == "ba"


def test_unknown_strategies_fall_back_to_the_default() -> None:
    given_ = [candidate("a", in_flight=1), candidate("b", local=True, in_flight=3)]
    assert nodes(order(given_, "cheapest", 0.5)) == "ba"
    assert nodes(order(given_, "least_load", 0.5)) == "ab"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ((), "local_spillover"),
        (("", "", ""), "local_spillover"),
        (("least_load", "failover"), "least_load"),
        (("", "failover", "least_cost"), "failover"),
        (("of-next-year", "", "round_robin"), "round_robin"),
    ],
)
def test_the_request_overrides_the_model_which_overrides_the_swarm(
    wanted: tuple[str, ...], expected: str
) -> None:
    """Kills: the last instead of the first, an unknown name that stops the search."""
    assert effective(*wanted) == expected


def test_local_first_stays_at_home_even_when_it_is_full() -> None:
    """Kills: `local_spillover` under its name, groups swapped, groups unsorted."""
    given_ = [
        candidate("a"),
        candidate("b", local=True, in_flight=9),
        candidate("c", local=True, in_flight=7),
        candidate("d", in_flight=1),
    ]
    assert nodes(order(given_, "local_first", 0.0)) == "cbad"


def test_round_robin_takes_turns_by_id_and_suspects_come_last() -> None:
    """Kills: no modulo, turns over the given order, suspects in the round, rotation backwards."""
    given_ = [candidate("c"), candidate("a", in_flight=9), candidate("b", suspect=True), candidate("d")]
    assert [nodes(order(given_, "round_robin", 0.0, turn=turn)) for turn in range(4)] == [
        "acdb",
        "cdab",
        "dacb",
        "acdb",
    ]
    suspects = [candidate("b", suspect=True), candidate("a", suspect=True)]
    assert nodes(order(suspects, "round_robin", 0.0, turn=1)) == "ba"


def test_batch_shard_by_index_by_name_and_without_a_batch() -> None:
    """Kills: index over the given order, a load-dependent order, rendezvous without the batch's name, a shard
    that means something to other strategies.
    """
    given_ = [candidate(name, in_flight=i, suspect=i == 1) for i, name in enumerate("dcba")]
    assert nodes(order(given_, "batch_shard", 0.0, shard=0)) == "abcd"
    assert nodes(order(given_, "batch_shard", 0.0, shard=6, batch="x")) == "cdab"
    by_batch = {nodes(order(given_, "batch_shard", 0.0, batch=f"batch {i}")) for i in range(40)}
    assert {found[0] for found in by_batch} == set("abcd")
    assert nodes(order(given_, "batch_shard", 0.0)) == nodes(least_load(given_, 0.0))
    assert nodes(order(given_, "least_load", 0.0, shard=1, batch="x")) == nodes(least_load(given_, 0.0))


@given(st.text(max_size=5), st.integers(0, 7))
def test_a_shard_moves_only_if_its_holder_left(batch: str, gone: int) -> None:
    """Kills: `% N` of a hash instead of rendezvous."""
    given_ = [candidate(name) for name in "abcdefgh"]
    before = order(given_, "batch_shard", 0.0, batch=batch or "x")
    after = order([c for c in given_ if c != given_[gone]], "batch_shard", 0.0, batch=batch or "x")
    assert after == tuple(c for c in before if c != given_[gone])


def test_failover_keeps_to_the_first_that_lives() -> None:
    """Kills: by load, by the first listed only, the last of a name listed twice, suspects in their places."""
    given_ = [candidate("d", in_flight=9), candidate("c", local=True), candidate("b"), candidate("a")]
    assert nodes(order(given_, "failover", 0.9)) == "cabd"
    assert nodes(order(given_, "failover", 0.1, preferred=("d", "name-b", "d"))) == "dbca"
    given_[0] = candidate("d", suspect=True)
    assert nodes(order(given_, "failover", 0.1, preferred=("d", "name-b"))) == "bcad"


def test_more_than_sixteen_are_ordered_by_load_after_a_drawn_first() -> None:
    """Kills: dropping those beyond sixteen, a first by id, drawing all (it costs 1 ms for 100)."""
    given_ = [candidate(f"n{i:02}", in_flight=0 if i < 4 else i) for i in range(40)]
    firsts = {least_load(given_, i / 16)[0].endpoint.node for i in range(16)}
    assert firsts == {"n00", "n01", "n02", "n03"}
    ordered = least_load(given_, 0.99)
    assert [c.endpoint.node for c in ordered[:5]] == ["n03", "n00", "n01", "n02", "n04"]
    assert len(set(ordered)) == 40


@pytest.mark.parametrize(
    ("pin", "local_only", "expected"),
    [
        ("", False, "abc"),
        ("", True, "b"),
        ("name-a", False, "a"),
        ("c", False, "c"),
        ("name-a", True, ""),
        ("nobody", False, ""),
        ("b", True, "b"),
    ],
)
def test_permitted(pin: str, local_only: bool, expected: str) -> None:
    """Kills: pin by name only, by id only, `or` for `and`, ignoring local_only under a pin."""
    given_ = (candidate("a"), candidate("b", local=True), candidate("c"))
    assert nodes(permitted(given_, pin=pin, local_only=local_only)) == expected


@given(candidates, st.sampled_from(["least_load", "local_spillover", "local_first"]))
def test_lazily_ordered_is_as_likely(found: list[Candidate], strategy: str) -> None:
    """Kills: full ones in front of others, suspects at home, the nearest tie left out, one given twice."""
    draws = [(number + 0.5) / 840 for number in range(840)]
    lazily, at_once = Counter[str](), Counter[str]()
    for draw in draws:
        ordered = list(by_load(found, strategy, draw))
        assert sorted(c.endpoint.id for c in ordered) == sorted(c.endpoint.id for c in found)
        if ordered:
            lazily[ordered[0].endpoint.id] += 1
            at_once[order(found, strategy, draw)[0].endpoint.id] += 1
    assert lazily == at_once
