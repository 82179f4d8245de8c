"""What the data plane tells telemetry: traces across the hop, figures, lines of the access log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.telemetry.assembly import Telemetry
from sidecar.telemetry.policy import AccessLogPolicy, ExportPolicy, TelemetryPolicy
from sidecar.telemetry.trace import Sampling
from swarmplane.exposition import render
from tests.fakes.backend import Behaviour, FakeBackend, running_backend
from tests.fakes.collector import CollectedSpan, Collector, collector
from tests.fakes.dataplane import (
    CHAT,
    STREAM,
    Client,
    Node,
    Served,
    TestSwarm,
    client,
    eventually,
    running_node,
)

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + "0"


@contextlib.asynccontextmanager
async def running(name: str, policy: TelemetryPolicy) -> AsyncIterator[Telemetry]:
    telemetry = Telemetry(policy, identity={"service.instance.id": name}, version="1")
    task = asyncio.get_running_loop().create_task(telemetry.run())
    try:
        yield telemetry
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def exporting(one: Collector, ratio: float = 1.0) -> TelemetryPolicy:
    return TelemetryPolicy(
        export=ExportPolicy(Sampling(ratio=ratio), endpoint=f"{one.url}/v1/traces", delay_s=0.05)
    )


@pytest.fixture
async def spans() -> AsyncIterator[Collector]:
    async with collector() as one:
        yield one


@contextlib.asynccontextmanager
async def traced_pair(
    swarm: TestSwarm, backend: FakeBackend, a_policy: TelemetryPolicy, b_policy: TelemetryPolicy
) -> AsyncIterator[tuple[Node, Node]]:
    async with (
        running("a", a_policy) as ta,
        running("b", b_policy) as tb,
        running_node("a", swarm=swarm, telemetry=ta) as a,
        running_node("b", {"one": Served(backend)}, swarm=swarm, telemetry=tb) as b,
    ):
        swarm.connect()
        yield a, b


def by_instance(found: list[CollectedSpan]) -> dict[tuple[str, str], list[CollectedSpan]]:
    sorted_out: dict[tuple[str, str], list[CollectedSpan]] = {}
    for span in found:
        key = (span.resource["service.instance.id"], "server" if span.kind == 2 else "client")
        sorted_out.setdefault(key, []).append(span)
    return sorted_out


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
async def test_one_trace_from_a_over_b_to_the_backend(
    swarm: TestSwarm, backend: FakeBackend, spans: Collector, body: dict[str, Any]
) -> None:
    policy = exporting(spans)
    async with traced_pair(swarm, backend, policy, policy) as (a, _), client(a) as http:
        answer = await http.ask(body, traceparent=PARENT, tracestate="vendor=1", x_request_id="r1")
        assert answer.status == 200
        found = await spans.wait(4)
    assert {span.trace_id for span in found} == {PARENT[3:35]}
    of = {key: only[0] for key, only in by_instance(found).items()}
    entry, hop, owner, asked = (
        of["a", "server"], of["a", "client"], of["b", "server"], of["b", "client"],
    )  # fmt: skip
    assert entry.parent_id == PARENT[36:52]
    assert (hop.parent_id, owner.parent_id, asked.parent_id) == (
        entry.span_id,
        hop.span_id,
        owner.span_id,
    )
    assert backend.asked[0].header("traceparent") == f"00-{PARENT[3:35]}-{asked.span_id}-01"
    assert backend.asked[0].header("tracestate") == "vendor=1"
    assert {span.state for span in found} == {"vendor=1"}
    assert hop.attributes["swarm.node"] == "b"
    assert asked.attributes["gen_ai.request.model"] == "m1"
    assert entry.attributes["swarm.request_id"] == owner.attributes["swarm.request_id"] == "r1"
    assert owner.attributes["swarm.origin"] == a.id
    assert not any(span.failed for span in found)


async def test_a_request_without_context_begins_a_trace(
    swarm: TestSwarm, backend: FakeBackend, spans: Collector
) -> None:
    policy = exporting(spans)
    async with traced_pair(swarm, backend, policy, policy) as (a, _), client(a) as http:
        for _ in range(3):
            await http.ask(CHAT)
        found = await spans.wait(12)
    assert len({span.trace_id for span in found}) == 3
    assert {len(group) for group in by_instance(found).values()} == {3}


async def test_who_samples_decides_for_the_owner_too(
    swarm: TestSwarm, backend: FakeBackend, spans: Collector
) -> None:
    """A keeps nothing of its own accord: B, which keeps everything, begins no trace of A's requests."""
    async with (
        traced_pair(swarm, backend, exporting(spans, ratio=0.0), exporting(spans)) as (a, b),
        client(a) as http,
        client(b) as direct,
    ):
        await http.ask(CHAT)
        assert backend.asked[-1].header("traceparent") is None
        await http.ask(CHAT, traceparent=UNSAMPLED, tracestate="x=1")
        assert backend.asked[-1].header("traceparent") == UNSAMPLED
        assert backend.asked[-1].header("tracestate") == "x=1"
        await direct.ask(CHAT)
        found = await spans.wait(2)
    assert set(by_instance(found)) == {("b", "server"), ("b", "client")}
    assert len(found) == 2


