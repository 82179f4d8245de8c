"""Rules for candidates that are priced already, each alone.

Mutants that were tried and are killed: totals that do not follow their terms, charges and stacked sessions
that are no more than a tie, a candidate without slots taken for full or for endless, penalties that never
fade, more samples though one has room.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import choosing_rules, cost
from sidecar.core.candidate import ASSUMED_SLOTS, Candidate
from sidecar.core.choosing_picks import NEAR_S, NEAR_SHARE, with_room
from sidecar.core.choosing_rules import FORGIVEN_S, STACKED_S, WAITING_FACTOR, Row
from sidecar.core.estimates import DECAY_S, PENALTY_S
from sidecar.core.estimates_history import History
from sidecar.core.session import Session
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId
from swarmplane.routes import Endpoint

M = ModelName("m")


def candidate(name: str, in_flight: int = 0, slots: int = 4) -> Candidate:
    endpoint = Endpoint(EndpointId(name), NodeId(name), BackendName("b"), "m")
    return Candidate(endpoint, local=True, in_flight=in_flight, slots=slots)


def row(name: str, *, in_flight: int = 0, slots: int = 4, **terms: float) -> Row:
    found = [terms.get(term, 0.0) for term in cost.TERMS]
    return sum(found), candidate(name, in_flight, slots), found


seconds = st.floats(0.0, 20.0)
rows = st.lists(
    st.builds(
        lambda in_flight, slots, queue, latency, prefix: row(
            "x", in_flight=in_flight, slots=slots, queue=queue, latency=latency, prefix=-prefix
        ),
        st.integers(0, 5), st.integers(0, 4), seconds, seconds, st.just(0.0) | seconds,
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


@given(rows, seconds, st.integers(0, 1))
def test_a_total_is_the_sum_of_its_terms_whatever_was_changed(
    found: list[Row], free_s: float, running: int
) -> None:
    session = Session()
    session.running = {EndpointId("x"): running}
    choosing_rules.unstack(found, session)
    choosing_rules.drop_credits(found)
    choosing_rules.charge_waiting(found, free_s)
    for total_s, _, terms in found:
        assert total_s == pytest.approx(sum(terms))


@given(rows, seconds)
def test_who_waits_beside_a_free_slot_is_charged_beyond_a_tie(found: list[Row], free_s: float) -> None:
    before = [(total_s, list(terms)) for total_s, _, terms in found]
    choosing_rules.charge_waiting(found, free_s)
    for (was_s, was), (_, one, terms) in zip(before, found, strict=True):
        full = 0 < one.slots <= one.in_flight
        charged = full and not was[cost.PREFIX] and was_s * WAITING_FACTOR >= free_s
        charge_s = free_s * (1.0 + NEAR_SHARE) + NEAR_S if charged else 0.0
        assert terms[cost.QUEUE] == pytest.approx(was[cost.QUEUE] + charge_s)


@given(seconds, seconds, seconds)
def test_a_second_of_a_session_costs_twice_as_much_beside_the_first(
    queue_s: float, latency_s: float, prefix_s: float
) -> None:
    session = Session()
    session.running = {EndpointId("a"): 1}
    found = [row("a", queue=queue_s, latency=latency_s, prefix=-prefix_s), row("b", latency=latency_s)]
    choosing_rules.unstack(found, session)
    assert found[0][0] == pytest.approx(2.0 * (queue_s + latency_s) + STACKED_S)
    assert found[0][2][cost.PREFIX] == 0.0
    assert found[1][0] == latency_s


def test_who_is_free() -> None:
    history = History()
    assumed = [row("a", in_flight=ASSUMED_SLOTS - 1, slots=0), row("b", in_flight=ASSUMED_SLOTS, slots=0)]
    known = [row("c", in_flight=4, slots=5), row("d", in_flight=5, slots=5)]
    found = choosing_rules.free([*assumed, *known], history.of(M), 0.0)
    assert [one[1].endpoint.id for one in found] == ["a", "c"]


def test_a_failure_is_forgiven_when_little_is_left_of_its_penalty() -> None:
    history, found = History(), [row("a")]
    history.failed(M, EndpointId("a"), 0.1, now_s=0.0)
    assert choosing_rules.free(found, history.of(M), 0.0) == []
    assert PENALTY_S / 2.718281828**2 < FORGIVEN_S
    assert choosing_rules.free(found, history.of(M), 2.0 * DECAY_S) == found


def test_a_sample_with_room_is_enough() -> None:
    full, roomy, others = candidate("a", 4), candidate("b"), [candidate("c"), candidate("d")]
    assert with_room([full, roomy], [full, roomy, *others], 0.0) == [full, roomy]
    assert len(with_room([full], [full, roomy, *others], 0.0)) == 3
