"""Latency history: mutants each test was seen to kill are named in its docstring."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import estimates_history
from sidecar.core.estimates import DEFAULT_SERVICE_S, DEFAULT_UNIT_S, Latency, LatencyState
from sidecar.core.estimates_history import History, NodeHistory
from sidecar.core.estimates_sketch import BUCKETS, GROWTH, Sketch
from swarmplane.ids import EndpointId, ModelName, NodeId

M, E = ModelName("m"), EndpointId("n/b/m")
BAD = (math.nan, math.inf, -math.inf, -1.0)

values = st.floats(1e-6, 900.0)


@given(st.lists(values, min_size=1, max_size=200), st.floats(0.0, 1.0))
def test_a_quantile_is_near_the_true_one(samples: list[float], share: float) -> None:
    """Kills: bucket ends for means, bisect_right, a shift by one bucket, growth not in the scale."""
    sketch = Sketch()
    for value in samples:
        sketch.add(value)
    rank = max(math.ceil(share * len(samples) - 1e-9), 1)
    true = sorted(samples)[rank - 1]
    assert true / GROWTH * 0.999 <= sketch.quantile(share) <= true * GROWTH * 1.001


def test_equal_samples_come_back_as_they_are() -> None:
    """Kills: the bucket's middle for its mean."""
    sketch = Sketch()
    for _ in range(10):
        sketch.add(0.123)
    assert sketch.quantile(0.75) == pytest.approx(0.123, rel=1e-12)


def test_an_empty_sketch_and_the_ends_of_its_range() -> None:
    """Kills: no guard for 0, no guard for the largest bucket."""
    sketch = Sketch()
    assert sketch.quantile(0.5) == 0.0
    sketch.add(0.0)
    assert sketch.quantile(1.0) == 0.0
    sketch.add(1e30)
    assert sketch.quantile(1.0) == 1e30


def test_the_last_few_hundred_decide() -> None:
    """Kills: no halving, halving weights but not sums."""
    sketch = Sketch()
    for _ in range(10_000):
        sketch.add(1.0)
    for _ in range(600):
        sketch.add(3.0)
    assert sketch.total <= 256
    assert sketch.quantile(0.25) == pytest.approx(3.0)
    assert sketch.quantile(0.75) == pytest.approx(3.0)


@given(st.lists(values, max_size=400))
def test_a_sketch_survives_being_stored(samples: list[float]) -> None:
    """Kills: lost sums, lost weights, a total that starts from 0."""
    sketch = Sketch()
    for value in samples:
        sketch.add(value)
    state = json.loads(json.dumps(sketch.export()))
    again = Sketch.restored([tuple(part) for part in state])
    assert again.export() == sketch.export()
    assert again.total == pytest.approx(sketch.total)


def test_nonsense_in_a_stored_sketch_is_left_out() -> None:
    """Kills: each of the five conditions."""
    bad = [(-1, 1.0, 1.0), (BUCKETS, 1.0, 1.0), (3, 0.0, 1.0), (3, 1e9, 1.0), (3, math.nan, 1.0)]
    bad += [(3, 1.0, math.inf), (3, 1.0, -1.0), (3, 1.0, math.nan)]
    assert Sketch.restored(bad).total == 0.0
    assert Sketch.restored([*bad, (3, 2.0, 8.0)]).quantile(0.5) == 4.0


def measured(base_s: float, unit_s: float, sizes: list[int], *, times: int = 200) -> Latency:
    latency = Latency()
    for i in range(times):
        tokens = sizes[i % len(sizes)]
        latency.first_token(base_s + unit_s * tokens, tokens, float(i))
    return latency


@pytest.mark.parametrize(
    ("base_s", "unit_s", "sizes"),
    [
        pytest.param(0.05, 1e-4, [100, 1000, 8000], id="a-gpu"),
        pytest.param(0.4, 1e-3, [20, 500, 4000], id="a-slow-machine"),
        pytest.param(0.0, 2e-3, [50, 100, 3000], id="no-fixed-cost"),
    ],
)
def test_the_time_to_the_first_token_scales_with_the_prompt(
    base_s: float, unit_s: float, sizes: list[int]
) -> None:
    """Kills: an offset that is never learned, slope and base swapped, samples not scaled by the offset."""
    latency = measured(base_s, unit_s, sizes)
    for tokens in (50, 2000, 8000):
        assert latency.typical_s(tokens) == pytest.approx(base_s + unit_s * tokens, rel=0.35, abs=0.03)
    assert latency.unit_s == pytest.approx(unit_s, rel=0.35)