async def test_contexts_differ_on_one_connection(http: Client, backend: FakeBackend) -> None:
    """Heads that differ in nothing else are recognised, and each keeps its own context."""
    parents = [f"00-{number:032x}-{number:016x}-00" for number in range(1, 6)]
    for parent in parents:
        await http.ask(CHAT, traceparent=parent, x_request_id="r")
    assert [seen.header("traceparent") for seen in backend.asked] == parents
    await http.ask(CHAT, traceparent="nonsense", x_request_id="r")
    assert backend.asked[-1].header("traceparent") is None


async def test_a_failed_attempt_is_a_span_of_its_own(spans: Collector, backend: FakeBackend) -> None:
    async with (
        running_backend(default=Behaviour(reset_at=0)) as broken,
        running("solo", exporting(spans)) as telemetry,
        running_node(served={"one": Served(broken), "two": Served(backend)}, telemetry=telemetry) as node,
        client(node) as http,
    ):
        answer = await http.ask(CHAT)
        while answer.headers["x-swarm-attempts"] == "1":
            answer = await http.ask(CHAT)
        found = await spans.wait(3)
    failed = [span for span in found if span.failed]
    assert [span.attributes["error.type"] for span in failed] == ["connection_lost"]
    assert failed[0].attributes["swarm.attempt"] == 1


# -- figures ----------------------------------------------------------------------------------------------


def sample(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(name)]


async def shown(telemetry: Telemetry) -> str:
    await telemetry.catch_up()
    return render(list(telemetry.families()))


async def test_requests_are_counted_where_they_entered(swarm: TestSwarm, backend: FakeBackend) -> None:
    async with (
        running("a", TelemetryPolicy()) as ta,
        running("b", TelemetryPolicy()) as tb,
        running_node("a", swarm=swarm, telemetry=ta) as a,
        running_node("b", {"one": Served(backend)}, swarm=swarm, telemetry=tb),
        client(a) as http,
    ):
        swarm.connect()
        await http.ask(CHAT)
        await http.ask(STREAM)
        await http.ask({**CHAT, "model": "made-up"})
        await http.get("/v1/models")
        at_a, at_b = await shown(ta), await shown(tb)
    total = "swarmplane_requests_total"
    assert sample(at_a, total) == [
        total + '{dialect="openai",model="",node="",outcome="completed"} 1',
        total + '{dialect="openai",model="",node="",outcome="rejected"} 1',
        total + '{dialect="openai",model="m1",node="b",outcome="completed"} 2',
    ]
    assert sample(at_a, "swarmplane_rejected_total") == [
        'swarmplane_rejected_total{code="model_not_found"} 1'
    ]
    assert 'swarmplane_attempts_total{reason="first"} 2' in at_a
    ttft = "swarmplane_time_to_first_token_seconds_count"
    assert sample(at_a, ttft) == [ttft + '{dialect="openai",model="m1"} 1']
    assert sample(at_a, "swarmplane_request_duration_seconds_count")[-1].endswith('model="m1"} 2')
    assert not sample(at_b, total), "a hop is no request of a client"
    hops = "swarmplane_hop_requests_total"
    assert sample(at_b, hops) == [hops + '{model="m1",origin="aid",outcome="completed",code=""} 2']


