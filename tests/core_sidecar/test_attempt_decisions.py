"""PROTOCOL section 5 as a table; docstrings name the mutants seen to be killed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.answers import Answer, Hint
from sidecar.core.attempts import (
    MOST_ATTEMPTS,
    MOST_FULL,
    Act,
    Context,
    Decision,
    Outcome,
    Progress,
    budget_free,
    decide,
    exhausted,
)
from swarmplane.errors import Code

FRESH = Progress()
STATEFUL = Progress(stateless=False)
OTHERS = Context(candidates_left=2, budget_free=True, draw=0.5)
LAST = replace(OTHERS, candidates_left=0)
NO_BUDGET = replace(OTHERS, budget_free=False)
UNWRITTEN = replace(OTHERS, written=False)


def status(code: int, context: Context = OTHERS, progress: Progress = FRESH, **answer: object) -> Decision:
    return decide(progress, Outcome.STATUS, context, Answer(code, **answer))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("progress", "outcome", "context", "act", "code"),
    [
        pytest.param(FRESH, Outcome.CONNECT_FAILED, OTHERS, Act.RETRY, None, id="refused-asks-another"),
        pytest.param(
            STATEFUL, Outcome.CONNECT_FAILED, OTHERS, Act.RETRY, None, id="refused-moves-even-stateful"
        ),
        pytest.param(
            FRESH, Outcome.CONNECT_FAILED, NO_BUDGET, Act.FAIL, Code.NO_REPLICA, id="refused-costs-budget"
        ),
        pytest.param(
            FRESH, Outcome.CONNECT_FAILED, LAST, Act.FAIL, Code.NO_REPLICA, id="nobody-there-is-no-replica"
        ),
        pytest.param(
            FRESH, Outcome.REUSED_CONNECTION_LOST, NO_BUDGET, Act.REPLAY, None, id="replay-is-free"
        ),
        pytest.param(FRESH, Outcome.REUSED_CONNECTION_LOST, LAST, Act.REPLAY, None, id="replay-of-the-last"),
        pytest.param(
            replace(FRESH, replayed=True), Outcome.REUSED_CONNECTION_LOST, OTHERS, Act.RETRY, None,
            id="replayed-once-only",
        ),
        pytest.param(
            STATEFUL, Outcome.REUSED_CONNECTION_LOST, OTHERS, Act.FAIL, Code.UPSTREAM_FAILED,
            id="a-stateful-request-once-written-is-never-sent-again",
        ),
        pytest.param(
            STATEFUL, Outcome.REUSED_CONNECTION_LOST, UNWRITTEN, Act.REPLAY, None,
            id="a-stateful-request-not-written-is",
        ),
        pytest.param(FRESH, Outcome.RESET_BEFORE_FIRST_BYTE, OTHERS, Act.RETRY, None, id="reset-retries"),
        pytest.param(
            STATEFUL, Outcome.RESET_BEFORE_FIRST_BYTE, OTHERS, Act.FAIL, Code.UPSTREAM_FAILED,
            id="reset-of-a-stateful-fails",
        ),
        pytest.param(
            STATEFUL, Outcome.RESET_BEFORE_FIRST_BYTE, UNWRITTEN, Act.RETRY, None,
            id="reset-before-writing-moves-a-stateful",
        ),
        pytest.param(
            FRESH, Outcome.RESET_BEFORE_FIRST_BYTE, LAST, Act.FAIL, Code.UPSTREAM_FAILED, id="reset-of-last"
        ),
        pytest.param(
            FRESH, Outcome.RESET_BEFORE_FIRST_BYTE, NO_BUDGET, Act.FAIL, Code.UPSTREAM_FAILED,
            id="reset-without-budget",
        ),
        pytest.param(FRESH, Outcome.TRUNCATED, OTHERS, Act.RETRY, None, id="truncated-retries"),
        pytest.param(
            FRESH, Outcome.TRUNCATED, LAST, Act.FAIL, Code.UPSTREAM_FAILED, id="truncated-last-fails"
        ),
        pytest.param(FRESH, Outcome.FIRST_BYTE_TIMEOUT, OTHERS, Act.RETRY, None, id="silence-retries"),
        pytest.param(
            replace(FRESH, timed_out=1), Outcome.FIRST_BYTE_TIMEOUT, OTHERS, Act.FAIL, Code.UPSTREAM_TIMEOUT,
            id="silence-fires-once",
        ),
        pytest.param(
            FRESH, Outcome.FIRST_BYTE_TIMEOUT, LAST, Act.FAIL, Code.UPSTREAM_TIMEOUT, id="silence-of-the-last"
        ),
        pytest.param(
            STATEFUL, Outcome.FIRST_BYTE_TIMEOUT, OTHERS, Act.FAIL, Code.UPSTREAM_TIMEOUT,
            id="silence-of-a-stateful",
        ),
        pytest.param(
            replace(FRESH, timed_out=1), Outcome.RESET_BEFORE_FIRST_BYTE, OTHERS, Act.RETRY, None,
            id="a-reset-after-one-silence-still-retries",
        ),
    ],
)  # fmt: skip
def test_failures(
    progress: Progress, outcome: Outcome, context: Context, act: Act, code: Code | None
) -> None:
    """Kills: `stateless` ignored, `written` ignored, budget ignored, replay counted, second replay."""
    decision = decide(progress, outcome, context)
    assert (decision.act, decision.code) == (act, code)
    assert decision.unreachable == (outcome is Outcome.CONNECT_FAILED)


@pytest.mark.parametrize(
    ("decision", "act", "code"),
    [
        pytest.param(status(200), Act.ANSWER, None, id="200-is-relayed"),
        pytest.param(status(400), Act.ANSWER, None, id="4xx-are-the-clients"),
        pytest.param(status(404), Act.ANSWER, None, id="404-of-a-path-is-relayed"),
        pytest.param(status(404, hint=Hint.MISSING_MODEL), Act.NEXT, None, id="404-of-the-model-moves"),
        pytest.param(
            status(404, LAST, hint=Hint.MISSING_MODEL), Act.FAIL, Code.NO_REPLICA, id="404-of-the-last"
        ),
        pytest.param(status(501), Act.ANSWER, None, id="501-states-a-property"),
        pytest.param(status(500), Act.RETRY, None, id="500-retries"),
        pytest.param(status(500, LAST), Act.FAIL, Code.UPSTREAM_FAILED, id="500-of-the-last"),
        pytest.param(status(500, OTHERS, STATEFUL), Act.FAIL, Code.UPSTREAM_FAILED, id="500-of-a-stateful"),
        pytest.param(status(429, NO_BUDGET), Act.NEXT, None, id="429-costs-no-budget"),
        pytest.param(status(429, LAST), Act.FAIL, Code.SATURATED, id="429-of-the-last"),
        pytest.param(status(503, NO_BUDGET, retry_after_s=7), Act.NEXT, None, id="503-with-a-time-is-full"),
        pytest.param(status(503, NO_BUDGET), Act.FAIL, Code.UPSTREAM_FAILED, id="503-without-is-a-failure"),
        pytest.param(status(421, NO_BUDGET, refusal="gone"), Act.NEXT, None, id="gone-moves"),
        pytest.param(status(421, LAST, refusal="gone"), Act.FAIL, Code.NO_REPLICA, id="gone-everywhere"),
        pytest.param(status(503, NO_BUDGET, refusal="draining"), Act.NEXT, None, id="draining-moves"),
        pytest.param(status(503, LAST, refusal="draining"), Act.FAIL, Code.DRAINING, id="all-drain"),
        pytest.param(status(503, NO_BUDGET, refusal="loading"), Act.NEXT, None, id="loading-moves"),
        pytest.param(status(503, LAST, refusal="loading"), Act.FAIL, Code.MODEL_LOADING, id="all-load"),
        pytest.param(status(429, NO_BUDGET, refusal="full"), Act.NEXT, None, id="full-moves"),
        pytest.param(
            status(503, refusal="expired"), Act.FAIL, Code.UPSTREAM_TIMEOUT, id="an-expired-deadline-ends-it"
        ),
        pytest.param(
            status(429, OTHERS, STATEFUL), Act.NEXT, None, id="a-stateful-request-refused-was-not-served"
        ),
    ],
)
def test_answers(decision: Decision, act: Act, code: Code | None) -> None:
    """Kills: 5xx always retried, 4xx retried, capacity spending budget, refusals relayed."""
    assert (decision.act, decision.code) == (act, code)


def test_only_missing_models_are_learned_as_gone() -> None:
    """Kills: learn_gone on any move, none on the last candidate."""
    assert status(421, refusal="gone").learn_gone
    assert status(421, refusal="stale_epoch").learn_gone
    assert status(421, LAST, refusal="gone").learn_gone
    assert status(404, hint=Hint.MISSING_MODEL).learn_gone
    assert not status(404).learn_gone
    assert not status(429, refusal="full").learn_gone
    assert not status(503, refusal="draining").learn_gone


@pytest.mark.parametrize(
    ("decision", "hold_s"),
    [
        pytest.param(
            status(429, refusal="full", retry_after_s=40), 3.75, id="an-owner-reports-its-load-anyway"
        ),
        pytest.param(status(429, refusal="full"), 0.625, id="an-owner-that-names-no-time"),
        pytest.param(status(429, retry_after_s=40), 50.0, id="a-provider-is-believed"),
        pytest.param(status(503, retry_after_s=4000), 375.0, id="up-to-five-minutes"),
        pytest.param(status(429), 0.625, id="a-moment-without-a-word"),
        pytest.param(status(429, replace(OTHERS, full_before=2)), 2.5, id="longer-when-it-says-so-again"),
        pytest.param(status(429, replace(OTHERS, draw=0.0), retry_after_s=8), 8.0, id="senders-spread"),
        pytest.param(status(503, refusal="loading", retry_after_s=9), 0.0, id="loading-is-not-full"),
        pytest.param(status(500), 0.0, id="a-failure-is-not-full"),
    ],
)
def test_full_endpoints_are_not_asked_for_a_while(decision: Decision, hold_s: float) -> None:
    """Kills: caps swapped, no floor, hold on loading."""
    assert decision.full_hold_s == hold_s


def test_at_most_three_full_owners_are_asked_and_the_least_wait_is_told() -> None:
    """Kills: MOST_FULL of 2 and 4, the greatest or last wait, no jitter."""
    progress, many = FRESH, replace(OTHERS, candidates_left=50, draw=0.0)
    for wait_s, act in [(20, Act.NEXT), (8, Act.NEXT), (30, Act.FAIL)]:
        decision = decide(progress, Outcome.STATUS, many, Answer(429, "full", retry_after_s=wait_s))
        progress = decision.progress
        assert decision.act is act
    assert progress.full == MOST_FULL == 3
    assert (decision.code, decision.retry_after_s) == (Code.SATURATED, 8)
    assert exhausted(progress, 0.999).retry_after_s == 12


def test_waits_grow_with_failures_and_moves_do_not_wait() -> None:
    """Kills: delay on NEXT, back-off counted by attempts instead of failures."""
    moved = status(429)
    assert moved.delay_s == 0
    first = decide(moved.progress, Outcome.RESET_BEFORE_FIRST_BYTE, replace(OTHERS, draw=1.0))
    second = decide(first.progress, Outcome.RESET_BEFORE_FIRST_BYTE, replace(OTHERS, draw=1.0))
    assert (first.delay_s, second.delay_s) == (pytest.approx(0.025), pytest.approx(0.075))


@pytest.mark.parametrize(
    ("progress", "code", "retry_s"),
    [
        pytest.param(Progress(), Code.NO_REPLICA, 5, id="nobody-was-asked"),
        pytest.param(
            Progress(full=1, wait_s=2, loading=1, failures=1, timed_out=1, draining=1), Code.SATURATED, 2,
            id="full-before-all",
        ),
        pytest.param(
            Progress(loading=1, eta_s=9, failures=1, timed_out=1, draining=1), Code.MODEL_LOADING, 9,
            id="loading-before-failures",
        ),
        pytest.param(Progress(loading=1), Code.MODEL_LOADING, 5, id="loading-without-an-estimate"),
        pytest.param(Progress(timed_out=1, failures=2), Code.UPSTREAM_TIMEOUT, 0, id="silence-before-resets"),
        pytest.param(
            Progress(failures=2, unreachable=1, draining=1), Code.UPSTREAM_FAILED, 0, id="one-connected"
        ),
        pytest.param(Progress(failures=2, unreachable=2), Code.NO_REPLICA, 5, id="none-connected"),
        pytest.param(Progress(draining=1, failures=1, unreachable=1), Code.DRAINING, 5, id="draining"),
    ],
)  # fmt: skip
def test_exhausted(progress: Progress, code: Code, retry_s: int) -> None:
    """Kills: any two rows of the order swapped."""
    decision = exhausted(progress, 0.0)
    assert (decision.act, decision.code, decision.retry_after_s) == (Act.FAIL, code, retry_s)


@pytest.mark.parametrize(
    ("retrying", "active", "free"),
    [
        (0, 0, True),
        (2, 1, True),
        (3, 1, False),
        (3, 19, False),
        (3, 20, True),
        (19, 100, True),
        (20, 100, False),
    ],
)
def test_budget(retrying: int, active: int, free: bool) -> None:
    """Kills: `<=`, minimum ignored, min() for max()."""
    assert budget_free(retrying, active) is free


def test_a_replay_is_remembered_until_the_next_endpoint_is_asked() -> None:
    """Kills: `replayed` never set (an endless replay), kept for the next endpoint."""
    replayed = decide(FRESH, Outcome.REUSED_CONNECTION_LOST, OTHERS).progress
    assert replayed == Progress(replayed=True)
    moved = decide(replayed, Outcome.REUSED_CONNECTION_LOST, OTHERS)
    assert moved.act is Act.RETRY
    assert decide(moved.progress, Outcome.REUSED_CONNECTION_LOST, OTHERS).act is Act.REPLAY


def test_budget_follows_its_settings() -> None:
    assert not budget_free(0, 100, least=0, ratio=0.0)
    assert budget_free(49, 100, least=0, ratio=0.5)


def test_status_without_a_head_is_a_failure() -> None:
    assert decide(FRESH, Outcome.STATUS, OTHERS).act is Act.RETRY


answers = st.builds(
    Answer,
    st.sampled_from([200, 400, 404, 421, 429, 500, 501, 503]),
    st.sampled_from([None, None, "gone", "full", "draining", "loading", "expired", "new"]),
    st.floats(0, 1e4),
    st.sampled_from(Hint),
)
contexts = st.builds(
    Context, st.integers(0, 40), st.booleans(), st.floats(0, 1, exclude_max=True), st.booleans()
)
steps = st.lists(st.tuples(st.sampled_from(Outcome), contexts, answers), min_size=1, max_size=60)


@given(st.booleans(), steps)
def test_whatever_happens_a_request_ends(
    stateless: bool, history: list[tuple[Outcome, Context, Answer]]
) -> None:
    """Drive it as the data plane does, until it stops.

    Kills: MOST_ATTEMPTS ignored on moves or on retries, `replayed` never set or never cleared, FAIL without a
    code, Retry-After out of range, a written stateful request sent again after a failure.
    """
    progress = Progress(stateless=stateless)
    replays = 0
    for outcome, context, answer in history:
        before = progress
        decision = decide(progress, outcome, context, answer)
        progress = decision.progress
        assert (decision.code is not None) == (decision.act is Act.FAIL)
        assert 0 <= decision.retry_after_s <= 60
        assert 0 <= decision.delay_s <= 0.25
        if decision.act in {Act.ANSWER, Act.FAIL}:
            return
        if decision.act is Act.REPLAY:
            assert not before.replayed
            assert progress.attempts == before.attempts
            assert progress.failures == before.failures
            replays += 1
        else:
            assert context.candidates_left
            assert progress.attempts == before.attempts + 1 <= MOST_ATTEMPTS
            assert not progress.replayed
        if decision.act is Act.RETRY:
            assert context.budget_free
            assert stateless or outcome is Outcome.CONNECT_FAILED or not context.written
    assert progress.attempts < MOST_ATTEMPTS or not history
    assert replays <= progress.attempts + 1


def test_an_endless_row_of_draining_owners_ends() -> None:
    """Kills: MOST_ATTEMPTS ignored where moves are free."""
    progress, many = FRESH, replace(OTHERS, candidates_left=1000)
    count, act = 0, Act.NEXT
    while act is Act.NEXT and count < 100:
        decision = decide(progress, Outcome.STATUS, many, Answer(503, "draining"))
        count, act, progress = count + 1, decision.act, decision.progress
    assert (count, act) == (MOST_ATTEMPTS, Act.FAIL)


def test_an_endless_row_of_resets_ends() -> None:
    """Kills: MOST_ATTEMPTS ignored where the budget allows."""
    progress, many = FRESH, replace(OTHERS, candidates_left=1000)
    count, act = 0, Act.RETRY
    while act is Act.RETRY and count < 100:
        decision = decide(progress, Outcome.RESET_BEFORE_FIRST_BYTE, many)
        count, act, progress = count + 1, decision.act, decision.progress
    assert (count, act) == (MOST_ATTEMPTS, Act.FAIL)


def test_the_least_estimate_of_loading_owners_is_told() -> None:
    """Kills: max for min, an owner without an estimate counting as 0."""
    progress = FRESH
    for eta_s in (30, 0, 12):
        progress = status(503, OTHERS, progress, refusal="loading", retry_after_s=eta_s).progress
    assert exhausted(progress, 0.0).retry_after_s == 12
