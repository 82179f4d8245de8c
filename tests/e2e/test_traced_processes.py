"""OpenTelemetry as a user turns it on: two hosts in processes of their own, and the standard variables."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator

import pytest

from tests.e2e.hosts import Backend, Host, Swarm, eventually
from tests.fakes.collector import CollectedMetric, Collector, collector

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

MODEL = "traced-model"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def backend() -> Iterator[Backend]:
    one = Backend(MODEL)
    yield one
    one.close()


def ask(host: Host, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", host.ports["listen"], timeout=60)
    body = json.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Hi"}]})
    try:
        connection.request(
            "POST", "/v1/chat/completions", body, {"content-type": "application/json", **headers}
        )
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def start(swarm: Swarm, backend: Backend, there: Collector, **variables: str) -> tuple[Host, Host]:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": there.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=t1",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
        **variables,
    }
    a, b = swarm.host("a"), swarm.host("b")
    a.up(env=environment)
    b.join(a.token(), a, "--backend", backend.url, env=environment)
    eventually("A knows B's endpoint", lambda: a.get("/endpoints", admin=True)["items"])
    return a, b


def value(metrics: list[CollectedMetric], name: str, instance: str) -> float:
    """The newest value of one metric of one process, for our model."""
    found = [m for m in metrics if m.name == name and m.resource["service.instance.id"] == instance]
    points = found[-1].points if found else ()
    return sum(point.value for point in points if point.attributes.get("gen_ai.request.model") == MODEL)


async def test_one_trace_and_metrics_of_both_hosts(swarm: Swarm, backend: Backend) -> None:
    async with collector() as there:
        more = {"OTEL_SERVICE_NAME": "our-llms", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test"}
        a, b = await asyncio.to_thread(lambda: start(swarm, backend, there, **more))
        assert await asyncio.to_thread(lambda: ask(a, traceparent=PARENT, tracestate="vendor=1")) == 200
        ids = {name: host.runtime["node_id"] for name, host in (("a", a), ("b", b))}
        spans = await there.wait(4)
        await there.wait_for_metrics(
            lambda seen: (
                value(seen, "swarmplane.requests", ids["a"]) == 1
                and value(seen, "swarmplane.hop_requests", ids["b"]) == 1
            )
        )
    of = {(span.resource["service.instance.id"], span.kind): span for span in spans}
    chain = [of[ids["a"], 2], of[ids["a"], 3], of[ids["b"], 2], of[ids["b"], 3]]
    assert {span.trace_id for span in spans} == {PARENT[3:35]}
    assert [span.parent_id for span in chain] == [PARENT[36:52], *(span.span_id for span in chain[:-1])]
    seen = await asyncio.to_thread(backend.requests)
    assert seen[-1]["headers"]["traceparent"] == f"00-{PARENT[3:35]}-{chain[-1].span_id}-01"
    assert seen[-1]["headers"]["tracestate"] == "vendor=1"
    assert {span.resource["service.name"] for span in spans} == {"our-llms"}
    assert {span.resource["deployment.environment"] for span in spans} == {"test"}
    assert {headers["x-tenant"] for headers in there.headers} == {"t1"}
    names = {metric.name for metric in there.metrics}
    assert names >= {
        *("swarmplane.requests", "gen_ai.server.request.duration", "gen_ai.server.time_to_first_token"),
        *("swarmplane.endpoint_in_flight", "swarmplane.control_connected", "swarmplane.route_version"),
    }


async def test_few_are_sampled_and_nothing_is_sent_where_it_is_off(swarm: Swarm, backend: Backend) -> None:
    """At 1 %, of 300 requests few have spans, all whole; with the SDK disabled nothing goes out at all."""
    async with collector() as there:
        sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
        a, _ = await asyncio.to_thread(lambda: start(swarm, backend, there, **sampler))
        for _ in range(300):
            assert await asyncio.to_thread(lambda: ask(a)) == 200
        assert await asyncio.to_thread(lambda: ask(a, traceparent=PARENT)) == 200
        await there.wait_for_metrics(
            lambda seen: value(seen, "swarmplane.requests", a.runtime["node_id"]) >= 301
        )
        sampled = await asyncio.to_thread(traced_by, backend)
        await there.wait(4 * len(sampled))
        by_trace: dict[str, int] = {}
        for span in there.spans:
            by_trace[span.trace_id] = by_trace.get(span.trace_id, 0) + 1
        assert len(by_trace) <= 20, "of 300 at 1 %: more than 20 has a chance of 1 in 10^10"
        assert by_trace == dict.fromkeys(sampled, 4)
        assert PARENT[3:35] in by_trace


async def test_a_disabled_sdk_sends_nothing(swarm: Swarm, backend: Backend) -> None:
    async with collector() as there:
        a, _ = await asyncio.to_thread(lambda: start(swarm, backend, there, OTEL_SDK_DISABLED="true"))
        assert await asyncio.to_thread(lambda: ask(a, traceparent=PARENT)) == 200
        await asyncio.to_thread(swarm.close)
        assert there.exports == 0
        assert await asyncio.to_thread(traced_by, backend) == {PARENT[3:35]}, "a context is passed on"


def traced_by(backend: Backend) -> set[str]:
    """Traces whose context reached the backend."""
    contexts = [seen["headers"].get("traceparent") for seen in backend.requests()]
    return {context[3:35] for context in contexts if context is not None}