async def test_what_answers_state_is_counted(backend: FakeBackend) -> None:
    usage = {"usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}}
    backend.default = Behaviour(body=json.dumps({"id": "x", "choices": [], **usage}))
    async with (
        running("solo", TelemetryPolicy()) as telemetry,
        running_node(served={"one": Served(backend)}, telemetry=telemetry) as node,
        client(node) as http,
    ):
        for _ in range(3):
            await http.ask(CHAT)
        text = await shown(telemetry)
    assert 'swarmplane_tokens_total{direction="input",model="m1"} 33' in text
    assert 'swarmplane_tokens_total{direction="output",model="m1"} 9' in text


# -- the access log ---------------------------------------------------------------------------------------


async def test_every_request_leaves_a_line(tmp_path: Path, backend: FakeBackend) -> None:
    log = tmp_path / "access.log"
    access = AccessLogPolicy(str(log), max_bytes=1_000_000, files=2, delay_s=0.02)
    async with (
        running("solo", TelemetryPolicy(access=access)) as telemetry,
        running_node(served={"one": Served(backend)}, telemetry=telemetry) as node,
    ):
        async with client(node) as http:
            await http.ask(CHAT, x_request_id="plain", x_swarm_priority="bulk")
            await http.ask(STREAM, x_request_id="stream")
            await http.ask({**CHAT, "model": "made-up"}, x_request_id="unknown")
            await http.get("/healthz", x_request_id="health")
            await http.ask(STREAM, x_request_id="cut", x_fake="chunks=10;reset_at=900")
        async with client(node) as http:
            http.post(STREAM, x_request_id="left", x_fake="chunks=1000;interval_s=0.02")
            await http.head()
        async with client(node) as http:
            http.send(b"GET / HTTP/1.1\r\nx y\r\n\r\n")
            await http.answer()
        await eventually(lambda: not node.plane.active)
    lines = {line["request_id"]: line for line in map(json.loads, log.read_text().splitlines())}
    told = {
        name: (line["status"], line["outcome"], line["flags"], line["streamed"])
        for name, line in lines.items()
    }
    malformed = next(
        name for name in told if name not in {"plain", "stream", "unknown", "health", "cut", "left"}
    )
    assert told == {
        "plain": (200, "completed", "-", False),
        "stream": (200, "completed", "-", True),
        "unknown": (404, "rejected", "NR", False),
        "health": (200, "completed", "-", False),
        "cut": (200, "broken", "UC", True),
        "left": (200, "cancelled", "DC", True),
        malformed: (400, "rejected", "-", False),
    }
    plain = lines["plain"]
    assert (plain["model"], plain["node"], plain["backend"]) == ("m1", "solo", "one")
    assert (plain["asked"], plain["attempts"], plain["priority"]) == ("m1", 1, "bulk")
    assert (plain["client"], plain["origin"]) == ("127.0.0.1", None)
    assert plain["bytes_in"] == len(json.dumps(CHAT).encode())
    assert plain["bytes_out"] > 100
    assert plain["route_ms"] is not None
    assert (lines["unknown"]["asked"], lines["unknown"]["model"]) == ("made-up", None)


async def test_an_exporter_that_is_down_slows_nobody(backend: FakeBackend, spans: Collector) -> None:
    """The collector takes longer than the whole test: what does not fit is dropped and counted."""
    spans.delay_s = 30.0
    policy = TelemetryPolicy(
        records=64,
        export=ExportPolicy(
            Sampling(),
            endpoint=f"{spans.url}/v1/traces",
            most_spans=16,
            batch_spans=8,
            delay_s=0.02,
            timeout_s=1.0,
        ),
    )
    async with (
        running("solo", policy) as telemetry,
        running_node(served={"one": Served(backend)}, telemetry=telemetry) as node,
        client(node) as http,
    ):
        begun_s = time.monotonic()
        for _ in range(200):
            assert (await http.ask(CHAT)).status == 200
        assert time.monotonic() - begun_s < 15.0, "nobody waited for the collector"
        await telemetry.catch_up()
        assert telemetry.dropped()["span"] > 300
