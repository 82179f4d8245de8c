"""The cost's terms: mutants each test was seen to kill are named in its docstring."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import cost
from sidecar.core.candidate import UNKNOWN_FACTS, Candidate, Facts, Warmth
from sidecar.core.cost import TERMS, Ask, Excluded, breakdown, exclusion, price
from sidecar.core.estimates import Latency
from sidecar.core.estimates_history import NodeHistory
from sidecar.core.session import Session
from swarmplane.ids import BackendName, EndpointId, NodeId
from swarmplane.routes import Endpoint

GB = 10**9
ID = EndpointId("n/b/m")
PLAIN = Ask("m", prompt_tokens=936)


def candidate(
    facts: Facts = UNKNOWN_FACTS,
    *,
    local: bool = False,
    in_flight: int = 0,
    queued: int = 0,
    slots: int = 4,
    context: int = 0,
    suspect: bool = False,
    known: bool = True,
) -> Candidate:
    endpoint = Endpoint(ID, NodeId("n"), BackendName("b"), "m", slots=slots, context_length=context)
    return Candidate(endpoint, local, (), "n", in_flight, queued, slots, suspect, known, facts)


def latency(unit_s: float = 1e-3, service_s: float = 2.0, at_s: float = 100.0) -> Latency:
    found = Latency(at_s)
    found.unit_s, found.service_s = unit_s, service_s
    return found


def terms(
    found: Candidate,
    ask: Ask = PLAIN,
    *,
    measured: Latency | None = None,
    pool: Latency | None = None,
    node: NodeHistory | None = None,
    matched: int = 0,
    session: Session | None = None,
    now_s: float = 100.0,
) -> dict[str, float]:
    priced = price(
        found, ask, measured or latency(), pool or latency(), node or NodeHistory(), matched, session, now_s
    )
    return dict(zip(TERMS, priced, strict=True))


def test_a_quiet_loaded_local_endpoint_costs_its_time_to_the_first_token() -> None:
    """Kills: any term that is not zero without a reason."""
    found = terms(candidate(local=True))
    assert found.pop("latency") == pytest.approx(1.0)
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(Facts(size_bytes=GB), 0.0, id="loaded"),
        pytest.param(Facts(Warmth.COLD, size_bytes=GB), 2.0, id="cold-size-over-rate"),
        pytest.param(Facts(Warmth.RECENT, size_bytes=GB), 0.6, id="recently-unloaded-is-cheaper"),
        pytest.param(Facts(Warmth.LOADING, size_bytes=GB), 1.0, id="loading-half-of-it"),
        pytest.param(Facts(Warmth.LOADING, 7.0, size_bytes=GB), 7.0, id="loading-as-told"),
        pytest.param(Facts(Warmth.COLD), 10.0, id="cold-of-unknown-size"),
    ],
)
def test_thermal(facts: Facts, expected: float) -> None:
    """Kills: each branch swapped with its neighbour."""
    assert terms(candidate(facts))["thermal"] == pytest.approx(expected)


def test_thermal_uses_the_measured_load_rate() -> None:
    """Kills: the default rate."""
    node = NodeHistory()
    for _ in range(20):
        node.loaded(4 * GB, 1.0)
    assert terms(candidate(Facts(Warmth.COLD, size_bytes=8 * GB)), node=node)["thermal"] == pytest.approx(2.0)


@pytest.mark.parametrize(("pressure", "expected"), [(0.0, 0.0), (0.8, 0.0), (0.9, 2.5), (1.0, 5.0)])
def test_memory_pressure_adds_seconds(pressure: float, expected: float) -> None:
    """Kills: no limit, another scale."""
    assert terms(candidate(Facts(pressure=pressure)))["memory_fit"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (UNKNOWN_FACTS, None),
        (Facts(Warmth.COLD, size_bytes=10 * GB, free_bytes=11 * GB), None),
        (Facts(Warmth.COLD, size_bytes=10 * GB, free_bytes=10 * GB), Excluded.MEMORY_FIT),
        (Facts(Warmth.RECENT, size_bytes=10 * GB, free_bytes=0), Excluded.MEMORY_FIT),
        (Facts(Warmth.LOADED, size_bytes=10 * GB, free_bytes=0), None),
        (Facts(Warmth.LOADING, size_bytes=10 * GB, free_bytes=0), None),
        (Facts(Warmth.COLD, size_bytes=10 * GB), None),
        (Facts(Warmth.COLD, free_bytes=0), None),
    ],
)
def test_who_must_load_it_needs_the_room(facts: Facts, expected: Excluded | None) -> None:
    """Kills: no headroom, loaded ones excluded, unknown room or size as none."""
    assert exclusion(candidate(facts), PLAIN) is expected


@pytest.mark.parametrize(
    ("context", "prompt", "answer", "excluded", "cost_s"),
    [
        pytest.param(0, 10**6, 10**6, False, 0.0, id="unknown-context"),
        pytest.param(4096, 3840, 0, False, 0.0, id="room-for-256"),
        pytest.param(4096, 3841, 0, True, 0.0, id="one-token-too-many"),
        pytest.param(4096, 4000, 96, False, 0.0, id="a-short-answer-fits"),
        pytest.param(4096, 4000, 97, True, None, id="a-short-answer-does-not"),
        pytest.param(4096, 3096, 1000, False, 0.0, id="the-whole-answer-fits"),
        pytest.param(4096, 3096, 2000, False, 1.0, id="half-of-it-is-cut"),
        pytest.param(4096, 3840, 25_600, False, 1.98, id="nearly-all-is-cut"),
        pytest.param(1000, 5000, 100, True, 2.0, id="never-more-than-all"),
    ],
)
def test_context(context: int, prompt: int, answer: int, excluded: bool, cost_s: float | None) -> None:
    """Kills: max_tokens unbounded in the filter, `>=`, no cap, a cost where no max_tokens was asked."""
    ask = Ask("m", prompt, answer)
    found = candidate(context=context)
    assert exclusion(found, ask) is (Excluded.CONTEXT if excluded else None)
    if cost_s is not None:
        assert terms(found, ask)["context"] == pytest.approx(cost_s)


@pytest.mark.parametrize(
    ("in_flight", "queued", "slots", "turns"),
    [
        pytest.param(0, 0, 4, 0.0, id="idle"),
        pytest.param(1, 0, 1, 1.0, id="one-slot-one-ahead"),
        pytest.param(1, 2, 1, 3.0, id="one-slot-three-ahead"),
        pytest.param(2, 0, 4, 0.25, id="slots-of-their-own-cost-half"),
        pytest.param(4, 0, 4, 0.625, id="full"),
        pytest.param(4, 4, 4, 1.625, id="a-queue"),
        pytest.param(4, 4, 0, 1.625, id="unknown-slots-are-four"),
        pytest.param(2, 0, 8, 0.125, id="twice-the-slots"),
    ],
)
def test_queue(in_flight: int, queued: int, slots: int, turns: float) -> None:
    """Kills: running or queued left out, not divided by slots, the service time of somebody else."""
    found = terms(candidate(in_flight=in_flight, queued=queued, slots=slots), measured=latency(service_s=3.0))
    assert found["queue"] == pytest.approx(turns * 3.0)


@given(st.integers(0, 50), st.integers(1, 16))
def test_more_ahead_never_costs_less(ahead: int, slots: int) -> None:
    """Kills: a step down where the slots are full."""
    one, two = candidate(in_flight=ahead, slots=slots), candidate(in_flight=ahead + 1, slots=slots)
    assert terms(one)["queue"] < terms(two)["queue"]


def test_unknown_load_is_not_idle() -> None:
    """Kills: reports that ran out read as no load (vllm-router 197, 198); own endpoints are always known."""
    assert terms(candidate(known=False))["queue"] > terms(candidate(in_flight=1))["queue"]
    assert terms(candidate(known=False))["queue"] < terms(candidate(in_flight=4))["queue"]
    assert terms(candidate(known=False, local=True))["queue"] == 0.0


def test_latency_scales_and_carries_the_penalty_of_failures() -> None:
    """Kills: the prompt's size ignored, the penalty left out or never fading."""
    measured = latency(2e-3)
    assert terms(candidate(), Ask("m", 0), measured=measured)["latency"] == pytest.approx(0.128)
    assert terms(candidate(), measured=measured)["latency"] == pytest.approx(2.0)
    measured.failed(0.0, 0.0, 100.0)
    assert terms(candidate(), measured=measured)["latency"] == pytest.approx(7.0)
    assert terms(candidate(), measured=measured, now_s=110.0)["latency"] == pytest.approx(2 + 5 / math.e)