def test_prompts_of_one_size_teach_no_offset() -> None:
    """Kills: a fit without its prior (it divides by zero, or swings)."""
    latency = measured(0.05, 1e-3, [400])
    assert latency.offset == pytest.approx(64.0, rel=0.01)
    assert latency.typical_s(400) == pytest.approx(0.45)


def test_the_offset_stays_in_bounds() -> None:
    """Kills: either bound dropped."""
    assert measured(1.0, 0.0, [10, 4000]).offset <= 8192.0
    falling = Latency()
    for i in range(100):
        falling.first_token(2.0 if i % 2 else 0.1, 0 if i % 2 else 9000, float(i))
    assert falling.offset <= 8192.0
    steep = Latency()
    for i in range(200):
        steep.first_token(0.001 if i % 2 else 2.0, 100 if i % 2 else 1000, float(i))
    assert 1.0 <= steep.offset < 5.0


def test_quantiles_are_of_slowness() -> None:
    """Kills: p75 and p99 swapped, the median for the p75, read never again after the eighth."""
    latency = Latency()
    for i in range(100):
        latency.first_token(1.0 if i % 10 else 5.0, 936, float(i))
    assert latency.typical_s(936) == pytest.approx(1.0, rel=0.05)
    assert latency.p99_s(936) == pytest.approx(5.0, rel=0.05)
    assert latency.typical_s(936) <= latency.p95_s(936) <= latency.p99_s(936)
    assert latency.p95_s(936) > 1.0
    for i in range(300):
        latency.first_token(2.0, 936, 100.0 + i)
    assert latency.typical_s(936) == pytest.approx(2.0, rel=0.05)
    assert latency.samples > 100


def test_the_peak_jumps_up_at_once_and_comes_down_with_time() -> None:
    """Kills: a plain EWMA, no decay by time, decay between samples only, decay below the p75."""
    latency = measured(1.0, 0.0, [936])
    calm_s = latency.peak_s(936, 199.0)
    latency.first_token(10.0, 936, 200.0)
    assert latency.peak_s(936, 200.0) == pytest.approx(10.0, rel=0.05)
    assert latency.peak_s(936, 210.0) == pytest.approx(1 + 9 / math.e, rel=0.1)
    assert latency.peak_s(936, 1000.0) == pytest.approx(calm_s, rel=0.1)
    latency.first_token(1.0, 936, 210.0)
    assert latency.peak_s(936, 210.0) == pytest.approx(1 + 9 / math.e, rel=0.1)
    assert latency.peak_s(936, 150.0) <= 10.5  # a clock that went back does not blow up


def test_impossible_samples_are_ignored() -> None:
    """Kills: either guard."""
    latency = Latency()
    for bad in BAD:
        latency.first_token(bad, 10, 0.0)
        latency.first_token(1.0, bad, 0.0)
        latency.finished(bad, 10, 1.0)
    assert latency.samples == 0
    assert latency.unit_s == DEFAULT_UNIT_S
    assert latency.service_s == DEFAULT_SERVICE_S
    latency.first_token(0.0, 0, 0.0)
    assert latency.unit_s > 0.0
    latency.finished(1.0, 10, math.nan)
    latency.finished(1.0, 1, 0.5)
    assert latency.tokens_per_s == 30.0


def test_service_time_and_decode_rate_are_means_first_and_smoothed_later() -> None:
    """Kills: the default that stays in the mean, no smoothing, the first token counted as decoded."""
    latency = Latency()
    latency.finished(4.0, 101, 2.0)
    assert latency.service_s == pytest.approx(4.0)
    assert latency.tokens_per_s == pytest.approx(50.0)
    latency.finished(2.0, 21, 2.0)
    assert latency.service_s == pytest.approx(3.0)
    for _ in range(100):
        latency.finished(1.0, 11, 1.0)
    assert latency.service_s == pytest.approx(1.0, rel=0.01)
    assert latency.tokens_per_s == pytest.approx(10.0, rel=0.01)


@pytest.mark.parametrize(
    ("took_s", "retry_after_s", "expected"),
    [
        pytest.param(0.001, 0.0, 5.0, id="a-fast-failure-counts-five-seconds"),
        pytest.param(12.0, 0.0, 12.0, id="a-slow-one-what-it-took"),
        pytest.param(0.001, 2.0, 2.0, id="retry-after-replaces-the-five"),
        pytest.param(0.001, 3600.0, 300.0, id="but-not-for-an-hour"),
        pytest.param(0.001, -3.0, 5.0, id="nonsense-is-none"),
        pytest.param(0.001, math.inf, 5.0, id="nor-is-infinity"),
    ],
)
def test_a_failure_is_never_fast(took_s: float, retry_after_s: float, expected: float) -> None:
    """Kills: min for max, no cap, Retry-After ignored, the penalty in the quantiles."""
    latency = measured(0.1, 0.0, [100])
    before = latency.typical_s(100)
    latency.failed(took_s, retry_after_s, 300.0)
    assert latency.penalty(300.0) == pytest.approx(expected)
    assert latency.peak_s(100, 300.0) == pytest.approx(expected)
    assert latency.penalty(310.0) == pytest.approx(expected / math.e)
    assert latency.penalty(290.0) == pytest.approx(expected)
    assert latency.typical_s(100) == before


