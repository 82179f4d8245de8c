"""Choosing: mutants each test was seen to kill are named in its docstring."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.candidate import Candidate, Facts, Warmth
from sidecar.core.choice import Choice
from sidecar.core.choosing import Chooser
from sidecar.core.choosing_picks import lowest_first, pick, spread, two_of, weight
from sidecar.core.cost import Ask, Excluded
from sidecar.core.estimates_history import History
from sidecar.core.prefix import HASH_VERSION
from sidecar.core.prefix_index import PrefixIndex
from sidecar.core.session import Sessions, session_key
from sidecar.core.strategies import STRATEGIES
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId
from swarmplane.routes import Endpoint

M = ModelName("m")
BLOCKS = tuple(b"block %02d" % i for i in range(8))
PROMPT = Ask(M, 2048 + 100, 100, BLOCKS)
SESSION = session_key(M, header="s")


def candidate(
    name: str,
    *,
    local: bool = False,
    in_flight: int = 0,
    queued: int = 0,
    slots: int = 4,
    suspect: bool = False,
    known: bool = True,
    context: int = 0,
    facts: Facts | None = None,
) -> Candidate:
    endpoint = Endpoint(
        EndpointId(f"{name}/b/m"), NodeId(name), BackendName("b"), "m", slots=slots, context_length=context
    )
    return Candidate(endpoint, local, (), name, in_flight, queued, slots, suspect, known, facts or Facts())


class Bench:
    """A chooser and its parts."""

    def __init__(self) -> None:
        self.history, self.prefixes, self.sessions = History(), PrefixIndex(), Sessions()
        self.chooser = Chooser(self.history, self.prefixes, self.sessions)

    def measured(self, name: str, first_s: float, *, service_s: float = 1.0, tokens: int = 936) -> None:
        endpoint = EndpointId(f"{name}/b/m")
        for i in range(20):
            self.history.first_token(M, endpoint, first_s, prompt_tokens=tokens, now_s=float(i))
            self.history.finished(M, endpoint, service_s, output_tokens=50, decode_s=0.5, now_s=float(i))

    def choose(
        self,
        given_: list[Candidate],
        ask: Ask | None = None,
        *,
        strategy: str = "least_cost",
        draw: float = 0.5,
    ) -> Choice:
        return self.chooser.choose(given_, ask or Ask(M, 936), strategy=strategy, draw=draw, now_s=20.0)

    def first(self, given_: list[Candidate], ask: Ask | None = None, *, draw: float = 0.5) -> str:
        return next(self.choose(given_, ask, draw=draw)).endpoint.node

    def spread(
        self, given_: list[Candidate], ask: Ask | None = None, *, strategy: str = "least_cost"
    ) -> Counter[str]:
        """How often each is first in a thousand draws."""
        draws = random.Random(7)
        return Counter(
            next(self.choose(given_, ask, strategy=strategy, draw=draws.random())).endpoint.node
            for _ in range(1000)
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


crowd = st.lists(
    st.builds(
        candidate,
        st.integers(0, 99).map("n{:02}".format),
        local=st.booleans(),
        in_flight=st.integers(0, 9),
        queued=st.integers(0, 3),
        slots=st.integers(0, 4),
        suspect=st.booleans(),
        known=st.booleans(),
        context=st.sampled_from([0, 0, 0, 1024, 4096]),
    ),
    unique_by=lambda c: c.endpoint.id,
    max_size=40,
)


@given(crowd, st.sampled_from(sorted(STRATEGIES)), st.floats(0, 1, exclude_max=True), st.booleans())
def test_nobody_is_asked_twice_and_nobody_is_lost(
    given_: list[Candidate], strategy: str, draw: float, affine: bool
) -> None:
    """Kills: fallbacks that repeat the sample, those not sampled lost, excluded ones given or counted."""
    bench = Bench()
    if affine and given_:
        bench.prefixes.insert(M, given_[-1].endpoint.id, BLOCKS)
        bench.sessions.begin(SESSION, given_[0].endpoint.id, 0.0)
    ask = Ask(M, 2000, 100, BLOCKS, SESSION)
    choice = bench.choose(given_, ask, strategy=strategy, draw=draw)
    excluded = {c.endpoint.id for c, _ in choice.excluded}
    priced = {b.candidate.endpoint.id for b in choice.breakdowns()}
    asked, still = [], len(choice)
    while len(choice):
        asked.append(choice.pop().endpoint.id)
    assert still == len(asked) == len(set(asked))
    assert next(choice, None) is None
    wanted = {c.endpoint.id for c in given_} - (set() if choice.relaxed else excluded)
    assert set(asked) == wanted
    assert excluded <= priced
    assert choice.relaxed is (bool(given_) and len(excluded) == len(given_))


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_forty_are_asked_once_each(bench: Bench, strategy: str) -> None:
    """Kills: the sampled ones asked again among the others."""
    bench.prefixes.insert(M, EndpointId("n07/b/m"), BLOCKS)
    given_ = [candidate(f"n{i:02}", in_flight=i % 5) for i in range(40)]
    asked = [c.node_name for c in bench.choose(given_, PROMPT, strategy=strategy)]
    assert sorted(asked) == [c.node_name for c in given_]


def test_nothing_to_choose_from(bench: Bench) -> None:
    """Kills: an exception for an empty or single list."""
    for strategy in STRATEGIES:
        assert list(bench.choose([], strategy=strategy)) == []
        assert [c.node_name for c in bench.choose([candidate("a")], strategy=strategy)] == ["a"]


def test_the_faster_one_is_asked_while_it_is_not_too_busy(bench: Bench) -> None:
    """Kills: latency or queue left out of the sum, a reversed comparison."""
    bench.measured("fast", 0.1)
    bench.measured("slow", 0.5)
    assert bench.spread([candidate("fast"), candidate("slow")]) == {"fast": 1000}
    assert bench.first([candidate("fast", in_flight=2), candidate("slow")]) == "fast"
    assert bench.first([candidate("fast", in_flight=4, queued=3), candidate("slow")]) == "slow"


def test_equals_share_and_an_idle_one_is_preferred(bench: Bench) -> None:
    """Kills: the first of equals, ties by id, weights ignored."""
    four = [candidate(name) for name in "abcd"]
    assert all(200 < times < 300 for times in bench.spread(four).values())
    bench.measured("a", 0.1, service_s=0.1)
    bench.measured("b", 0.1, service_s=0.1)
    busy = [candidate("a", in_flight=1), candidate("b")]
    assert bench.spread(busy)["b"] > 800
    wide = [candidate("a", slots=12), candidate("b", slots=4)]
    assert 680 < bench.spread(wide)["a"] < 820


def test_a_hop_costs_but_little(bench: Bench) -> None:
    """Kills: a strict preference for home, the hop left out."""
    for name in "ab":
        bench.measured(name, 1.0)
    times = bench.spread([candidate("a", local=True), candidate("b")])
    assert 400 < times["a"] < 650
    for _ in range(60):
        bench.history.node(NodeId("b")).answered_after(0.3)
    assert bench.spread([candidate("a", local=True), candidate("b")]) == {"a": 1000}


def test_filters_name_their_reasons(bench: Bench) -> None:
    """Kills: an excluded one chosen because it is cheap, reasons mixed up."""
    given_ = [
        candidate("short", context=1000, local=True),
        candidate("cramped", facts=Facts(Warmth.COLD, size_bytes=10, free_bytes=5)),
        candidate("able", in_flight=4, context=8192),
    ]
    choice = bench.choose(given_, PROMPT)
    assert [c.node_name for c in choice] == ["able"]
    assert {c.node_name: reason for c, reason in choice.excluded} == {
        "short": Excluded.CONTEXT,
        "cramped": Excluded.MEMORY_FIT,
    }
    assert not choice.relaxed
    cheapest = choice.breakdowns()[0]
    assert (cheapest.candidate.node_name, cheapest.excluded) == ("able", None)


def test_estimates_err_so_the_last_candidates_are_asked_nevertheless(bench: Bench) -> None:
    """Kills: nobody asked, the flag not set, the fallback of a sample not tried with all."""
    choice = bench.choose([candidate("a", context=1000), candidate("b", context=1000)], PROMPT)
    assert choice.relaxed
    assert {c.node_name for c in choice} == {"a", "b"}
    many = [candidate(f"n{i:02}", context=8192 if i == 33 else 1000) for i in range(40)]
    for draw in (0.1, 0.3, 0.5, 0.9):
        choice = bench.choose(many, PROMPT, draw=draw)
        assert not choice.relaxed
        assert [c.node_name for c in choice] == ["n33"]


def test_a_cached_prompt_draws_and_load_repels(bench: Bench) -> None:
    """Kills: no credit, a credit that load never outweighs (a hot spot), one kept in the breakdown."""
    for name in "ab":
        bench.measured(name, 1.0)
    bench.prefixes.insert(M, EndpointId("a/b/m"), BLOCKS)
    assert bench.spread([candidate("a"), candidate("b")], PROMPT) == {"a": 1000}
    assert bench.first([candidate("a", in_flight=3), candidate("b")], PROMPT) == "a"
    busy = [candidate("a", in_flight=4, queued=12), candidate("b")]
    assert bench.spread(busy, PROMPT) == {"b": 1000}
    by_name = {b.candidate.node_name: b for b in bench.choose(busy, PROMPT).breakdowns()}
    assert by_name["a"].terms["prefix"] == 0.0
    assert bench.spread([candidate("a"), candidate("b")], Ask(M, 2148)).keys() == {"a", "b"}


def test_load_that_all_share_takes_no_credit_away(bench: Bench) -> None:
    """Kills: the whole load for the excess over the least loaded."""
    for name in "ab":
        bench.measured(name, 0.3)
    bench.prefixes.insert(M, EndpointId("a/b/m"), BLOCKS)
    busy = [candidate("a", in_flight=4, queued=6), candidate("b", in_flight=4, queued=6)]
    assert bench.spread(busy, PROMPT) == {"a": 1000}


def test_affinity_survives_an_imbalance_that_costs_less(bench: Bench) -> None:
    """B5 (4). Kills: affinity given up whenever loads differ by some ratio."""
    for name in "abcd":
        bench.measured(name, 2.0, service_s=1.0)
    bench.prefixes.insert(M, EndpointId("a/b/m"), BLOCKS)
    given_ = [candidate("a", in_flight=4, slots=8), *(candidate(name, slots=8) for name in "bcd")]
    assert bench.spread(given_, PROMPT) == {"a": 1000}


def test_waiting_for_a_cache_is_not_charged_but_waiting_beside_a_free_slot_is(bench: Bench) -> None:
    """Kills: the charge for all, for nobody, for those with unknown slots, when all are full."""
    bench.measured("fast", 0.1, service_s=0.1)
    bench.measured("slow", 0.4, service_s=0.4)
    full, free = candidate("fast", in_flight=4), candidate("slow", in_flight=1)
    assert bench.first([full, free]) == "slow"
    assert bench.first([full, candidate("slow", in_flight=4)]) == "fast"
    assert bench.first([candidate("fast", in_flight=4, slots=0), free]) == "fast"
    bench.prefixes.insert(M, EndpointId("fast/b/m"), BLOCKS)
    assert bench.first([full, free], PROMPT) == "fast"
    shown = {b.candidate.node_name: b for b in bench.choose([full, free]).breakdowns()}
    assert shown["fast"].terms["queue"] > shown["slow"].cost_s


def test_a_much_faster_one_is_worth_the_wait(bench: Bench) -> None:
    """Kills: free slots first whatever they cost."""
    bench.measured("fast", 0.1, service_s=0.1)
    bench.measured("slow", 5.0, service_s=5.0)
    assert bench.first([candidate("fast", in_flight=4), candidate("slow")]) == "fast"


def test_a_session_comes_back_but_not_at_any_price(bench: Bench) -> None:
    """Kills: no bonus, an unbounded one, one after its time."""
    for name in "ab":
        bench.measured(name, 1.0)
    ask = Ask(M, 936, session=SESSION)
    bench.sessions.begin(SESSION, EndpointId("a/b/m"), 20.0)
    bench.sessions.end(SESSION, EndpointId("a/b/m"), 20.0)
    assert bench.spread([candidate("a"), candidate("b")], ask) == {"a": 1000}
    assert bench.spread([candidate("a", in_flight=4, queued=2), candidate("b")], ask) == {"b": 1000}
    assert bench.spread([candidate("a"), candidate("b")], Ask(M, 936)).keys() == {"a", "b"}


@pytest.mark.parametrize("first_s", [0.001, 0.1, 3.0])
def test_two_requests_of_one_session_use_both_idle_nodes(bench: Bench, first_s: float) -> None:
    """Kills: the bonus or the cached prompt for the second, the idle one only a tie."""
    for name in "ab":
        bench.measured(name, first_s, service_s=first_s * 1.5)
    ask = Ask(M, 2148, 100, BLOCKS, SESSION)
    bench.sessions.begin(SESSION, EndpointId("a/b/m"), 20.0)
    bench.prefixes.insert(M, EndpointId("a/b/m"), BLOCKS)
    assert bench.spread([candidate("a", in_flight=1), candidate("b")], ask) == {"b": 1000}
    # With no idle one beside it, the cached prompt counts.
    assert bench.first([candidate("a", in_flight=1), candidate("b", in_flight=1)], ask) == "a"


def test_who_is_not_ready_is_no_idle_node(bench: Bench) -> None:
    """Kills: a suspect or a cold one taken for idle: the second request would wait for a load."""
    for name in "ab":
        bench.measured(name, 3.0)
    ask = Ask(M, 2148, 100, BLOCKS, SESSION)
    bench.sessions.begin(SESSION, EndpointId("a/b/m"), 20.0)
    bench.prefixes.insert(M, EndpointId("a/b/m"), BLOCKS)
    for other in (candidate("b", suspect=True), candidate("b", facts=Facts(Warmth.COLD))):
        choice = bench.choose([candidate("a", in_flight=1), other], ask)
        shown = {b.candidate.node_name: b for b in choice.breakdowns()}
        assert shown["a"].terms["prefix"] < 0.0
        assert next(choice).node_name == "a"


def test_failing_fast_attracts_nobody(bench: Bench) -> None:
    """Kills: failures left out; a penalty that never ends."""
    for name in "ab":
        bench.measured(name, 1.0)
    bench.history.failed(M, EndpointId("a/b/m"), 0.001, now_s=20.0)
    assert bench.spread([candidate("a"), candidate("b", in_flight=4, queued=4)]) == {"b": 1000}
    later = bench.chooser.explain([candidate("a"), candidate("b")], Ask(M, 936), now_s=79.0)
    assert later[0].cost_s == pytest.approx(later[1].cost_s, rel=0.02)


def test_a_new_replica_is_no_magnet(bench: Bench) -> None:
    """B5 (1), the death spiral. Kills: unmeasured as free of cost, few blocks as a reason to go there."""
    for name in "abc":
        bench.measured(name, 1.0)
        bench.prefixes.insert(M, EndpointId(f"{name}/b/m"), BLOCKS)
    four = [candidate(name) for name in "abcd"]
    assert "d" not in bench.spread(four, PROMPT)
    times = bench.spread(four, Ask(M, 2148))
    assert 200 < times["d"] < 300


def test_cold_misses_do_not_all_go_to_one_replica(bench: Bench) -> None:
    """B5 (2). Kills: ties to the first, or to whoever has the smallest index."""
    for name in "abcd":
        bench.measured(name, 1.0)
    bench.prefixes.insert(M, EndpointId("b/b/m"), tuple(b"other%03d" % i for i in range(9)))
    assert all(times > 180 for times in bench.spread([candidate(n) for n in "abcd"], PROMPT).values())


def test_long_prompts_go_where_they_fit(bench: Bench) -> None:
    """B5 (3), long contexts. Kills: the context filter off for the holder of the prefix."""
    bench.prefixes.insert(M, EndpointId("a/b/m"), BLOCKS)
    given_ = [candidate("a", context=2200), candidate("b", context=32_768, in_flight=3)]
    assert bench.first(given_, PROMPT) == "b"


def test_a_restarted_router_learns_from_the_owners_digests(bench: Bench) -> None:
    """B5 (5). Kills: digests that do not count, history that is not restored."""
    owner = PrefixIndex()
    owner.insert(M, EndpointId("b/b/m"), BLOCKS)
    assert bench.spread([candidate("a"), candidate("b")], PROMPT).keys() == {"a", "b"}
    bench.prefixes.install(M, EndpointId("b/b/m"), owner.digest(M, EndpointId("b/b/m")), HASH_VERSION)
    assert bench.spread([candidate("a"), candidate("b")], PROMPT) == {"b": 1000}
    old = Bench()
    old.measured("a", 0.1)
    old.measured("b", 0.9)
    fresh = Bench()
    fresh.history.restore(old.history.export(20.0), 20.0)
    assert fresh.spread([candidate("a"), candidate("b")]) == {"a": 1000}


def test_lost_load_reports_make_no_hot_spot(bench: Bench) -> None:
    """B5 (6) and (7). Kills: an unknown load read as none."""
    for name in "ab":
        bench.measured(name, 1.0)
    assert bench.spread([candidate("a", known=False), candidate("b", in_flight=1)]) == {"b": 1000}


def test_latency_is_the_peak_for_each_request_there(bench: Bench) -> None:
    """Kills: p75 for peak, requests there not counted, suspects and hops free, penalties left out."""
    bench.measured("a", 0.1)
    bench.measured("b", 0.15)
    two = [candidate("a"), candidate("b")]
    assert bench.spread(two, strategy="latency") == {"a": 1000}
    assert bench.spread([candidate("a", in_flight=1), candidate("b")], strategy="latency") == {"b": 1000}
    assert bench.spread([candidate("a", suspect=True), candidate("b")], strategy="latency") == {"b": 1000}
    bench.history.first_token(M, EndpointId("a/b/m"), 1.0, prompt_tokens=936, now_s=20.0)
    assert bench.spread(two, strategy="latency") == {"b": 1000}
    bench.history.failed(M, EndpointId("b/b/m"), 0.001, now_s=20.0)
    assert bench.spread(two, strategy="latency") == {"a": 1000}
    shown = bench.choose([candidate("a"), candidate("b", local=True)], strategy="latency").breakdowns()
    assert [b.terms["hop"] for b in shown] == [0.002, 0.0]
    many = [candidate(f"n{i}") for i in range(30)]
    assert len(bench.choose(many, strategy="latency").breakdowns()) == 2


def test_other_strategies_get_what_they_need_of_the_request(bench: Bench) -> None:
    """Kills: turn, shard, batch or preference not handed on, the wrong strategy named."""
    three = [candidate("a"), candidate("b"), candidate("c", local=True)]
    for ask, strategy, expected in (
        (Ask(M, turn=1), "round_robin", "b"),
        (Ask(M, shard=2), "batch_shard", "c"),
        (Ask(M, preferred=("b",)), "failover", "b"),
        (Ask(M), "local_first", "c"),
        (Ask(M), "of-next-year", "c"),
    ):
        choice = bench.choose(three, ask, strategy=strategy)
        assert next(choice).node_name == expected
        assert choice.strategy == (strategy if strategy in STRATEGIES else "local_spillover")
        assert choice.breakdowns() == ()
    batches = {
        next(bench.choose(three, Ask(M, batch=f"{i}"), strategy="batch_shard")).node_name for i in range(40)
    }
    assert batches == {"a", "b", "c"}


def test_above_sixteen_two_are_priced_and_the_better_one_asked(bench: Bench) -> None:
    """Kills: all priced, one priced, the worse of two, always the same two."""
    sixteen = [candidate(f"n{i:02}") for i in range(16)]
    assert len(bench.choose(sixteen).breakdowns()) == 16
    many = [candidate(f"n{i:02}", in_flight=i % 4) for i in range(40)]
    assert len(bench.choose(many).breakdowns()) == 2
    times = bench.spread(many)
    assert len(times) > 20
    busiest = sum(n for name, n in times.items() if int(name[1:]) % 4 == 3)
    idlest = sum(n for name, n in times.items() if int(name[1:]) % 4 == 0)
    assert idlest > 350
    assert busiest < 120


def test_above_sixteen_affinity_is_seen_and_free_slots_are_found(bench: Bench) -> None:
    """Kills: holders and the session's node not sampled, a wait although one of forty is free."""
    many = [candidate(f"n{i:02}") for i in range(40)]
    bench.prefixes.insert(M, EndpointId("n33/b/m"), BLOCKS)
    bench.prefixes.insert(M, EndpointId("n34/b/m"), BLOCKS[:3])
    bench.prefixes.insert(M, EndpointId("n35/b/m"), BLOCKS[:1])
    assert bench.spread(many, PROMPT) == {"n33": 1000}
    bench.sessions.begin(SESSION, EndpointId("n07/b/m"), 20.0)
    bench.sessions.end(SESSION, EndpointId("n07/b/m"), 20.0)
    assert bench.spread(many, Ask(M, 936, session=SESSION)) == {"n07": 1000}
    for free in ({5}, {5, 6}, {5, 6, 7}):
        full = [candidate(f"n{i:02}", in_flight=0 if i in free else 4) for i in range(40)]
        assert set(bench.spread(full)) == {f"n{i:02}" for i in free}
        doubted = [candidate(f"n{i:02}", suspect=i not in free) for i in range(40)]
        assert set(bench.spread(doubted)) == {f"n{i:02}" for i in free}
    all_full = [candidate(f"n{i:02}", in_flight=9) for i in range(40)]
    assert len(bench.choose(all_full).breakdowns()) == 2


