"""The console's figures as text."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import urllib.error
import urllib.request
from functools import partial

import pytest

from controlplane.console.metrics import Figures, render
from controlplane.console.server import Console
from controlplane.services.measured_store import BOUNDS_S, Durations

GOLDEN = """\
# HELP swarmplane_build_info Always 1; the label says which software this is.
# TYPE swarmplane_build_info gauge
swarmplane_build_info{version="1\\"2"} 1
# HELP swarmplane_nodes Enrolled nodes, by state.
# TYPE swarmplane_nodes gauge
swarmplane_nodes{state="live"} 2
swarmplane_nodes{state="suspect"} 0
swarmplane_nodes{state="gone"} 1
swarmplane_nodes{state="never"} 0
# HELP swarmplane_leader 1 while this instance decides.
# TYPE swarmplane_leader gauge
swarmplane_leader 1
# HELP swarmplane_streams Sidecars connected to this instance.
# TYPE swarmplane_streams gauge
swarmplane_streams 2
# HELP swarmplane_pushes_total Route updates sent to sidecars.
# TYPE swarmplane_pushes_total counter
swarmplane_pushes_total 7
# HELP swarmplane_nacks_total Updates that sidecars refused.
# TYPE swarmplane_nacks_total counter
swarmplane_nacks_total 3
# HELP swarmplane_push_seconds From a route update's departure to its acknowledgement by the sidecar.
# TYPE swarmplane_push_seconds histogram
# UNIT swarmplane_push_seconds seconds
swarmplane_push_seconds_sum 0.002
swarmplane_push_seconds_count 1
# HELP swarmplane_watch_revision Revision of the store that this instance decides by.
# TYPE swarmplane_watch_revision gauge
swarmplane_watch_revision 41
# HELP swarmplane_store_seconds Duration of calls of the store, by operation.
# TYPE swarmplane_store_seconds histogram
# UNIT swarmplane_store_seconds seconds
# HELP swarmplane_watch_lag_revisions Revisions of the store that this instance has not seen yet.
# TYPE swarmplane_watch_lag_revisions gauge
swarmplane_watch_lag_revisions 1
"""


def test_metrics_read_as_prometheus_reads_them() -> None:
    figures = Figures(
        '1"2', {"live": 2, "gone": 1}, leader=True, streams=2, nacks=3, pushes=7, revision=41, behind=1
    )
    figures.answered.record(0.002)
    assert re.sub(r"(?m)^swarmplane_push_seconds_bucket.*\n", "", render(figures)) == GOLDEN


def test_a_store_that_is_away_has_no_lag() -> None:
    assert "swarmplane_watch_lag_revisions" not in render(Figures("1"))


def test_a_histogram_counts_up_to_its_end() -> None:
    durations = Durations()
    for seconds in (0.0001, 0.0005, 0.02, 99.0):
        durations.record(seconds)
    lines = render(Figures("1", store={"get": durations})).splitlines()
    lines = [line for line in lines if line.startswith("swarmplane_store_seconds")]
    buckets = [line for line in lines if "_bucket{" in line]
    assert buckets[0] == 'swarmplane_store_seconds_bucket{op="get",le="0.0005"} 2'
    assert buckets[-1] == 'swarmplane_store_seconds_bucket{op="get",le="+Inf"} 4'
    assert len(buckets) == len(BOUNDS_S) + 1
    assert lines[-2:] == [
        'swarmplane_store_seconds_sum{op="get"} 99.0206',
        'swarmplane_store_seconds_count{op="get"} 4',
    ]


def _get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with opener.open(asked, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize(("reason", "status"), [("", 200), ("the store is away", 503)])
async def test_readiness_gives_its_reason(reason: str, status: int) -> None:
    async def unready() -> str:
        return reason

    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    port = bound.getsockname()[1]

    async def figures() -> Figures:
        return Figures("1")

    async def store() -> dict[str, object]:
        return {"kind": "embedded"}

    async with Console(figures, unready, store).serving(bound):
        shown, page = await asyncio.to_thread(_get, port, "/store")
        assert (shown, json.loads(page)) == (200, {"schema": "controlplane.store/v1", "kind": "embedded"})
        for foreign in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Forwarded": "for=1"}):
            refused = await asyncio.to_thread(partial(_get, port, "/store", **foreign))
            assert refused[0] == 403, "a page in a browser, or a proxy, is not this machine"
        got, body = await asyncio.to_thread(_get, port, "/readyz")
        assert (got, json.loads(body).get("reason", "")) == (status, reason)
        assert await asyncio.to_thread(_get, port, "/healthz") == (200, b'{"status": "ok"}')
        assert (await asyncio.to_thread(_get, port, "/metrics"))[0] == 200
        assert (await asyncio.to_thread(_get, port, "/other"))[0] == 404