def test_a_second_failure_does_not_soften_the_first() -> None:
    """Kills: the last failure replaces a worse one; failures add up without end."""
    latency = Latency()
    assert latency.penalty(0.0) == 0.0
    latency.failed(60.0, 0.0, 0.0)
    latency.failed(0.0, 0.0, 1.0)
    assert latency.penalty(1.0) == pytest.approx(60 * math.exp(-0.1))
    for i in range(100):
        latency.failed(0.0, 0.0, 200.0 + i / 100)
    assert latency.penalty(201.0) < 5.5


def test_slowness_is_doubted_after_a_while_but_speed_is_not() -> None:
    """Kills: doubt at once, doubt of fast ones, doubt that never comes near the pool."""
    slow, pool = measured(1.0, 1e-2, [100, 900]), measured(0.1, 1e-3, [100, 900])
    assert slow.doubted(pool, 199.0 + 60.0) == slow.unit_s
    half = slow.doubted(pool, 199.0 + 60.0 + 300.0)
    assert half == pytest.approx((slow.unit_s + pool.unit_s) / 2)
    assert slow.doubted(pool, 1e9) == pytest.approx(pool.unit_s)
    assert pool.doubted(slow, 1e9) == pool.unit_s


@given(
    st.lists(st.tuples(st.floats(0, 50), st.integers(0, 10_000), st.floats(0, 30)), max_size=60),
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 500), st.floats(0, 100)), max_size=20),
)
def test_figures_are_always_usable(
    firsts: list[tuple[float, int, float]], ends: list[tuple[float, int, float]]
) -> None:
    """Kills: a division by zero, a unit of 0, an offset below 0."""
    latency, now_s = Latency(), 0.0
    for took_s, tokens, step_s in firsts:
        now_s += step_s
        latency.first_token(took_s, tokens, now_s)
    for service_s, tokens, decode_s in ends:
        latency.finished(service_s, tokens, decode_s)
    assert 1.0 <= latency.offset <= 8192.0
    assert 0.0 < latency.unit_s <= latency.p99_unit_s * GROWTH
    assert latency.service_s >= 0.0
    assert 0.0 < latency.peak_s(100, now_s) < math.inf
    assert Latency.restored(latency.export(now_s), now_s).export(now_s) == latency.export(now_s)


def test_history_survives_a_restart_with_its_age() -> None:
    """Kills: times for ages (clocks differ), lost sums, lost sketch, penalties kept."""
    before = History()
    for i in range(50):
        before.first_token(M, E, 0.5, prompt_tokens=1000, cached_tokens=500, now_s=float(i))
        before.finished(M, E, 3.0, output_tokens=50, decode_s=2.0, now_s=float(i))
    before.failed(M, E, 0.0, now_s=49.0)
    after = History()
    after.restore(before.export(59.0), 1_000_000.0)
    old, new = before.of(M).of(E), after.of(M).of(E)
    assert new.at_s == pytest.approx(1_000_000.0 - 10.0)
    for figure in ("unit_s", "p99_unit_s", "peak_unit_s", "offset", "service_s", "tokens_per_s", "samples"):
        assert getattr(new, figure) == pytest.approx(getattr(old, figure)), figure
    assert new.penalty(1_000_000.0) == 0.0
    assert after.of(M).pool.service_s == pytest.approx(3.0)
    assert after.of(M).of(EndpointId("x/b/m")).service_s == pytest.approx(3.0)


def test_what_is_measured_already_is_not_overwritten_by_what_was_stored() -> None:
    """Kills: restore that replaces an endpoint, or a pool."""
    stored, live = History(), History()
    stored.finished(M, E, 9.0, now_s=0.0)
    live.finished(M, E, 1.0, now_s=0.0)
    live.restore(stored.export(0.0), 0.0)
    assert live.of(M).of(E).service_s == 1.0
    assert live.of(M).pool.service_s == 1.0