def test_a_sample_for_those_who_make_candidates_late(bench: Bench) -> None:
    """Kills: fewer than all of sixteen, more than two and the affine ones."""
    ids = [EndpointId(f"n{i:02}/b/m") for i in range(40)]
    assert list(bench.chooser.sample(ids[:16], PROMPT, 0.5, 0.0)) == list(range(16))
    assert len(bench.chooser.sample(ids, PROMPT, 0.5, 0.0)) == 2
    bench.prefixes.insert(M, ids[33], BLOCKS)
    assert 33 in bench.chooser.sample(ids, PROMPT, 0.5, 0.0)


def test_explain_prices_all_and_changes_nothing(bench: Bench) -> None:
    """Kills: a sample explained, an order other than by cost, excluded ones in front or missing."""
    bench.measured("n00", 0.1)
    many = [candidate(f"n{i:02}", in_flight=i % 5, context=1000 if i == 3 else 0) for i in range(40)]
    shown = bench.chooser.explain(many, PROMPT, now_s=20.0)
    assert len(shown) == 40
    assert [b.cost_s for b in shown[:39]] == sorted(b.cost_s for b in shown[:39])
    assert (shown[-1].candidate.node_name, shown[-1].excluded) == ("n03", Excluded.CONTEXT)
    choice = bench.choose(many[:8], PROMPT)
    before = choice.breakdowns()
    list(choice)
    assert choice.breakdowns() == before == bench.chooser.explain(many[:8], PROMPT, now_s=20.0)


