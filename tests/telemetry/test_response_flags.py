from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from sidecar.telemetry import record as records
from sidecar.telemetry.flags import response_flags
from sidecar.telemetry.record import Record
from swarmplane.errors import Code
from tests.fakes.records import fill, rejected


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        pytest.param({}, "-", id="all-is-well"),
        pytest.param({"failure": "connect_failed", "attempts": 2}, "-", id="made-good-elsewhere"),
        pytest.param({"outcome": "cancelled", "status": 0}, "DC", id="client-left"),
        pytest.param(
            {"outcome": "cancelled", "failure": "client_stalled"}, "SI", id="client-stopped-reading"
        ),
        pytest.param({"outcome": "broken", "failure": "connection_lost"}, "UC", id="lost-in-the-middle"),
        pytest.param({"outcome": "broken", "failure": "stalled"}, "SI", id="went-silent"),
        pytest.param({"outcome": "broken", "failure": "deadline"}, "DT", id="time-was-over"),
        pytest.param({"outcome": "broken", "failure": "stopped"}, "LR", id="we-stopped"),
        pytest.param({"outcome": "broken"}, "UC", id="broken-for-no-known-reason"),
        pytest.param(rejected("model_not_found", 404), "NR", id="no-route"),
        pytest.param(rejected("model_loading", 503), "UH", id="loading"),
        pytest.param(rejected("saturated", 429, attempts=3), "UO", id="full"),
        pytest.param(rejected("rate_limit_exceeded", 429), "RL", id="key-limit"),
        pytest.param(rejected("invalid_api_key", 401), "UAEX", id="key-is-wrong"),
        pytest.param(
            rejected("upstream_failed", 502, attempts=3, failure="connect_failed"), "UF,URX", id="gave-up"
        ),
        pytest.param(
            rejected("upstream_failed", 502, attempts=1, failure="truncated"), "UR", id="one-try-cut-off"
        ),
        pytest.param(
            rejected("upstream_timeout", 504, attempts=1, failure="first_byte_timeout"), "UT", id="late"
        ),
        pytest.param(rejected("upstream_timeout", 504, failure="deadline"), "DT", id="deadline"),
        pytest.param(rejected("invalid_request", 400), "-", id="client-mistake"),
        pytest.param(rejected("loop", 508), "IH", id="loop"),
        pytest.param(rejected("invalid_request", 400, failure="malformed"), "DPE", id="malformed"),
        pytest.param(rejected("request_too_large", 413), "DPE", id="too-large"),
        pytest.param(rejected("request_timeout", 408), "SI", id="client-too-slow"),
        pytest.param(rejected("unavailable", 503), "OM", id="too-many-bodies-held"),
        pytest.param(rejected("internal", 500), "LR", id="our-own-fault"),
        pytest.param(rejected("forbidden", 403), "UAEX", id="foreign-origin"),
        pytest.param(rejected("draining", 503, failure="stopped"), "UH,LR", id="stopped-before-an-answer"),
    ],
)
def test_flags(changes: dict[str, Any], flags: str) -> None:
    assert response_flags(fill(Record(), **changes)) == flags


def test_any_end_has_flags() -> None:
    for code, failure, outcome in product(Code, ["", *records.FAILURES], records.OUTCOMES):
        record = fill(Record(), outcome=outcome, code=code.slug, failure=failure, attempts=2)
        flags = response_flags(record)
        assert flags == "-" or all(flag.isupper() and flag.isalpha() for flag in flags.split(","))
