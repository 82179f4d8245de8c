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

from sidecar.dataplane.policy import DataPlanePolicy
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
from tests.fakes.ollama import running_ollama

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


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
async def test_what_streams_state_is_counted_whether_they_pass_or_are_translated(path: str) -> None:
    """Kills: the end of a stream not kept where it is translated, or where it passes."""
    async with (
        running("solo", TelemetryPolicy()) as telemetry,
        running_ollama("M1:latest") as (backend, _),
        running_node(
            served={"one": Served(backend, model="M1:latest", canonical="m1", kind="ollama")},
            telemetry=telemetry,
        ) as node,
        client(node) as http,
    ):
        assert (await http.ask(STREAM, path)).whole
        text = await shown(telemetry)
    assert 'swarmplane_tokens_total{direction="input",model="m1"}' in text
    assert 'swarmplane_tokens_total{direction="output",model="m1"}' in text


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
            http.send(b"PUT /v1/x?key=1 HTTP/1.1\r\nx y\r\n\r\n")
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
        malformed: (400, "rejected", "DPE", False),
    }
    plain = lines["plain"]
    assert (plain["model"], plain["node"], plain["backend"]) == ("m1", "solo", "one")
    assert (plain["asked"], plain["attempts"], plain["priority"]) == ("m1", 1, "bulk")
    assert (plain["client"], plain["origin"]) == ("127.0.0.1", None)
    assert plain["bytes_in"] == len(json.dumps(CHAT).encode())
    assert plain["bytes_out"] > 100
    assert plain["route_ms"] is not None
    assert (lines["unknown"]["asked"], lines["unknown"]["model"]) == ("made-up", None)
    assert {lines[name]["priority"] for name in ("stream", "cut", "left")} == {"default"}
    assert lines["health"]["priority"] is None
    assert (lines[malformed]["method"], lines[malformed]["path"]) == ("PUT", "/v1/x")


def logging(folder: Path, name: str) -> TelemetryPolicy:
    return TelemetryPolicy(
        access=AccessLogPolicy(str(folder / name), max_bytes=1_000_000, files=2, delay_s=0.02)
    )


def logged(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.mark.parametrize(
    ("sent", "method", "path", "code", "flags"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00", None, None, "invalid_request", "DPE", id="no-http"),
        pytest.param(
            b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            "POST", "/v1/messages", "invalid_request", "DPE", id="two-hosts",
        ),
        pytest.param(
            b"POST /v1/embeddings?k=secret HTTP/1.1\r\nHost: localhost\r\ncontent-length: zero\r\n\r\n",
            "POST", "/v1/embeddings", "invalid_request", "DPE", id="length-is-no-number",
        ),
        pytest.param(
            b"DELETE /v1/files HTTP/1.1\r\nHost: localhost\r\n" + b"x: y\r\n" * 20_000,
            "DELETE", "/v1/files", "head_too_large", "DPE", id="head-too-large",
        ),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            "GET", "/healthz", "forbidden", "UAEX", id="foreign-host",
        ),
    ],
)  # fmt: skip
async def test_what_could_not_be_read_is_told_as_far_as_it_was(
    tmp_path: Path,
    backend: FakeBackend,
    sent: bytes,
    method: str | None,
    path: str | None,
    code: str,
    flags: str,
) -> None:
    async with (
        running("solo", logging(tmp_path, "log")) as telemetry,
        running_node(served={"one": Served(backend)}, telemetry=telemetry) as node,
        client(node) as http,
    ):
        http.send(sent)
        await http.answer()
    (line,) = logged(tmp_path, "log")
    told = (line["method"], line["path"], line["code"], line["flags"])
    assert told == (method, path, code, flags)
    assert (line["outcome"], line["attempts"], line["client"]) == ("rejected", 0, "127.0.0.1")
    assert "secret" not in json.dumps(line)


async def test_a_request_that_never_came_whole_is_told_when_its_time_is_over(
    tmp_path: Path, backend: FakeBackend
) -> None:
    policy = DataPlanePolicy(head_timeout_s=0.1, body_timeout_s=0.1, tick_s=0.02)
    async with (
        running("solo", logging(tmp_path, "log")) as telemetry,
        running_node(served={"one": Served(backend)}, telemetry=telemetry, policy=policy) as node,
        client(node) as first,
        client(node) as second,
    ):
        first.send(b"POST /v1/chat/completions HTTP/1.1\r\nHo")
        second.send(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\ncontent-length: 9\r\n\r\n{")
        assert (await first.answer()).status == (await second.answer()).status == 408
    assert sorted((line["path"], line["flags"], line["method"]) for line in logged(tmp_path, "log")) == [
        ("/v1/chat/completions", "SI", "POST"),
        ("/v1/messages", "SI", "POST"),
    ]


async def test_time_in_queues_is_told_here_and_where_it_entered(
    tmp_path: Path, swarm: TestSwarm, backend: FakeBackend
) -> None:
    """B has one slot, and A sends it two requests that take 0.4 s: the second waits for the first."""
    backend.default = Behaviour(delay_s=0.4)
    policy = DataPlanePolicy(phase_after_s=0.05, tick_s=0.02)
    async with (
        running("a", logging(tmp_path, "a")) as ta,
        running("b", logging(tmp_path, "b")) as tb,
        running_node("a", swarm=swarm, telemetry=ta, policy=policy) as a,
        running_node("b", {"one": Served(backend, slots=1)}, swarm=swarm, telemetry=tb, policy=policy),
        client(a) as first,
        client(a) as second,
    ):
        swarm.connect()
        first.post(CHAT, x_request_id="1")
        await eventually(lambda: bool(backend.asked))
        second.post(CHAT, x_request_id="2", x_swarm_priority="Bulk")
        assert (await first.answer()).status == (await second.answer()).status == 200
    for name in ("a", "b"):
        ran, waited = sorted(logged(tmp_path, name), key=lambda line: str(line["request_id"]))
        assert ran["queue_ms"] == 0.0
        assert 100.0 < waited["queue_ms"] < waited["duration_ms"]
        assert (ran["priority"], waited["priority"]) == ("default", "bulk")


async def test_a_client_that_leaves_the_queue_waited_until_then(tmp_path: Path, backend: FakeBackend) -> None:
    async with (
        running("solo", logging(tmp_path, "log")) as telemetry,
        running_node(served={"one": Served(backend, slots=1)}, telemetry=telemetry) as node,
        client(node) as first,
    ):
        first.post(CHAT, x_request_id="1", x_fake="hang=1")
        await eventually(lambda: bool(backend.asked))
        async with client(node) as second:
            second.post(CHAT, x_request_id="2")
            await eventually(lambda: len(node.plane.active) == 2)
            await asyncio.sleep(0.1)
        await eventually(lambda: len(node.plane.active) == 1)
        await telemetry.catch_up()
    waited = next(line for line in logged(tmp_path, "log") if line["request_id"] == "2")
    assert (waited["outcome"], waited["flags"], waited["status"]) == ("cancelled", "DC", 0)
    # Both are rounded, each to its own digits.
    assert 90.0 < waited["queue_ms"] <= waited["duration_ms"] + 0.1


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
