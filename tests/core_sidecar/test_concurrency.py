"""Learned limits against modelled backends.

Mutants seen to be killed: no base until alone, base never rises, limit grows untested, no ceiling,
ceiling for ever, doubling after a queue was met, no upper bound, no lower bound; a first sample that tells
nothing, history that counts for nothing or for ever, a quicker window that the slower ones before it outvote,
the busiest of a window counted in the next ones, half of a limit taken for untested, a refusal that raises a
limit that was held to.

Equivalent, by a tool that changed every operator and constant: what is read of the ceiling before a refusal
(it is ``most`` then), ``min`` with ``most`` before the ceiling is applied, the busiest of no sample, a window
as quick as the base. Not pinned: values of the policy, and how many samples a small limit's window has.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.concurrency import GradientLimit, GradientPolicy

POLICY = GradientPolicy(quick_s=0.0)


def saturate(limit: GradientLimit, ttft_s, windows: int, now_s: float = 0.0) -> list[int]:  # noqa: ANN001
    """Always as many in flight as the limit lets in; ``ttft_s(n)``: of a request sent as the n-th."""
    seen = []
    for _ in range(windows * POLICY.window_samples):
        limit.sample(ttft_s(limit.limit), limit.limit, now_s)
        seen.append(limit.limit)
    return seen


def test_begins_with_one_then_a_few() -> None:
    limit = GradientLimit(POLICY)
    assert (limit.limit, limit.base_s) == (1, 0.0)
    limit.sample(0.2, 1, 0.0)
    assert (limit.limit, limit.base_s) == (4, 0.2)
    assert GradientLimit(POLICY, base_s=0.5).limit == 4


def test_the_first_sample_is_the_base_until_one_ran_alone() -> None:
    limit = GradientLimit(POLICY)
    limit.sample(0.4, 5, 0.0)
    assert (limit.limit, limit.base_s) == (4, 0.4)
    limit.sample(0.2, 1, 0.0)
    assert limit.base_s == 0.2


def test_what_ran_alone_lately_is_the_base() -> None:
    """History is one measurement among them, and fifteen are remembered."""
    limit = GradientLimit(POLICY, base_s=0.2)
    limit.sample(0.6, 1, 0.0)
    assert limit.base_s == pytest.approx(0.4)
    for _ in range(100):
        limit.sample(0.6, 1, 0.0)
    assert limit.base_s == 0.6
    for _ in range(8):
        limit.sample(1.0, 1, 0.0)
    assert limit.base_s == 1.0


def test_a_backend_without_bounds_is_found_out_fast_and_bounded() -> None:
    """Long streams: each sample is a new stream, none ends."""
    limit, streams = GradientLimit(POLICY), 0
    while streams < limit.limit:
        streams += 1
        limit.sample(0.2, streams, 0.0)
    assert streams == POLICY.most


def test_one_slot_and_a_queue_of_its_own() -> None:
    """Ollama with one slot: the second request's first token waits for the first one's last."""
    limit = GradientLimit(POLICY)
    seen = saturate(limit, lambda n: 0.2 + 5.0 * (n - 1), 60)
    late = seen[len(seen) // 2 :]
    assert max(late) <= 2
    assert sum(late) / len(late) < 1.7


def test_sixteen_slots() -> None:
    limit = GradientLimit(POLICY)
    seen = saturate(limit, lambda n: 0.2 + 3.0 * max(n - 16, 0) / 16, 100)
    late = seen[len(seen) // 2 :]
    assert 12 <= sum(late) / len(late) <= 22


def test_batches_that_cost_less_than_the_tolerance_are_let_grow() -> None:
    limit = GradientLimit(POLICY, base_s=0.2)
    assert saturate(limit, lambda _: 0.39, 10)[-1] > 100
    limit = GradientLimit(POLICY, base_s=0.2)
    assert saturate(limit, lambda _: 0.4, 10)[-1] > 100


def test_worse_conditions_are_learned_by_running_alone() -> None:
    limit = GradientLimit(POLICY)
    saturate(limit, lambda n: 0.2 + 3.0 * max(n - 8, 0) / 8, 40)
    seen = saturate(limit, lambda n: 2.0 + 3.0 * max(n - 8, 0) / 8, 200)
    assert min(seen) == 1
    assert limit.base_s >= 1.0
    assert sum(seen[-500:]) / 500 >= 5


def test_better_conditions_show_at_once() -> None:
    limit = GradientLimit(POLICY, base_s=2.0)
    saturate(limit, lambda _: 0.2, 1)
    assert limit.base_s == 0.2
    limit.sample(0.2, 1, 0.0)
    assert limit.base_s == 0.2, "what was measured before does not count any more"


def test_an_untested_limit_does_not_grow() -> None:
    limit = GradientLimit(POLICY, base_s=0.2)
    for _ in range(100):
        limit.sample(0.2, 1, 0.0)
    assert limit.limit == 4
    limit = GradientLimit(GradientPolicy(initial=8, quick_s=0.0), base_s=0.2)
    for _ in range(100):
        limit.sample(0.2, 3, 0.0)
    assert limit.limit == 8
    for _ in range(4):
        limit.sample(0.2, 4, 0.0)
    assert limit.limit == 16, "half of it is enough"
    for _ in range(8):
        limit.sample(0.2, 16, 0.0)
    assert limit.limit == 32
    for _ in range(100):
        limit.sample(0.2, 15, 0.0)
    assert limit.limit == 32, "who was busy in the last window was not in this one"


def test_a_refusal_is_a_ceiling_for_a_while() -> None:
    limit = GradientLimit(POLICY, base_s=0.2)
    saturate(limit, lambda _: 0.2, 5)
    limit.refused(11, 100.0, draw=0.0)
    assert limit.limit == 10
    assert max(saturate(limit, lambda _: 0.2, 5, 129.9)) == 10
    assert saturate(limit, lambda _: 0.2, 1, 130.0)[-1] > 10
    assert saturate(limit, lambda _: 0.2, 1, 130.0)[-1] < 20
    limit.refused(1, 200.0, draw=1.0)
    assert limit.limit == 1
    assert max(saturate(limit, lambda _: 0.2, 5, 234.0)) == 1
    fresh = GradientLimit(POLICY)
    fresh.refused(3, 0.0, 0.0)
    fresh.sample(0.2, 1, 1.0)
    assert fresh.limit == 2


def test_nobody_is_held_to_a_limit_before_a_queue_was_met() -> None:
    """Kills: quick first tokens taken for a queue; the limit that nobody was held to shrunk, not what ran."""
    limit = GradientLimit(GradientPolicy(quick_s=1.0), base_s=0.01)
    for _ in range(40):
        limit.sample(0.9, 64, 0.0)
    assert not limit.met
    for _ in range(20):
        limit.sample(8.0, 2000, 0.0)
    assert limit.met
    assert 700 <= limit.limit <= 1000
    tight = GradientLimit(GradientPolicy(quick_s=1.0), base_s=0.5)
    for _ in range(2):
        tight.sample(8.0, 64, 0.0)
    assert (tight.met, tight.limit) == (True, 48)
    for _ in range(10):
        tight.sample(8.0, 64, 0.0)
    assert tight.limit == 36
    refused = GradientLimit(POLICY)
    refused.refused(20, 0.0, 0.0)
    assert (refused.met, refused.limit) == (True, 19)
    refused.refused(5, 0.0, 0.0)
    refused.refused(20, 1.0, 0.0)
    assert refused.limit == 4, "now they are held to it"
    slow = GradientLimit(GradientPolicy(quick_s=1.0), base_s=0.25)
    for _ in range(2):
        slow.sample(1.0, 8, 0.0)
    assert slow.met, "as slow as that tells of a queue"


@given(
    st.lists(
        st.tuples(st.floats(1e-6, 1e4), st.integers(1, 5000), st.floats(0, 100), st.booleans()), max_size=300
    )
)
def test_always_within_bounds(samples: list[tuple[float, int, float, bool]]) -> None:
    policy = GradientPolicy(least=2, most=50, quick_s=0.5)
    limit, now_s = GradientLimit(policy), 0.0
    for ttft_s, in_flight, later_s, refused in samples:
        now_s += later_s
        if refused:
            limit.refused(in_flight, now_s, 0.5)
        else:
            limit.sample(ttft_s, in_flight, now_s)
        assert 2 <= limit.limit <= 50
