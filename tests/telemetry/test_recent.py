"""What ended lately, as ``/traces`` shows it.

Mutants that were tried and are killed: the oldest first, rows that change when their record is used again, no
bound, answers kept, a flood of usual requests that hides one that failed, attempts of a sampled one left out.
"""

from __future__ import annotations

import pytest

from sidecar.telemetry.recent import A_TURN, Recent
from sidecar.telemetry.record import Record
from sidecar.telemetry.trace import Sampling, Tracing
from sidecar.telemetry.usage import NOTHING, Usage
from tests.fakes.records import TAIL, fill, rejected

WALL_S = 1_700_000_000.0


def ids(recent: Recent, limit: int = 99) -> list[str]:
    return [one["request_id"] for one in recent.documents(limit)]


def test_the_last_ones_newest_first_and_no_more_than_are_asked_for() -> None:
    recent, record = Recent(kept=4), Record()
    assert ids(recent) == []
    for number in range(6):
        recent.take(fill(record, request_id=b"r%d" % number, ended_s=102.0 + number), NOTHING, WALL_S)
    assert ids(recent) == ["r5", "r4", "r3", "r2"]
    assert ids(recent, 2) == ["r5", "r4"]
    assert ids(recent, 0) == []


def test_a_request_is_told_as_the_access_log_tells_it_and_its_endpoint() -> None:
    recent, record = Recent(), Record()
    recent.take(fill(record, failure="status", attempts=2, retries=1), Usage(12, 11), WALL_S)
    fill(record, model="another")
    (found,) = recent.documents(9)
    assert found["time"] == "2023-11-14T22:15:00.000Z"
    assert (found["model"], found["input_tokens"], found["output_tokens"]) == ("tiny", 12, 11)
    assert (found["attempts"], found["retries"], found["hedges"]) == (2, 1, 0)
    assert (found["endpoint"], found["failure"], found["steps"]) == ("desk/srv/tiny", "status", None)


def test_no_answer_is_kept() -> None:
    recent = Recent(kept=1)
    recent.take(fill(Record(), tail=TAIL, opening=b"secret"), NOTHING, WALL_S)
    (kept,) = recent._ended
    assert not {TAIL, b"secret"} & {value for value in kept.values if isinstance(value, bytes)}
    assert (kept.record().tail, kept.record().opening) == (b"", b"")


def test_the_steps_of_a_sampled_request() -> None:
    trace = Tracing(Sampling(), lambda bits: bits).begin(b"", b"", hop=False)
    assert trace is not None
    trace.attempt("bee", "bee/srv/tiny", local=False, now_s=100.25)
    trace.attempt_ended(100.5, status=503, failure="status")
    trace.attempt("desk", "desk/srv/tiny", local=True, now_s=100.75)
    recent = Recent()
    recent.take(fill(Record(), trace=trace, attempts=2), NOTHING, WALL_S)
    (found,) = recent.documents(1)
    lost = {"node": "bee", "endpoint": "bee/srv/tiny", "local": False, "began_ms": 250.0, "took_ms": 250.0}
    won = {"node": "desk", "endpoint": "desk/srv/tiny", "local": True, "began_ms": 750.0, "took_ms": 1250.0}
    assert found["steps"] == [
        {**lost, "status": 503, "failure": "status"},
        {**won, "status": None, "failure": None},
    ]
    assert found["trace_id"] == f"{trace.context.trace_id:032x}"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(rejected("saturated", 429), id="rejected"),
        pytest.param({"outcome": "cancelled"}, id="cancelled"),
        pytest.param({"attempts": 2}, id="asked-twice"),
    ],
)
def test_a_flood_of_usual_ones_hides_nothing(changes: dict[str, object]) -> None:
    recent, record = Recent(), Record()
    for _ in range(1000):
        recent.take(fill(record, request_id=b"usual"), NOTHING, WALL_S)
    recent.take(fill(record, request_id=b"failed", **changes), NOTHING, WALL_S)
    assert ids(recent) == ["failed", *["usual"] * A_TURN]
    recent.take(fill(record, request_id=b"later", ended_s=102.1), NOTHING, WALL_S)
    assert ids(recent, 1) == ["later"]
