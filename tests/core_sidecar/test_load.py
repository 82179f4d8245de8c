from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.load import EndpointLoad, Estimate, Seen, estimate, format_load, parse_load
from swarmplane.ids import EndpointId

E = EndpointId("b/x/m")
REPORT = EndpointLoad(E, {"a": 5, "c": 2}, queued=1, slots=4)


@pytest.mark.parametrize(
    ("seen", "own", "now_s", "expected"),
    [
        pytest.param(None, 3, 100.0, Estimate(3), id="no-report-only-ours-is-known"),
        pytest.param(
            Seen(REPORT, 100.0), 1, 101.0, Estimate(3, 1, 4, known=True), id="our-count-replaces-our-entry"
        ),
        pytest.param(
            Seen(REPORT, 100.0), 9, 103.0, Estimate(11, 1, 4, known=True), id="three-seconds-are-fresh"
        ),
        pytest.param(
            Seen(REPORT, 100.0), 1, 103.1, Estimate(1, slots=4), id="older-is-unknown-but-for-slots"
        ),
    ],
)
def test_estimate(seen: Seen | None, own: int, now_s: float, expected: Estimate) -> None:
    """Kills: adding own to the stale entry, `>=` for `>`, dropping others, keeping a stale queue."""
    assert estimate(seen, own=own, origin="a", now_s=now_s) == expected


origins = st.dictionaries(
    st.text("abcdefgh234567", min_size=1, max_size=13), st.integers(1, 10**6), max_size=5
)


@given(origins, st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_header_is_read_back_as_written(in_flight: dict[str, int], queued: int, slots: int) -> None:
    """Kills: fields swapped, one origin only."""
    load = EndpointLoad(E, in_flight, queued, slots)
    assert parse_load(E, format_load(load)) == load


def test_zero_entries_are_left_out() -> None:
    assert format_load(EndpointLoad(E, {"a": 0, "b": 1}, 0, 2)) == "0;2;b=1"


@pytest.mark.parametrize(
    "text",
    ["", ";", ";;", "1;2", "1;2;a", "1;2;a=", "1;2;a=-1", "x;2;", "1;y;", "1;2;a=1;", "1;2;a=²",
     "1;2;" + "a=1," * 20_000, "1;2;a=12345678901", "1;99999999999;"],
)  # fmt: skip
def test_malformed_headers_are_no_report(text: str) -> None:
    """Kills: int() of superscripts and signs, unbounded numbers, missing field count."""
    assert parse_load(E, text) is None


@given(st.text())
def test_no_header_raises(text: str) -> None:
    parse_load(E, text)
