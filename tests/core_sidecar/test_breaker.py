"""The breaker as a table and as a machine.

Mutants seen to be killed: no cap of the back-off, no jitter, era not raised by an ejection, era not raised by
a probe, era not compared, ABANDONED left in PROBING, probe limit ignored, several probes at once, ejections
never forgotten, ejections forgotten by the probe's success, BROKEN counted with FAILED, FAILED leaving the
breaks in a row, window never pruned, rate judged below the least number of requests, BUSY counted as failure.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.core.breaker import NO_STAKE, Breaker, Phase, Policy, Signal, enter, step

POLICY = Policy()
FRESH = Breaker()
EJECTED = Breaker(Phase.EJECTED, era=1, ejections=1, retry_at_s=101.0)
PROBING = Breaker(Phase.PROBING, era=2, ejections=1, retry_at_s=161.0)
BAD = [Signal.FAILED, Signal.BROKEN, Signal.UNCONNECTED]


def run(breaker: Breaker, *signals: Signal, now_s: float = 100.0, draw: float = 0.0) -> Breaker:
    """Each signal is of a request of the present era."""
    for signal in signals:
        breaker = step(breaker, signal, now_s, era=breaker.era, draw=draw, policy=POLICY)
    return breaker


@pytest.mark.parametrize(
    ("before", "signal", "now_s", "after"),
    [
        pytest.param(FRESH, Signal.DISPATCHED, 100, FRESH, id="sending-changes-nothing"),
        pytest.param(FRESH, Signal.ABANDONED, 100, FRESH, id="a-client-that-left-is-no-failure"),
        pytest.param(FRESH, Signal.BUSY, 100, FRESH, id="loading-is-no-failure"),
        pytest.param(FRESH, Signal.UNCONNECTED, 100, EJECTED, id="no-connection-ejects-at-once"),
        pytest.param(
            FRESH, Signal.FAILED, 100, Breaker(failures=1, window=((100, 0, 1),)), id="status-is-counted"
        ),
        pytest.param(
            FRESH, Signal.BROKEN, 100, Breaker(local_failures=1, window=((100, 0, 1),)), id="break-is-counted"
        ),
        pytest.param(
            Breaker(failures=3, local_failures=3), Signal.SUCCEEDED, 100.9,
            Breaker(window=((100, 1, 0),)), id="success-forgives",
        ),
        pytest.param(
            Breaker(failures=3, local_failures=3), Signal.FAILED, 100,
            Breaker(failures=4, window=((100, 0, 1),)), id="a-bad-status-came-over-a-good-connection",
        ),
        pytest.param(
            Breaker(failures=3), Signal.BROKEN, 100,
            Breaker(failures=3, local_failures=1, window=((100, 0, 1),)), id="a-break-hides-no-statuses",
        ),
        pytest.param(Breaker(local_failures=3), Signal.BUSY, 100, FRESH, id="busy-is-reachable"),
        pytest.param(Breaker(failures=4), Signal.FAILED, 100, EJECTED, id="limit-ejects"),
        pytest.param(Breaker(local_failures=4), Signal.BROKEN, 100, EJECTED, id="limit-of-breaks-ejects"),
        pytest.param(EJECTED, Signal.DISPATCHED, 100.9, EJECTED, id="too-early-to-probe"),
        pytest.param(EJECTED, Signal.DISPATCHED, 101, PROBING, id="probe-goes"),
        pytest.param(PROBING, Signal.DISPATCHED, 160.9, PROBING, id="one-probe-at-a-time"),
        pytest.param(
            PROBING, Signal.DISPATCHED, 161, replace(PROBING, era=3, retry_at_s=221.0),
            id="lost-probe-is-replaced",
        ),
        pytest.param(
            PROBING, Signal.SUCCEEDED, 102, Breaker(era=2, ejections=1, since_s=102), id="probe-restores"
        ),
        *(
            pytest.param(
                PROBING, bad, 102, Breaker(Phase.EJECTED, 3, ejections=2, retry_at_s=104.0),
                id=f"probe-{bad.name}",
            )
            for bad in BAD
        ),
        *(
            pytest.param(
                PROBING, nothing, 102, Breaker(Phase.EJECTED, 2, ejections=1, retry_at_s=102), id=nothing.name
            )
            for nothing in (Signal.ABANDONED, Signal.BUSY)
        ),
    ],
)  # fmt: skip
def test_step(before: Breaker, signal: Signal, now_s: float, after: Breaker) -> None:
    assert run(before, signal, now_s=now_s) == after


@pytest.mark.parametrize("signal", [s for s in Signal if s is not Signal.DISPATCHED])
def test_late_answers_change_nothing(signal: Signal) -> None:
    """Sent before the ejection; answered while ejected, while another probes, and after the return."""
    for later in (EJECTED, PROBING, Breaker(era=2, ejections=1, since_s=102)):
        assert step(later, signal, 200.0, era=0, draw=0.0, policy=POLICY) == later


def test_a_request_that_was_not_admitted_has_no_stake() -> None:
    after, era = enter(EJECTED, 100.5, POLICY)
    assert (after, era) == (EJECTED, NO_STAKE)
    assert step(PROBING, Signal.SUCCEEDED, 102, era=era, draw=0.0, policy=POLICY) == PROBING
    assert enter(FRESH, 0.0, POLICY) == (FRESH, 0)
    assert enter(EJECTED, 101.0, POLICY) == (PROBING, 2)


@pytest.mark.parametrize(
    ("good", "bad", "ejected"),
    [
        pytest.param(2, 2, False, id="four-say-nothing"),
        pytest.param(4, 1, False, id="exactly-80-percent"),
        pytest.param(3, 2, True, id="60-percent-of-five"),
        pytest.param(12, 3, False, id="80-percent-of-many"),
        pytest.param(12, 4, True, id="less-than-80-percent-of-many"),
    ],
)
def test_success_rate(good: int, bad: int, *, ejected: bool) -> None:
    failures = [(Signal.FAILED, Signal.BROKEN)[index % 2] for index in range(bad)]
    assert (run(FRESH, *[Signal.SUCCEEDED] * good, *failures).phase is Phase.EJECTED) is ejected
    assert run(FRESH, *[Signal.SUCCEEDED] * good, *failures[:-1]).phase is Phase.ADMITTING


def test_the_window_forgets() -> None:
    breaker = run(FRESH, *[Signal.SUCCEEDED, Signal.FAILED] * 2, now_s=100.5)
    assert run(breaker, Signal.FAILED, now_s=109.9).phase is Phase.EJECTED
    assert run(breaker, Signal.FAILED, now_s=110.0).phase is Phase.ADMITTING


def test_the_window_is_bounded() -> None:
    breaker = FRESH
    for tenth in range(1000):
        breaker = run(breaker, Signal.SUCCEEDED, now_s=tenth / 10)
    assert len(breaker.window) == POLICY.window_s
    assert sum(good for _, good, _ in breaker.window) == 100


def test_a_stream_that_breaks_after_its_first_byte_counts() -> None:
    breaker = run(FRESH, *[Signal.SUCCEEDED, Signal.BROKEN] * 3)
    assert breaker.phase is Phase.EJECTED
    probed, era = enter(breaker, breaker.retry_at_s, POLICY)
    now_s = breaker.retry_at_s
    for _ in range(5):
        probed = step(probed, Signal.SUCCEEDED, now_s, era=era, draw=0.0, policy=POLICY)
        probed = step(probed, Signal.BROKEN, now_s, era=era, draw=0.0, policy=POLICY)
    assert probed.phase is Phase.EJECTED


def test_ejections_grow_with_jitter_and_are_forgotten_after_good_time() -> None:
    breaker, now_s, waits = FRESH, 0.0, []
    for draw in (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, *[0.0] * 2000):
        breaker = run(breaker, Signal.DISPATCHED, now_s=now_s)
        breaker = run(breaker, Signal.UNCONNECTED, now_s=now_s, draw=draw)
        waits.append(breaker.retry_at_s - now_s)
        now_s = breaker.retry_at_s
    assert waits[:9] == pytest.approx([1, 2, 4, 12, 16, 32, 60, 60, 90])
    returned = run(breaker, Signal.DISPATCHED, Signal.SUCCEEDED, now_s=now_s)
    assert returned.ejections == breaker.ejections
    soon = run(returned, Signal.UNCONNECTED, now_s=now_s + 59)
    assert soon.retry_at_s == pytest.approx(now_s + 59 + 60)
    later = run(returned, Signal.UNCONNECTED, now_s=now_s + 60)
    assert (later.retry_at_s, later.ejections) == (pytest.approx(now_s + 61), 1)


endings = st.sampled_from([s for s in Signal if s is not Signal.DISPATCHED])


class Fleet(RuleBasedStateMachine):
    """Requests overlap, end in any order and twice, and may be sent without being admitted."""

    @initialize()
    def begin(self) -> None:
        self.breaker = Breaker()
        self.now_s = 0.0
        self.out: list[tuple[int, bool]] = []
        """Era of each request in flight, and whether it is the probe."""

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 1.5, 10.0, 59.0, 61.0, 90.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def send(self) -> None:
        before = self.breaker
        self.breaker, era = enter(before, self.now_s, POLICY)
        assert (era == NO_STAKE) is not before.admits(self.now_s)
        probe = before.phase is not Phase.ADMITTING and era != NO_STAKE
        if probe:
            assert not self.breaker.admits(self.now_s)
            assert era not in {sent for sent, _ in self.out}
        self.out.append((era, probe))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), signal=endings, draw=st.floats(0, 1), keep=st.booleans(), times=st.integers(1, 6))
    def end(self, data: st.DataObject, signal: Signal, draw: float, times: int, *, keep: bool) -> None:
        index = data.draw(st.integers(0, len(self.out) - 1))
        era, probe = self.out[index] if keep else self.out.pop(index)
        for _ in range(times):
            before = self.breaker
            after = step(before, signal, self.now_s, era=era, draw=draw, policy=POLICY)
            if era != before.era:
                assert after is before
            if signal in {Signal.ABANDONED, Signal.BUSY}:
                assert after.phase is not Phase.PROBING or era != before.era
                assert after.ejections == before.ejections
            if before.phase is Phase.PROBING and after.phase is Phase.ADMITTING:
                assert probe
                assert signal is Signal.SUCCEEDED
            if after.era != before.era:
                assert signal in BAD
                wait_s = after.retry_at_s - self.now_s
                assert (
                    POLICY.base_backoff_s - 1e-9
                    <= wait_s
                    <= POLICY.max_backoff_s * (1 + POLICY.jitter) + 1e-9
                )
            self.breaker = after

    @invariant()
    def another_chance_comes(self) -> None:
        assert self.breaker.admits(self.now_s + POLICY.max_backoff_s * (1 + POLICY.jitter) + 0.001)

    @invariant()
    def counts_are_below_their_limits(self) -> None:
        assert self.breaker.failures < POLICY.max_failures
        assert self.breaker.local_failures < POLICY.max_local_failures


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(endings, max_size=30), st.floats(0, 1))
@settings(deadline=None)
def test_without_failures_nobody_is_ejected(signals: list[Signal], draw: float) -> None:
    harmless = [signal for signal in signals if signal not in BAD]
    assert run(FRESH, *harmless, draw=draw).phase is Phase.ADMITTING