def test_old_slowness_is_doubted() -> None:
    """Kills: never asked, or asked at once."""
    slow = latency(1e-2, at_s=0.0)
    assert terms(candidate(), measured=slow, now_s=60.0)["latency"] == pytest.approx(10.0)
    assert terms(candidate(), measured=slow, now_s=360.0)["latency"] == pytest.approx(5.5)


@pytest.mark.parametrize(
    ("size", "memory", "expected"),
    [
        (4, 16, 0.0),
        (4, 32, 0.1),
        (4, 512, 0.19375),
        (8, 320, 0.18),
        (12, 500, 0.0),
        (20, 40, 0.0),
        (30, 40, 0.1),
        (40, 40, 0.2),
        (80, 40, 0.2),
        (0, 40, 0.0),
        (4, 0, 0.0),
    ],
)
def test_small_models_leave_large_hosts_free_and_large_ones_lean_to_them(
    size: int, memory: int, expected: float
) -> None:
    """Kills: the signs swapped, either bound, unknown sizes that cost."""
    found = terms(candidate(Facts(size_bytes=size * GB, memory_bytes=memory * GB)))
    assert found["affinity"] == pytest.approx(expected)


def test_trend() -> None:
    """Kills: suspicion that excludes or costs nothing, flaps and the owner's presence left out."""
    node = NodeHistory()
    assert terms(candidate(suspect=True), node=node)["trend"] == 5.0
    node.flapped(100.0)
    assert terms(candidate(), node=node)["trend"] == pytest.approx(1.0)
    assert terms(candidate(Facts(owner_active=True), suspect=True), node=node)["trend"] == pytest.approx(7.0)
    assert exclusion(candidate(suspect=True), PLAIN) is None


