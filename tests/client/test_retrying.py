"""When a failed call is tried again."""

from __future__ import annotations

import pytest

from swarmplane.client import Retry
from swarmplane.client.retrying import stale_s
from swarmplane.errors import Code, ConflictError, SwarmError, UnavailableError

RETRY = Retry(timeout_s=10, rounds=2, base_s=0.1, cap_s=0.3)
DOWN = UnavailableError("down")


@pytest.mark.parametrize(
    ("error", "tries", "addresses", "left_s", "delay_s"),
    [
        pytest.param(DOWN, 1, 3, 9, 0.0, id="the-next-address-is-asked-at-once"),
        pytest.param(DOWN, 3, 3, 9, 0.1, id="after-a-round-it-waits"),
        pytest.param(DOWN, 6, 3, 9, None, id="after-all-rounds-it-gives-up"),
        pytest.param(DOWN, 1, 1, 9, 0.1, id="one-address-is-a-round"),
        pytest.param(DOWN, 1, 1, 0.05, None, id="no-time-to-wait"),
        pytest.param(DOWN, 1, 3, 0, None, id="no-time-left"),
        pytest.param(ConflictError("x"), 1, 3, 9, None, id="a-refusal-of-the-swarm-is-final"),
        pytest.param(SwarmError("x", code=Code.DRAINING), 1, 3, 9, 0.0, id="one-that-leaves-is-left"),
    ],
)
def test_delay(error: SwarmError, tries: int, addresses: int, left_s: float, delay_s: float | None) -> None:
    assert RETRY.delay_s(error, tries, addresses, left_s, 1.0) == delay_s


def test_waits_are_jittered_and_bounded() -> None:
    long = Retry(rounds=2000, base_s=0.1, cap_s=0.3)
    waits = [long.delay_s(DOWN, tries, 1, 99, 1.0) for tries in (1, 2, 3, 1500)]
    assert waits == [0.1, 0.2, 0.3, 0.3]
    assert long.delay_s(DOWN, 3, 1, 99, 0.0) == 0.0
    assert [round(long.pause_s(failures, 0.5), 3) for failures in (1, 2, 3, 2000)] == [0.05, 0.1, 0.15, 0.15]


@pytest.mark.parametrize(
    ("metadata", "age_s"),
    [
        (None, 0),
        ((("k", "1.5"),), 1.5),
        ((("k", "x"),), 0),
        ((("k", b"1"), ("j", "2")), 0),
        ((("k", "-1"),), 0),
    ],
)
def test_the_age_of_an_answer(metadata: tuple[tuple[str, str | bytes], ...] | None, age_s: float) -> None:
    assert stale_s(metadata, "k") == age_s
