"""Spans over real sockets: one trace through two sidecars and a backend, and collectors that fail."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar.telemetry.assembly import Telemetry
from sidecar.telemetry.context import parse
from sidecar.telemetry.policy import AccessLogPolicy, ExportPolicy, TelemetryPolicy
from sidecar.telemetry.record import Record
from sidecar.telemetry.trace import Sampling, Trace
from tests.fakes.collector import Collector, collector
from tests.fakes.records import fill, rejected

SERVER, CLIENT = 2, 3


def policy(url: str, **changes: Any) -> TelemetryPolicy:
    values: dict[str, Any] = {"endpoint": f"{url}/v1/traces", "timeout_s": 2.0, "delay_s": 0.02, **changes}
    return TelemetryPolicy(export=ExportPolicy(Sampling(), **values))


def telemetry(given: TelemetryPolicy, node: str = "desk") -> Telemetry:
    return Telemetry(
        given, identity={"service.instance.id": node}, version="1.2", draw=random.Random(node).getrandbits
    )


@asynccontextmanager
async def running(*parts: Telemetry) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part.run()) for part in parts]
        await asyncio.sleep(0)
        yield
        for task in tasks:
            task.cancel()


def claim(part: Telemetry, **changes: Any) -> Record:
    record = part.ring.claim()
    assert record is not None
    return fill(record, **changes)


def headers(lines: bytes) -> dict[str, bytes]:
    pairs = (line.split(b": ", 1) for line in lines.split(b"\r\n") if line)
    return {name.decode(): value for name, value in pairs}


def sampled(part: Telemetry, parent: dict[str, bytes], *, hop: bool) -> Trace:
    trace = part.tracing.begin(parent.get("traceparent", b""), parent.get("tracestate", b""), hop=hop)
    assert trace is not None
    return trace


def request(part: Telemetry) -> None:
    trace = sampled(part, {}, hop=False)
    trace.attempt("desk", "desk/srv/tiny", local=True, now_s=100.1)
    claim(part, trace=trace)


async def dropped(part: Telemetry, spans: int) -> None:
    async with asyncio.timeout(20):
        while part.dropped()["span"] < spans:  # noqa: ASYNC110 - a thread counts
            await asyncio.sleep(0.01)


@pytest.fixture
async def there() -> AsyncIterator[Collector]:
    async with collector() as made:
        yield made


async def test_one_trace_goes_through_both_sidecars_to_the_backend(there: Collector) -> None:
    here, owner = telemetry(policy(there.url), "desk"), telemetry(policy(there.url), "bee")
    async with running(here, owner):
        client = {
            "traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "tracestate": b"vendor=1",
        }
        entry = sampled(here, client, hop=False)
        entry.attempt("cat", "cat/srv/tiny", local=False, now_s=100.1)
        entry.attempt_ended(100.2, failure="connect_failed")
        crossing = headers(entry.attempt("bee", "bee/srv/tiny", local=False, now_s=100.3))
        inner = sampled(owner, crossing, hop=True)
        backend = headers(inner.attempt("bee", "bee/srv/tiny", local=True, now_s=200.5))
        claim(owner, trace=inner, origin="desk", node="bee", started_s=200.4, ended_s=201.9)
        claim(here, trace=entry, node="bee", backend="", attempts=2, retries=1, opening=b"")
        spans = {(span.resource["service.instance.id"], span.name): span for span in await there.wait(5)}
    own = spans["desk", "POST /v1/chat/completions"]
    failed, hop = spans["desk", "hop cat"], spans["desk", "hop bee"]
    owned, inference = spans["bee", "POST /v1/chat/completions"], spans["bee", "chat tiny"]
    assert {span.trace_id for span in there.spans} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert own.parent_id == "00f067aa0ba902b7"
    assert (failed.parent_id, hop.parent_id) == (own.span_id, own.span_id)
    assert owned.parent_id == hop.span_id
    assert inference.parent_id == owned.span_id
    reached = parse(backend["traceparent"], backend["tracestate"])
    assert reached is not None
    assert f"{reached.span_id:016x}" == inference.span_id
    assert (reached.sampled, reached.state) == (True, b"vendor=1")
    assert [own.kind, hop.kind, owned.kind, inference.kind] == [SERVER, CLIENT, SERVER, CLIENT]
    assert (failed.failed, failed.attributes["error.type"]) == (True, "connect_failed")
    assert not own.failed
    assert own.end_ns - own.start_ns == 2_000_000_000
    assert own.state == "vendor=1"
    assert own.resource["service.name"] == "swarm-sidecar"
    assert inference.attributes == {
        "swarm.node": "bee",
        "swarm.endpoint": "bee/srv/tiny",
        "swarm.attempt": 1,
        "server.address": "bee",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "tiny",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 11,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": pytest.approx(101.0 - 200.5),
    }
    assert not [name for name in {**own.attributes, **hop.attributes} if name.startswith("gen_ai.")]


async def test_an_unsampled_request_has_no_span(there: Collector) -> None:
    part = telemetry(policy(there.url))
    unsampled = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    async with running(part):
        assert part.tracing.begin(unsampled, b"", hop=False) is None
        claim(part)
        request(part)
        assert len(await there.wait(2)) == 2


async def test_a_rejected_request_is_an_error_with_its_flags(there: Collector) -> None:
    part = telemetry(policy(there.url, headers={"x-tenant": "t"}))
    async with running(part):
        trace = sampled(part, {}, hop=False)
        claim(part, trace=trace, **rejected("no_replica", 503, attempts=0))
        (span,) = await there.wait(1)
    assert span.failed
    assert span.attributes["error.type"] == "no_replica"
    assert span.attributes["swarm.flags"] == ["UH"]
    assert span.parent_id == ""
    assert there.headers[0]["x-tenant"] == "t"


async def test_an_attempt_that_broke_off_gave_no_answer(there: Collector) -> None:
    part = telemetry(policy(there.url))
    async with running(part):
        trace = sampled(part, {}, hop=False)
        trace.attempt("desk", "desk/srv/tiny", local=True, now_s=100.1)
        trace.attempt_ended(101.5, failure="connection_lost")
        claim(part, trace=trace, outcome="broken", failure="connection_lost")
        own, attempt = await there.wait(2)
    assert (own.failed, attempt.failed) == (True, True)
    assert attempt.attributes["error.type"] == "connection_lost"
    assert "gen_ai.response.model" not in attempt.attributes
    assert own.attributes["swarm.flags"] == ["UC"]


async def test_spans_that_wait_when_the_process_stops_still_get_out(there: Collector) -> None:
    part = telemetry(policy(there.url, delay_s=30.0))
    async with running(part):
        request(part)
    assert len(there.spans) == 2
    assert part.dropped()["span"] == 0


@pytest.mark.parametrize("status", [500, 400])
async def test_a_collector_that_refuses_costs_spans_and_one_line(there: Collector, status: int) -> None:
    there.status = status
    part = telemetry(policy(there.url, batch_spans=2))
    with capture_logs() as logs:
        async with running(part):
            for _ in range(3):
                request(part)
            await dropped(part, 6)
            there.status = 200
            request(part)
            await there.wait(2)
    events = [entry["event"] for entry in logs]
    assert events == ["telemetry.delivery_failed", "telemetry.delivery_recovered"]
    assert str(status) in logs[0]["reason"]
    assert dict(part.dropped()) == {"record": 0, "access_log": 0, "span": 6, "metrics": 0}


async def test_a_collector_that_is_down_or_hangs_never_holds_up_a_request(there: Collector) -> None:
    there.delay_s = 60.0
    parts = (
        telemetry(policy("http://127.0.0.1:9", most_spans=4, timeout_s=0.2), "down"),
        telemetry(policy(there.url, most_spans=4, timeout_s=0.2), "hangs"),
    )
    with capture_logs() as logs:
        async with asyncio.timeout(30), running(*parts):
            for _ in range(50):
                for part in parts:
                    request(part)
                await asyncio.sleep(0.01)
            for part in parts:
                await part.catch_up()
                while part.dropped()["span"] < 90:
                    request(part)
                    await asyncio.sleep(0.01)
    assert [entry["event"] for entry in logs] == ["telemetry.delivery_failed"] * 2
    for part in parts:
        text = str(part.families())
        assert "swarmplane_telemetry_dropped_total" in text


async def test_lines_go_to_the_file_and_trouble_with_it_is_counted(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_bytes(b"")
    good = telemetry(TelemetryPolicy(access=AccessLogPolicy(str(tmp_path / "a.log"), 1 << 20, 2)))
    bad = telemetry(TelemetryPolicy(access=AccessLogPolicy(str(tmp_path / "blocked" / "a.log"), 1 << 20, 2)))
    with capture_logs() as logs:
        async with running(good, bad):
            for _ in range(5):
                claim(good)
                claim(bad)
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["completed"] * 5
    assert (good.dropped()["access_log"], bad.dropped()["access_log"]) == (0, 5)
    assert [entry["event"] for entry in logs] == ["telemetry.delivery_failed"]


def test_the_sdk_is_not_imported_until_something_is_exported() -> None:
    program = (
        "import sys; from sidecar.telemetry.assembly import Telemetry; "
        "from sidecar.telemetry.policy import TelemetryPolicy; "
        "Telemetry(TelemetryPolicy(), identity={}, version='1'); "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.strip() == "[]"