@pytest.mark.parametrize("bad", [*BAD, 0.0])
def test_nonsense_from_disk_is_replaced_by_defaults(bad: float) -> None:
    """Kills: each figure taken over unchecked."""
    state = LatencyState(bad, bad, bad, bad, bad, bad, (bad, 1.0, 1.0, 1.0, 1.0), ((50, 4.0, 0.004),))
    latency = Latency.restored(state, 100.0)
    assert latency.at_s == 100.0
    assert latency.offset == 64.0
    assert latency.service_s == (0.0 if bad == 0.0 else 2.0)
    assert latency.tokens_per_s == 30.0
    assert latency.unit_s == latency.peak_unit_s == pytest.approx(0.001)
    huge = Latency.restored(replace(state, offset=1e12, sketch=()), 0.0)
    assert huge.offset == 8192.0
    assert huge.unit_s == DEFAULT_UNIT_S
    latency.first_token(1.0, 100, 100.0)
    assert latency.typical_s(100) > 0.0


def test_cached_tokens_are_not_read_again() -> None:
    """Kills: the whole prompt as the sample's size, a negative rest."""
    history = History()
    history.first_token(M, E, 1.0, prompt_tokens=1000, cached_tokens=900, now_s=0.0)
    assert history.of(M).of(E).unit_s == pytest.approx(1 / 164, rel=0.1)
    history.first_token(M, E, 1.0, prompt_tokens=10, cached_tokens=900, now_s=0.0)
    assert history.of(M).of(E).unit_s > 1 / 80


def test_the_unknown_cost_what_the_others_cost() -> None:
    """Kills: defaults for endpoints of a known model, figures of another model, a new entry at defaults."""
    history = History()
    assert history.of(M).of(E).unit_s == DEFAULT_UNIT_S
    for i in range(20):
        history.first_token(M, E, 2.0, prompt_tokens=936, now_s=float(i))
        history.finished(M, E, 7.0, now_s=float(i))
    new = EndpointId("x/b/m")
    assert history.of(M).of(new).typical_s(936) == pytest.approx(2.0, rel=0.05)
    history.failed(M, new, 0.0, now_s=20.0)
    assert history.of(M).of(new).typical_s(936) == pytest.approx(2.0, rel=0.05)
    assert history.of(M).of(new).service_s == pytest.approx(7.0)
    assert history.of(M).pool.penalty(20.0) == 0.0
    assert history.of("other").of(new).unit_s == DEFAULT_UNIT_S


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: either bound, the newest dropped for the oldest."""
    monkeypatch.setattr(estimates_history, "MOST_ENDPOINTS", 3)
    monkeypatch.setattr(estimates_history, "MOST_MODELS", 2)
    history = History()
    for i in range(5):
        history.first_token(M, EndpointId(f"e{i}"), 1.0, prompt_tokens=1, now_s=float(i))
    assert list(history.of(M).by_endpoint) == ["e2", "e3", "e4"]
    for i, name in enumerate(("a", "b")):
        history.first_token(ModelName(name), E, 1.0, prompt_tokens=1, now_s=10.0 + i)
    assert {model for model, _ in history.export(20.0)} == {"a", "b"}
    crowd = {(M, f"e{i}"): Latency(float(i)).export(9.0) for i in range(9)}
    history.restore(crowd, 20.0)
    assert len(history.of(M).by_endpoint) == 3


def test_nodes_are_measured_apart() -> None:
    """Kills: one node's figures for all, flaps that never fade, guards dropped."""
    history = History()
    node = history.node(NodeId("a"))
    assert history.of_node(NodeId("b")).round_trip_s == 0.002
    for bad in BAD:
        node.answered_after(bad)
        node.loaded(10**9, bad)
    node.loaded(0, 1.0)
    assert (node.round_trip_s, node.load_bytes_per_s) == (0.002, 0.5e9)
    node.answered_after(0.012)
    assert node.round_trip_s == pytest.approx(0.004)
    node.loaded(3 * 10**9, 2.0)
    assert history.of_node(NodeId("a")).load_bytes_per_s == pytest.approx(1e9)


def test_flaps_fade_by_half_in_five_minutes() -> None:
    """Kills: another half-life, flaps that replace each other, time running backwards that grows them."""
    node = NodeHistory()
    assert not node.has_flapped
    assert node.flaps(0.0) == 0.0
    node.flapped(0.0)
    assert node.has_flapped
    assert node.flaps(300.0) == pytest.approx(0.5)
    node.flapped(300.0)
    assert node.flaps(300.0) == pytest.approx(1.5)
    assert node.flaps(200.0) == pytest.approx(1.5)


