"""Metrics by OTLP, over real sockets: names, sums, histograms, and collectors that fail."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar.telemetry import instruments
from sidecar.telemetry.assembly import Telemetry
from sidecar.telemetry.policy import MetricsPolicy, TelemetryPolicy
from swarmplane.exposition import family, histogram
from tests.fakes.collector import CollectedMetric, collector
from tests.fakes.records import fill, rejected


def telemetry(url: str, **changes: Any) -> Telemetry:
    values: dict[str, Any] = {
        "endpoint": f"{url}/v1/metrics",
        "timeout_s": 2.0,
        "interval_s": 0.05,
        **changes,
    }
    policy = TelemetryPolicy(metrics=MetricsPolicy(**values))
    return Telemetry(policy, identity={"service.instance.id": "desk"}, version="1.2")


def claim(part: Telemetry, **changes: Any) -> None:
    record = part.ring.claim()
    assert record is not None
    fill(record, **changes)


def newest(metrics: list[CollectedMetric]) -> dict[str, CollectedMetric]:
    return {metric.name: metric for metric in metrics}


async def until_cancelled(part: Telemetry, done: Any) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(part.run())
        await done()
        task.cancel()


async def test_what_prometheus_shows_goes_out_under_the_names_of_opentelemetry() -> None:
    async with collector() as there:
        part = telemetry(there.url, headers={"x-tenant": "t"})

        async def done() -> None:
            for _ in range(3):
                claim(part)
            claim(part, **rejected("saturated", 429))
            await there.wait_for_metrics(lambda seen: "swarmplane.rejected" in newest(seen))

        await until_cancelled(part, done)
    found = newest(there.metrics)
    requests = found["swarmplane.requests"]
    assert (requests.kind, requests.unit) == ("sum", "1")
    assert {
        (point.attributes["swarm.outcome"], point.attributes.get("swarm.node")): point.value
        for point in requests.points
    } == {("completed", "desk"): 3, ("rejected", None): 1}
    duration = found["gen_ai.server.request.duration"]
    assert (duration.kind, duration.unit) == ("histogram", "s")
    (point,) = duration.points
    assert point.attributes == {"swarm.dialect": "openai", "gen_ai.request.model": "tiny"}
    assert (point.count, point.value) == (3, 6.0)
    assert len(point.buckets) == len(point.bounds) + 1
    assert [bound for bound, count in zip(point.bounds, point.buckets, strict=False) if count] == [2.56]
    tokens = {p.attributes["gen_ai.token.type"]: p.value for p in found["swarmplane.tokens"].points}
    assert tokens == {"input": 36, "output": 33}
    assert requests.resource["service.name"] == "swarm-sidecar"
    assert requests.resource["service.instance.id"] == "desk"
    assert there.headers[0]["x-tenant"] == "t"


async def test_what_ended_last_is_told_before_the_process_ends() -> None:
    async with collector() as there:
        part = telemetry(there.url, interval_s=3600.0)

        async def done() -> None:
            await asyncio.sleep(0)
            claim(part)

        await until_cancelled(part, done)
        assert newest(there.metrics)["swarmplane.requests"].points[0].value == 1


async def test_a_collector_that_fails_costs_snapshots_and_is_said_once() -> None:
    async with collector() as there:
        there.status = 400
        part = telemetry(there.url, interval_s=0.02)
        with capture_logs() as logs:

            async def done() -> None:
                async with asyncio.timeout(20):
                    while part.dropped()["metrics"] < 4:  # noqa: ASYNC110 - a thread counts
                        await asyncio.sleep(0.01)
                there.status = 200
                claim(part)
                await there.wait_for_metrics(bool)

            await until_cancelled(part, done)
    said = [(log["event"], log["outlet"]) for log in logs]
    assert said == [
        ("telemetry.delivery_failed", "otlp-metrics"),
        ("telemetry.delivery_recovered", "otlp-metrics"),
    ]
    dropped = newest(there.metrics)["swarmplane.telemetry_dropped"]
    counted = {point.attributes["swarm.kind"]: point.value for point in dropped.points}
    assert counted["metrics"] >= 4


async def test_a_collector_that_hangs_holds_nobody_up() -> None:
    async with collector() as there:
        there.delay_s = 30.0
        part = telemetry(there.url, interval_s=0.02, timeout_s=1.0)

        async def done() -> None:
            async with asyncio.timeout(20):
                while part.dropped()["metrics"] < 3:
                    claim(part)
                    await part.catch_up()
                    await asyncio.sleep(0.01)

        await until_cancelled(part, done)


def test_every_family_has_a_name_and_a_unit() -> None:
    """Names as the conventions write them; the golden page of Prometheus names every family of requests."""
    page = (Path(__file__).parent / "requests.prom").read_text()
    kinds = dict(re.findall(r"# TYPE (\S+) (\S+)", page))
    assert len(kinds) > 8
    for name, kind in kinds.items():
        one = histogram(name, "h", (1.0,), []) if kind == "histogram" else family(name, kind, "h", 1)
        told = instruments.name_of(one)
        assert re.fullmatch(r"(swarmplane|gen_ai)(\.[a-z][a-z_]*)+", told), told
        assert not told.endswith(("_total", "_seconds"))
        assert instruments.unit_of(one) == ("s" if name.endswith("_seconds") else "1")


@pytest.mark.parametrize("bounds", [(), (1.0,), (0.5, 1.0, 2.5)])
def test_histograms_are_read_back_as_they_were_counted(bounds: tuple[float, ...]) -> None:
    rows = [({"model": f"m{n}"}, [n + k for k in range(len(bounds) + 1)], float(n)) for n in range(3)]
    found = list(instruments.distributions(histogram("x_seconds", "h", bounds, rows)))
    assert [(list(one.counts), one.total, one.bounds) for one in found] == [
        (counts, total, bounds) for _, counts, total in rows
    ]
    assert [one.count for one in found] == [sum(counts) for _, counts, _ in rows]
