"""Spans as OTLP has them: what is kept from one request to the next never shows in another.

Mutants that were tried and are killed: any member of either key left out, keys without a bound, the
parent, the state or the attributes of the first span kept, a remote parent that is not told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from sidecar.telemetry.otlp import OtlpSpans, SpanEncoder, resource_of, sent
from sidecar.telemetry.outlet import UndeliveredError
from sidecar.telemetry.record import Record
from sidecar.telemetry.spans import Span, Spans
from sidecar.telemetry.trace import Sampling, Tracing
from sidecar.telemetry.usage import Usage
from tests.fakes.records import fill

OFFSET_S = 1_700_000_000.0
PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OF_A_REQUEST: dict[str, tuple[Any, ...]] = {
    "path": (b"/v1/embeddings", b"/v1/messages"),
    "method": (b"POST", b"GET"),
    "status": (200, 503, 0),
    "code": ("no_replica", "saturated"),
    "outcome": ("completed", "broken", "rejected"),
    "failure": ("truncated", "stalled"),
    "model": ("tiny", "big"),
    "node": ("desk", ""),
    "origin": ("", "bee"),
    "attempts": (1, 2),
    "streamed": (True, False),
    "key": ("", "k1"),
    "priority": ("", "bulk"),
    "route_version": ("1.7", "1.8"),
    "provider": ("vllm", ""),
    "queue_s": (0.0, 0.5),
    "request_id": (b"one", b"two"),
}
OF_AN_ATTEMPT: dict[str, tuple[Any, ...]] = {
    "endpoint": ("desk/srv/tiny", "bee/srv/tiny"),
    "node": ("desk", "bee"),
    "local": (True, False),
    "status": (0, 503),
    "failure": ("", "status"),
}
Told = tuple[dict[str, Any], list[dict[str, Any]], str, Usage, tuple[bytes, bytes]]


def either(values: dict[str, tuple[Any, ...]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({name: st.sampled_from(two) for name, two in values.items()})


TOLD: st.SearchStrategy[Told] = st.tuples(
    either(OF_A_REQUEST),
    st.lists(either(OF_AN_ATTEMPT), max_size=2),
    st.sampled_from(["", "stop"]),
    st.sampled_from([Usage(), Usage(1, 2, 3), Usage(0, None, None)]),
    st.sampled_from([(b"", b""), (PARENT, b""), (PARENT, b"vendor=1,other=2")]),
)


def spans(made: Spans, told: Told) -> tuple[Span, ...]:
    changes, attempts, finish, usage, context = told
    trace = Tracing(Sampling(), lambda bits: bits).begin(*context, hop=False)
    assert trace is not None
    for one in attempts:
        status, failure = one["status"], one["failure"]
        trace.attempt(one["node"], one["endpoint"], local=one["local"], now_s=100.5)
        trace.attempt_ended(0.0, status=status, failure=failure)
    return made.of(fill(Record(), **changes), trace, usage, finish, OFFSET_S)


def wire(data: bytes) -> list[Any]:
    """What ``data`` says, with attributes in one order."""
    message = ExportTraceServiceRequest.FromString(data)
    (resource,) = message.resource_spans
    (scope,) = resource.scope_spans
    for span in scope.spans:
        span.attributes.sort(key=lambda pair: pair.key)
    return [resource.resource, scope.scope, *scope.spans]


@pytest.mark.parametrize(
    "change", [*OF_A_REQUEST, *(("attempt", name) for name in OF_AN_ATTEMPT), "finish", "context", "more"]
)
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_what_is_kept_never_shows_in_another_request(change: Any, data: st.DataObject) -> None:
    """Two requests that differ in one thing, both ways."""
    one = data.draw(TOLD.filter(lambda told: isinstance(change, str) or bool(told[1])))
    changes, attempts, finish, usage, context = one
    if change == "finish":
        finish = "length"
    elif change == "context":
        context = (b"", b"") if context[0] else (PARENT, b"")
    elif change == "more":
        attempts = [*attempts, *attempts[:1]]
    elif change in OF_A_REQUEST:
        changes = {**changes, change: data.draw(_other(OF_A_REQUEST[change], changes[change]))}
    else:
        name = change[1]
        last = {**attempts[-1], name: data.draw(_other(OF_AN_ATTEMPT[name], attempts[-1][name]))}
        attempts = [*attempts[:-1], last]
    other = (changes, attempts, finish, usage, context)
    made = Spans()
    for told in (one, other, one):
        assert [as_values(span) for span in spans(made, told)] == [
            as_values(span) for span in spans(Spans(), told)
        ]


def _other(values: tuple[Any, ...], value: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([one for one in values if one != value])


def as_values(span: Span) -> tuple[Any, ...]:
    alike = span.alike
    return (
        (alike.name, alike.kind, alike.remote_parent, dict(alike.attributes), alike.error),
        (span.trace_id, span.span_id, span.parent_id, span.flags, span.state),
        (span.start_ns, span.end_ns, dict(span.attributes)),
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(TOLD, min_size=1, max_size=4))
def test_it_is_what_the_sdk_writes(told: list[Told]) -> None:
    encoder, made = SpanEncoder(resource_of({"service.name": "x"}), "1.2"), Spans()
    batch = [span for one in told for span in spans(made, one)]
    readable = [encoder.readable(span, {**span.alike.attributes, **span.attributes}) for span in batch]
    expected = wire(encode_spans(readable).SerializeToString())
    assert wire(encoder.encode(batch)) == expected
    assert wire(encoder.encode(batch)) == expected


def test_attempts_are_numbered_and_their_errors_are_those_of_their_request() -> None:
    made, lost = Spans(), {**_first(OF_AN_ATTEMPT), "failure": "status"}
    attempts = spans(made, ({}, [lost, lost], "", Usage(), (b"", b"")))[1:]
    assert [span.alike.attributes["swarm.attempt"] for span in attempts] == [1, 2]
    errors = []
    for code, outcome in (
        ("no_replica", "completed"),
        ("saturated", "completed"),
        ("saturated", "cancelled"),
    ):
        ended = {"status": 503, "code": code, "outcome": outcome}
        errors.append(spans(made, (ended, [_first(OF_AN_ATTEMPT)], "", Usage(), (b"", b"")))[1].alike.error)
    assert errors == ["no_replica", "saturated", "cancelled"]


def test_requests_that_are_alike_share_what_is_encoded() -> None:
    made = Spans()
    told: Told = ({"request_id": b"one"}, [_first(OF_AN_ATTEMPT)], "stop", Usage(1, 2), (b"", b""))
    first = spans(made, told)
    second = spans(made, ({"request_id": b"two"}, *told[1:3], Usage(3, 4), told[4]))
    assert [one.alike is two.alike for one, two in zip(first, second, strict=True)] == [True, True]
    assert [dict(span.attributes) for span in second] == [
        {"swarm.request_id": "two"},
        {"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4,
         "gen_ai.response.time_to_first_chunk": 0.5},
    ]  # fmt: skip


def test_nothing_that_clients_make_up_is_kept_without_end() -> None:
    made = Spans()
    for number in range(3000):
        spans(made, ({"path": b"/v1/%d" % number}, [], "", Usage(), (b"", b"")))
    told: Told = ({"path": b"/" * 10_000}, [_first(OF_AN_ATTEMPT)], "", Usage(), (b"", b""))
    own, attempt = spans(made, told)
    assert 0 < len(made._kept) <= 1024
    assert max(len(str(key[0])) for key in made._kept) < 300
    # Whoever encodes them keeps these: the client's words in them are no longer than in the access log.
    assert own.alike.name == f"POST {'/' * 256}"
    assert own.alike.attributes["url.path"] == "/" * 256
    assert len(attempt.alike.name) < 300


def test_the_library_still_takes_what_is_encoded_already() -> None:
    """Where it does not, spans are encoded by the SDK at ten times the cost: see ``_sent``."""
    exporter = OTLPSpanExporter(endpoint="http://127.0.0.1:9/v1/traces", timeout=0.1)
    result = exporter._client.export(b"")
    assert result.success is False


class Public:
    """An exporter that has what is public only."""

    def __init__(self, result: SpanExportResult) -> None:
        self.result = result
        self.data: list[bytes] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.data.append(encode_spans(spans).SerializeToString())
        return self.result


@pytest.mark.parametrize("result", SpanExportResult)
def test_without_the_private_way_the_sdk_encodes(result: SpanExportResult) -> None:
    encoder, exporter = SpanEncoder(resource_of({}), "1.2"), Public(result)
    batch = spans(Spans(), ({}, [_first(OF_AN_ATTEMPT)], "stop", Usage(1, 2), (PARENT, b"")))
    assert sent(cast("OTLPSpanExporter", exporter), encoder, batch) is (result is SpanExportResult.SUCCESS)
    assert wire(exporter.data[0]) == wire(encoder.encode(batch))


class Renamed(Public):
    """An exporter whose private way has come to mean something else."""

    class _client:  # noqa: N801 - the library's name
        @staticmethod
        def export(*_: object) -> object:
            return object()


def test_a_private_way_of_another_meaning_is_not_taken() -> None:
    exporter = Renamed(SpanExportResult.SUCCESS)
    batch = spans(Spans(), ({}, [_first(OF_AN_ATTEMPT)], "stop", Usage(1, 2), (PARENT, b"")))
    assert sent(cast("OTLPSpanExporter", exporter), SpanEncoder(resource_of({}), "1.2"), batch)
    assert len(exporter.data) == 1


def test_what_is_closed_takes_no_more() -> None:
    """Kills: a send to a collector that hangs after the process gave it up."""
    closed = OtlpSpans(
        endpoint="http://127.0.0.1:9/v1/traces", headers={}, timeout_s=9.0, resource={}, version="1"
    )
    closed.close()
    with pytest.raises(UndeliveredError, match="closed"):
        closed.deliver(spans(Spans(), ({}, [], "", Usage(), (b"", b""))))


def _first(values: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    return {name: two[0] for name, two in values.items()}
