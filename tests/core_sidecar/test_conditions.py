"""What owners tell, as facts. Docstrings name the mutants seen to be killed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.candidate import UNKNOWN_FACTS, Facts, Warmth
from sidecar.core.conditions import facts_of, host_facts, pressure_of
from sidecar.core.residents import Resident
from swarmplane.conditions import Condition, EndpointCondition
from swarmplane.ids import EndpointId

GB = 10**9
ID = EndpointId("n/b/m")


def test_what_is_told_becomes_facts() -> None:
    """Kills: fields swapped, warmth dropped, kv 0 taken for unknown."""
    condition = Condition(
        20 * GB,
        64 * GB,
        0.9,
        True,
        True,
        endpoints=(EndpointCondition(ID, "cold", 3.0, 4 * GB, 25.0, 0.0),),
    )
    wanted = Facts(
        warmth=Warmth.COLD,
        load_left_s=3.0,
        size_bytes=4 * GB,
        free_bytes=20 * GB,
        memory_bytes=64 * GB,
        pressure=0.9,
        owner_active=True,
        overheated=True,
        kv_used=0.0,
        tokens_per_s=25.0,
    )
    assert facts_of(condition, own=False) == {ID: wanted}
    assert facts_of(condition, own=True)[ID].owner_active is False
    assert host_facts(condition, own=False).pressure == 0.9
    assert host_facts(condition, own=False).size_bytes == 0


def test_how_it_is_loaded() -> None:
    """Kills: fields swapped, a model without a context taken for a loaded one."""
    loaded = EndpointCondition(ID, "loaded", resident_context=8192, expires_at_s=60, vram_bytes=7)
    assert facts_of(Condition(endpoints=(loaded,)), own=False)[ID].resident == Resident(8192, 60, 7)
    bare = EndpointCondition(ID, "loaded", expires_at_s=60)
    assert facts_of(Condition(endpoints=(bare,)), own=False)[ID].resident is None


def test_what_is_unknown_is_no_fact() -> None:
    """Kills: None taken for 0 bytes free, which would exclude; a new value for nothing known."""
    condition = Condition(endpoints=(EndpointCondition(ID),))
    assert facts_of(condition, own=False)[ID] is UNKNOWN_FACTS
    assert facts_of(Condition(endpoints=(EndpointCondition(ID, "melting"),)), own=False)[ID] is UNKNOWN_FACTS
    assert facts_of(Condition(), own=False) == {}
    assert host_facts(Condition(), own=False) is UNKNOWN_FACTS


@pytest.mark.parametrize(
    ("left", "stalled", "wanted"),
    [
        pytest.param(70, None, 0.3, id="the-share-in-use"),
        pytest.param(15, None, 0.8, id="what-is-used-well-is-no-hardship"),
        pytest.param(5, None, 0.9, id="half-of-the-last-tenth-is-gone"),
        pytest.param(-1, None, 1.0, id="nothing-left"),
        pytest.param(70, 0.0, 0.3, id="nobody-waits"),
        pytest.param(70, 0.1, 0.9, id="programs-wait"),
        pytest.param(70, 9.0, 1.0, id="nothing-else-happens"),
        pytest.param(200, None, 0.0, id="more-than-all-is-free"),
    ],
)
def test_pressure(left: int, stalled: float | None, wanted: float) -> None:
    """Kills: page cache taken for hardship, stalls ignored, no limits."""
    assert pressure_of(left, 100, stalled) == pytest.approx(wanted)


def test_without_a_total_nothing_is_known() -> None:
    assert pressure_of(5, 0, 0.5) is None


@given(st.integers(0, 100), st.integers(0, 100), st.floats(0.0, 1.0))
def test_less_memory_is_never_less_pressure(one: int, other: int, stalled: float) -> None:
    """Kills: a step down where the last tenth begins."""
    low, high = min(one, other), max(one, other)
    more, less = pressure_of(low, 100, stalled), pressure_of(high, 100, stalled)
    assert more is not None
    assert less is not None
    assert 0.0 <= less <= more <= 1.0
