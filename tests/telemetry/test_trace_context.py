from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.context import TraceContext, header_lines, kept, parse, ratio_bound
from sidecar.telemetry.trace import Sampling, Tracing, passed_on

ids = st.integers(1, 2**128 - 1)
spans = st.integers(1, 2**64 - 1)
PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def _values(lines: bytes) -> dict[bytes, bytes]:
    pairs = [line.split(b": ", 1) for line in lines.split(b"\r\n") if line]
    return dict(pairs)


@given(ids, spans, st.integers(0, 3))
def test_what_is_written_is_read_back(trace_id: int, span_id: int, flags: int) -> None:
    context = TraceContext(trace_id, span_id, flags, b"a=1,b@v=2")
    values = _values(header_lines(context))
    assert parse(values[b"traceparent"], values[b"tracestate"]) == context


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_left_out(data: bytes) -> None:
    found = parse(data, data)
    assert found is None or (found.trace_id and found.span_id)


@given(st.integers(0, len(PARENT) - 1), st.integers(0, 255))
def test_a_changed_byte_never_makes_an_invalid_context(at: int, byte: int) -> None:
    changed = PARENT[:at] + bytes([byte]) + PARENT[at + 1 :]
    found = parse(changed)
    if found is not None:
        again = _values(header_lines(found))[b"traceparent"]
        assert parse(again) == found
        assert len(again) == 55
        assert again == again.lower()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="absent"),
        pytest.param(b"ff" + PARENT[2:], id="version-ff-is-forbidden"),
        pytest.param(b"00-" + b"0" * 32 + PARENT[35:], id="trace-id-of-zeros"),
        pytest.param(PARENT[:36] + b"0" * 16 + b"-01", id="span-id-of-zeros"),
        pytest.param(PARENT.upper(), id="upper-case"),
        pytest.param(PARENT + b"-more", id="version-00-has-four-parts"),
        pytest.param(PARENT + b"\n", id="trailing-line-end"),
        pytest.param(PARENT[:-1], id="short-flags"),
        pytest.param(PARENT + b", " + PARENT, id="two-headers"),
    ],
)
def test_what_is_no_traceparent_is_absent(text: bytes) -> None:
    assert parse(text) is None


def test_versions_to_come_are_read_as_far_as_known() -> None:
    found = parse(b"cc" + PARENT[2:] + b"-what-the-future-holds")
    assert found is not None
    assert found.sampled
    assert _values(header_lines(found))[b"traceparent"] == PARENT


def test_flags_nobody_knows_are_not_passed_on() -> None:
    found = parse(PARENT[:-2] + b"ff")
    assert found is not None
    assert found.flags == 3


@pytest.mark.parametrize(
    ("state", "read"),
    [
        pytest.param(b"a=1", b"a=1", id="one"),
        pytest.param(b" a=1 ,\tb=2", b"a=1,b=2", id="space-around"),
        pytest.param(b"a=1,,b=2", b"a=1,b=2", id="empty-members"),
        pytest.param(b"fw529a3039@dt=FfAA", b"fw529a3039@dt=FfAA", id="tenant"),
        pytest.param(b"A=1", b"", id="upper-case-key"),
        pytest.param(b"a", b"", id="no-value"),
        pytest.param(b"a=1,a=2", b"", id="same-key-twice"),
        pytest.param(b",".join(b"k%d=v" % n for n in range(33)), b"", id="more-than-32"),
        pytest.param(b"a=" + b"x" * 511, b"", id="longer-than-anybody-must-keep"),
        pytest.param(b"a=1\r\nx: y", b"", id="line-ends"),
    ],
)
def test_tracestate_is_kept_when_it_is_well_formed(state: bytes, read: bytes) -> None:
    found = parse(PARENT, state)
    assert found is not None
    assert found.state == read


def tracing(ratio: float = 1.0, *, follows: bool = True) -> Tracing:
    return Tracing(Sampling(follows, ratio), random.Random(7).getrandbits)


def test_nothing_is_traced_while_nothing_is_exported_and_contexts_still_pass() -> None:
    off = Tracing(None, random.getrandbits)
    assert off.begin(PARENT, b"a=1", hop=False) is None
    assert passed_on(PARENT, b"a=1") == b"traceparent: " + PARENT + b"\r\ntracestate: a=1\r\n"
    assert passed_on(b"", b"a=1") == b""
    assert passed_on(b"bad\r\nx: y", b"a=1") == b""


@given(ids, spans, st.booleans())
def test_who_began_the_trace_decides_once(trace_id: int, span_id: int, sampled: bool) -> None:
    parent = _values(header_lines(TraceContext(trace_id, span_id, int(sampled))))[b"traceparent"]
    for hop in (False, True):
        trace = tracing(ratio=0.0 if sampled else 1.0).begin(parent, b"", hop=hop)
        assert (trace is not None) == sampled
        if trace is not None:
            assert trace.context.trace_id == trace_id
            assert trace.parent_id == span_id
            assert trace.context.span_id != span_id


def test_an_owner_never_begins_a_trace() -> None:
    assert tracing().begin(b"", b"", hop=True) is None
    assert tracing().begin(b"nonsense", b"", hop=True) is None


def test_each_attempt_is_a_child_of_the_request() -> None:
    trace = tracing().begin(PARENT, b"a=1", hop=False)
    assert trace is not None
    first = _values(trace.attempt("bee", "e1", local=False, now_s=1.0))
    trace.attempt_ended(2.0, failure="connect_failed")
    second = _values(trace.attempt("desk", "e2", local=True, now_s=2.5))
    assert first[b"tracestate"] == second[b"tracestate"] == b"a=1"
    sent = [parse(lines[b"traceparent"]) for lines in (first, second)]
    assert [context and context.span_id for context in sent] == [a.span_id for a in trace.attempts]
    assert len({trace.parent_id, trace.context.span_id, *(a.span_id for a in trace.attempts)}) == 4
    assert all(context is not None and context.trace_id == trace.context.trace_id for context in sent)
    assert (trace.attempts[0].failure, trace.attempts[0].ended_s) == ("connect_failed", 2.0)


def test_ending_an_attempt_that_was_never_made_changes_nothing() -> None:
    trace = tracing().begin(b"", b"", hop=False)
    assert trace is not None
    trace.attempt_ended(1.0)
    assert not trace.attempts


@given(st.floats(0, 1), st.integers(0, 2**128 - 1))
def test_a_larger_share_keeps_all_that_a_smaller_one_keeps(ratio: float, trace_id: int) -> None:
    assert not kept(trace_id, ratio_bound(ratio)) or kept(trace_id, ratio_bound(min(1.0, ratio * 2)))
    assert kept(trace_id, ratio_bound(1.0))
    assert not kept(trace_id, ratio_bound(0.0))


def test_the_share_that_is_kept_is_the_share_that_was_asked_for() -> None:
    sampler = tracing(ratio=0.01)
    traced = sum(sampler.begin(b"", b"", hop=False) is not None for _ in range(20_000))
    assert 120 < traced < 300


def test_a_sampler_without_regard_for_parents_decides_by_the_id() -> None:
    unsampled = PARENT[:-1] + b"0"
    trace = tracing(ratio=1.0, follows=False).begin(unsampled, b"", hop=False)
    assert trace is not None
    assert trace.context.sampled
    assert tracing(ratio=0.0, follows=False).begin(PARENT, b"", hop=False) is None
    # The entry node decided: its peers do as it did, whatever their own sampler says.
    assert tracing(ratio=0.0, follows=False).begin(PARENT, b"", hop=True) is not None