def test_a_front_that_is_known_is_not_looked_for(bench: Bench) -> None:
    """Kills: it is found anew, given twice, or drawn from by another draw than one found anew would be."""
    three = [candidate("a"), candidate("b"), candidate("c", in_flight=2)]
    for draw in (0.1, 0.6):
        by_itself = bench.choose(three, strategy="least_load", draw=draw)
        known = bench.chooser.choose(
            three, Ask(M), strategy="least_load", draw=draw, now_s=0.0, front=tuple(three[:2])
        )
        assert list(known) == list(by_itself)
    chosen = bench.chooser.choose(three, Ask(M), strategy="least_load", draw=0.1, now_s=0.0, front=three[2:])
    assert [c.node_name for c in chosen] == ["c", "a", "b"]


def test_a_choice_is_the_same_for_the_same_facts(bench: Bench) -> None:
    """Kills: chance or state besides the draw."""
    many = [candidate(f"n{i:02}") for i in range(30)]
    for size in (9, 30):
        assert list(bench.choose(many[:size], draw=0.37)) == list(bench.choose(many[:size], draw=0.37))


def evenly(_place: int) -> float:
    return 1.0


def test_a_pick_is_among_those_near_the_lowest() -> None:
    """Kills: 10 % only, 20 ms only, of the highest, `<` for `<=`."""
    draws = [i / 500 for i in range(500)]
    cases = [
        ([1.0, 1.09, 1.2], {0, 1}),
        ([0.100, 0.119, 0.121], {0, 1}),
        ([10.0, 10.9, 11.1], {0, 1}),
        ([-1.0, -0.95, -0.8], {0, 1}),
        ([-0.005, 0.01, 0.02], {0, 1}),
        ([0.0, 0.02, 0.021], {0, 1}),
        ([3.0], {0}),
    ]
    for costs, expected in cases:
        found = {pick(costs, evenly, draw)[0] for draw in draws}
        assert found <= expected, costs
        assert 0 in found
    assert {pick([1.0, 1.09, 1.2], evenly, draw)[0] for draw in draws} == {0, 1}
    assert {pick([10.0, 11.0], evenly, draw)[0] for draw in draws} == {0, 1}