def test_prefix_is_the_time_not_spent_on_cached_tokens() -> None:
    """Kills: blocks for tokens, more tokens than the prompt has, the wrong sign."""
    assert terms(candidate(), matched=2)["prefix"] == pytest.approx(-0.512)
    assert terms(candidate(), matched=200)["prefix"] == pytest.approx(-0.936)
    assert terms(candidate(), matched=2, measured=latency(2e-3))["prefix"] == pytest.approx(-1.024)


@pytest.mark.parametrize(
    ("prompt", "matched", "expected"),
    [
        pytest.param(936, 0, -0.5, id="at-most-half-a-second"),
        pytest.param(336, 0, -0.2, id="half-of-the-first-token"),
        pytest.param(0, 0, -0.032, id="short"),
        pytest.param(936, 10, -0.032, id="what-the-prefix-left"),
    ],
)
def test_session(prompt: int, matched: int, expected: float) -> None:
    """Kills: either bound, a bonus for others, for one that runs there, twice the prefix."""
    session = Session()
    session.endpoint = ID
    ask = Ask("m", prompt)
    found = candidate()
    assert terms(found, ask, matched=matched, session=session)["session"] == pytest.approx(expected)
    session.running = {ID: 1}
    assert terms(found, ask, session=session)["session"] == 0.0
    session.running = {}
    session.endpoint = EndpointId("elsewhere")
    assert terms(found, ask, session=session)["session"] == 0.0


def test_the_session_bonus_clears_the_tie() -> None:
    """Kills: no least bonus: within 20 ms it would be a tie."""
    session = Session()
    session.endpoint = ID
    assert terms(candidate(), Ask("m"), measured=latency(1e-5), session=session)["session"] == -0.03