def test_old_slowness_does_not_outvote_a_new_sample() -> None:
    """Kills: no fading, fading of recent or of fast ones, nothing forgotten however old."""

    def after(idle_s: float, *, others_s: float = 0.1) -> tuple[float, float]:
        history = History()
        for i in range(60):
            history.first_token(M, E, 3.0, prompt_tokens=936, now_s=float(i))
            for other in range(4):
                history.first_token(M, EndpointId(f"o{other}"), others_s, prompt_tokens=936, now_s=float(i))
        history.first_token(M, E, 0.1, prompt_tokens=936, now_s=59.0 + idle_s)
        found = history.of(M).of(E)
        for _ in range(8):
            found.first_token(0.1, 936, 59.0 + idle_s)
        return found.typical_s(936), found.samples

    assert after(59.0)[0] == pytest.approx(3.0, rel=0.1)
    assert after(59.0)[1] == 69
    assert after(60.0 + 300.0)[1] == 39
    assert after(3600.0) == (pytest.approx(0.1, rel=0.1), 9)
    assert after(3600.0, others_s=9.0)[1] == 69


def test_the_pace_of_answers_is_kept_by_endpoint_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: the default averaged in, entries made for what was never measured, growth without end."""
    history = History()
    for wrong in (*BAD, 0.0):
        history.decoded(M, E, wrong)
        history.of(M).pool.decoded(wrong)
    assert not history.rates
    history.decoded(M, E, 50.0)
    history.decoded(M, E, 100.0)
    assert history.rates[E] == pytest.approx(60.0)
    assert not history.of(M).by_endpoint
    history.finished(M, E, 1.0, now_s=0.0)
    history.decoded(M, E, 100.0)
    history.decoded(M, EndpointId("other"), 100.0)
    assert history.of(M).of(E).tokens_per_s == 100.0
    history.of(M).pool.decoded(50.0)
    assert history.of(M).pool.tokens_per_s == pytest.approx(95.0)
    monkeypatch.setattr(estimates_history, "MOST_RATES", 2)
    history.decoded(M, E, 100.0)
    history.decoded(M, EndpointId("third"), 1.0)
    assert set(history.rates) == {E, EndpointId("third")}


def answers(latency: Latency, gap_s: float, seconds: float, took_s: float = 0.1) -> float:
    """First tokens every ``gap_s``; how many a second were taken."""
    begins_s, taken = max(latency.at_s, 0.0), 0
    for number in range(1, round(seconds / gap_s) + 1):
        now_s = begins_s + number * gap_s
        if latency.wants(took_s, 100, now_s):
            latency.first_token(took_s, 100, now_s)
            taken += 1
    return taken / seconds


def test_of_frequent_answers_a_sample_is_learned_from() -> None:
    """Kills: all taken, one taken and then none, the gap for the mean gap, a share that is never renewed."""
    latency = Latency(0.0)
    assert all(latency.wants(0.1, 100, 0.001) for _ in range(1000)), "nothing is known yet"
    assert answers(latency, 0.1, 20.0) == pytest.approx(10.0), "every one of so few"
    assert answers(latency, 0.001, 20.0) == pytest.approx(20.0, rel=0.1)
    assert answers(latency, 0.0002, 4.0) == pytest.approx(20.0, rel=0.2)
    assert answers(latency, 0.1, 60.0) == pytest.approx(10.0, rel=0.05), "and again every one"


def test_a_slow_answer_is_always_learned_from() -> None:
    """Kills: slow ones passed over."""
    latency = Latency(0.0)
    answers(latency, 0.001, 5.0)
    found = [latency.wants(0.1, 100, latency.at_s + 0.001) for _ in range(10)]
    assert found.count(True) <= 1
    assert latency.wants(0.2, 100, latency.at_s + 0.001)
    assert latency.wants(math.inf, 100, latency.at_s + 0.001)


def test_in_bursts_every_place_counts_as_often() -> None:
    """Kills: the first of each burst taken, because time passed before it."""
    latency, taken = Latency(0.0), [0] * 40
    for burst in range(400):
        for place in range(40):
            now_s = burst * 0.4 + place * 0.002
            if latency.wants(0.1, 100, now_s):
                latency.first_token(0.1, 100, now_s)
                taken[place] += 1
    assert sum(taken) < 400 * 40 / 2
    assert max(taken[1:]) <= 6 * (sum(taken) / 40)
    assert sum(taken[20:]) > sum(taken) / 4


def test_a_history_knows_what_it_measured() -> None:
    """Kills: defaults for unknown models or endpoints."""
    history = History()
    assert history.known("m", E) is None
    history.first_token(M, E, 0.1, prompt_tokens=100, now_s=1.0)
    assert history.known("m", EndpointId("n/b/other")) is None
    assert history.known("m", E) is history.of("m").by_endpoint[E]
