"""Schedules of chaos: the same for the same seed, and never more than a swarm must bear."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.schedule import BREATH_S, ETCD, INSTANCES, MODELS, SIDECARS, Fault, Kind, plan

SEEDS = st.integers(0, 1_000_000)
SECONDS = st.sampled_from((20.0, 60.0, 300.0))
KINDS = st.sampled_from((tuple(Kind), (Kind.KILL,), (Kind.KILL, Kind.FREEZE)))


def beside(one: Fault, other: Fault) -> bool:
    return one.at_s < other.ends_s + BREATH_S and other.at_s < one.ends_s + BREATH_S


@given(SEEDS, SECONDS, KINDS)
def test_a_seed_is_one_schedule_within_its_time(seed: int, seconds: float, kinds: tuple[Kind, ...]) -> None:
    faults = plan(seed, seconds, kinds)
    assert faults == plan(seed, seconds, kinds)
    assert faults
    assert list(faults) == sorted(faults, key=lambda fault: fault.at_s)
    assert all(0 < fault.at_s < fault.ends_s <= seconds for fault in faults)
    assert {fault.kind for fault in faults} <= set(kinds)


@given(SEEDS, SECONDS, KINDS)
def test_nobody_has_two_faults_at_a_time(seed: int, seconds: float, kinds: tuple[Kind, ...]) -> None:
    for one, other in combinations(plan(seed, seconds, kinds), 2):
        assert not (beside(one, other) and set(one.targets) & set(other.targets))


@given(SEEDS, SECONDS, KINDS)
def test_enough_is_left_alone(seed: int, seconds: float, kinds: tuple[Kind, ...]) -> None:
    faults = plan(seed, seconds, kinds)
    for moment in {fault.at_s for fault in faults}:
        down = {n for f in faults if f.at_s <= moment < f.ends_s + BREATH_S for n in f.targets}
        assert all(set(serving) - down for serving in MODELS.values())
        members = [f for f in faults if f.at_s <= moment < f.ends_s + BREATH_S and set(f.targets) & set(ETCD)]
        assert len(members) <= 1


def test_five_minutes_hold_everything() -> None:
    for seed in range(20):
        faults = plan(seed, 300.0)
        for kind in Kind:
            for group in (ETCD, INSTANCES, SIDECARS):
                assert any(f.kind is kind and set(f.targets) <= set(group) for f in faults), (
                    seed,
                    kind,
                    group,
                )
        assert any(set(fault.targets) == set(INSTANCES) for fault in faults), seed
        assert any(len(set(fault.targets) & set(ETCD)) == 2 for fault in faults), seed
        assert any(fault.for_s > 14 and set(fault.targets) <= set(SIDECARS) for fault in faults), seed


def test_seeds_differ() -> None:
    assert len({plan(seed, 60.0) for seed in range(50)}) == 50