def test_a_pick_is_weighted() -> None:
    """Kills: weights or closeness ignored, the square for the fourth power."""
    equal = Counter(pick([1.0, 1.0], [1.0, 3.0].__getitem__, i / 1000)[0] for i in range(1000))
    assert equal[1] == 750
    fast = Counter(pick([0.005, 0.010], evenly, i / 1000)[0] for i in range(1000))
    assert 50 < fast[1] < 70
    assert pick([1.0, 1.0], evenly, 1.0)[0] == 1


def test_what_is_left_of_a_draw_is_a_draw() -> None:
    """Kills: the draw handed on as it is: the second pick would follow from the first."""
    rests = [spread(i / 1000) for i in range(1000)]
    assert all(0.0 <= rest < 1.0 for rest in rests)
    assert 0.45 < sum(rests) / 1000 < 0.55
    assert pick([1.0, 1.0], evenly, 0.3)[1] != 0.3
    assert pick([1.0, 9.0], evenly, 0.3)[1] == 0.3


@given(st.integers(2, 50))
def test_every_pair_is_equally_likely(count: int) -> None:
    """Kills: a pair with itself, neighbours only."""
    pairs = count * (count - 1)
    found = Counter(frozenset(two_of(count, (i + 0.5) / pairs)) for i in range(pairs))
    assert len(found) == pairs // 2
    assert set(found.values()) == {2}
    assert len(set(two_of(count, 1.0))) == 2


def test_weights_and_the_order_of_the_rest() -> None:
    """Kills: a weight of 0, idle ones like others, equals always in the same order."""
    assert [weight(candidate("a", in_flight=n)) for n in (0, 1, 3, 4, 9)] == [16, 3, 1, 1, 1]
    assert weight(candidate("a", slots=0)) == 16
    rest = [candidate("a", in_flight=2), candidate("b"), candidate("c")]
    assert [c.node_name for c in lowest_first(rest, 0.0)] == ["b", "c", "a"]
    assert [c.node_name for c in lowest_first(rest, 0.99)] == ["c", "b", "a"]
    assert lowest_first([], 0.5) == []