def test_hop() -> None:
    """Kills: a hop for local ones, the default for a measured one."""
    node = NodeHistory()
    for _ in range(60):
        node.answered_after(0.05)
    assert terms(candidate(), node=node)["hop"] == pytest.approx(0.05, rel=0.01)
    assert terms(candidate(local=True), node=node)["hop"] == 0.0
    assert terms(candidate())["hop"] == 0.002


@given(
    st.builds(
        candidate,
        st.builds(
            Facts,
            st.sampled_from(Warmth),
            st.floats(0, 100),
            st.integers(0, 10**12),
            st.integers(-1, 10**12),
            st.integers(0, 10**12),
            st.floats(0, 1),
            st.booleans(),
        ),
        local=st.booleans(),
        in_flight=st.integers(0, 100),
        queued=st.integers(0, 100),
        slots=st.integers(0, 64),
        context=st.integers(0, 10**6),
        suspect=st.booleans(),
        known=st.booleans(),
    ),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 256),
)
def test_costs_are_finite_and_credits_bounded(
    found: Candidate, prompt: int, answer: int, matched: int
) -> None:
    """Kills: a division by zero, a prefix credit above the latency, any other term below zero."""
    session = Session()
    session.endpoint = ID
    priced = terms(found, Ask("m", prompt, answer), matched=matched, session=session)
    assert all(math.isfinite(value) for value in priced.values())
    assert -priced["prefix"] <= priced["latency"]
    assert -0.5 <= priced["session"] <= 0.0
    assert all(value >= 0.0 for name, value in priced.items() if name not in {"prefix", "session"})


def test_a_breakdown_adds_up_and_reads_well() -> None:
    """Kills: terms in another order, zeros shown, the reason of exclusion lost."""
    found = breakdown(candidate(), [0, 0, 0.5, 1.0, 0, 0, 0, -0.25, 0, 0.002], None)
    assert tuple(found.terms) == TERMS
    assert found.cost_s == pytest.approx(1.252)
    assert found.header() == "1.252;queue=0.500,latency=1.000,prefix=-0.250,hop=0.002"
    assert breakdown(candidate(), [0.0] * 10, Excluded.CONTEXT).header() == "excluded;context"


def test_heat_and_full_contexts_cost_seconds() -> None:
    """Kills: terms swapped, limits ignored, unknown (-1) priced."""
    assert terms(candidate(Facts(overheated=True)))["thermal"] == cost.OVERHEATED_S
    assert terms(candidate(Facts(kv_used=0.95, pressure=0.9)))["memory_fit"] == pytest.approx(1.0 + 2.5)
    assert terms(candidate(Facts(kv_used=0.9)))["memory_fit"] == 0.0
    assert terms(candidate(Facts(kv_used=0.5)))["memory_fit"] == 0.0
    assert terms(candidate(Facts(kv_used=-1.0, size_bytes=1)))["memory_fit"] == 0.0


def test_an_endpoint_never_measured_here_is_priced_by_what_its_owner_tells() -> None:
    """Kills: measured ones scaled too, the ratio upside down, no limit, defaults taken for measurements."""
    pool = latency()
    slow = candidate(Facts(tokens_per_s=10.0), in_flight=2)
    plain = terms(slow, measured=pool, pool=pool)
    pool.decoded(40.0)
    scaled = terms(slow, measured=pool, pool=pool, matched=1)
    assert scaled["latency"] == pytest.approx(4.0 * plain["latency"])
    assert scaled["queue"] == pytest.approx(4.0 * plain["queue"])
    assert scaled["prefix"] == pytest.approx(-4.0 * 0.256)
    assert terms(slow, measured=latency(), pool=pool)["latency"] == pytest.approx(plain["latency"])
    crawling = candidate(Facts(tokens_per_s=0.01))
    assert terms(crawling, measured=pool, pool=pool)["latency"] == pytest.approx(8.0 * plain["latency"])
    flying = candidate(Facts(tokens_per_s=1e6))
    assert terms(flying, measured=pool, pool=pool)["latency"] == pytest.approx(plain["latency"] / 8.0)
