from __future__ import annotations

from sidecar.dataplane.counters import Counters
from sidecar.process.counters import counter_families
from swarmplane.errors import Code
from swarmplane.exposition import render

GOLDEN = """\
# HELP swarmplane_requests_total Requests whose answer ended, by outcome.
# TYPE swarmplane_requests_total counter
swarmplane_requests_total{outcome="completed"} 5
swarmplane_requests_total{outcome="cancelled"} 2
swarmplane_requests_total{outcome="broken"} 1
swarmplane_requests_total{outcome="rejected"} 4
# HELP swarmplane_attempts_total Attempts: first, retry of a failure, move from a full endpoint, or replay.
# TYPE swarmplane_attempts_total counter
swarmplane_attempts_total{reason="first"} 8
swarmplane_attempts_total{reason="retry"} 3
swarmplane_attempts_total{reason="move"} 2
swarmplane_attempts_total{reason="replay"} 1
# HELP swarmplane_rejected_total Requests this sidecar answered with an error of its own, by code.
# TYPE swarmplane_rejected_total counter
swarmplane_rejected_total{code="model_not_found"} 4
# HELP swarmplane_cancelled_total Requests whose client left before the answer was whole.
# TYPE swarmplane_cancelled_total counter
swarmplane_cancelled_total 2
"""


def test_the_data_planes_counters_are_exactly_these() -> None:
    counters = Counters(completed=5, cancelled=2, broken=1, attempts=14, retries=3, moves=2, replays=1)
    counters.rejected[Code.MODEL_NOT_FOUND] = 4
    assert render(counter_families(counters)) == GOLDEN
