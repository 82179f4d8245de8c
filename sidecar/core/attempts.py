"""What follows from how an attempt ended (PROTOCOL section 5): a table of outcomes as one total function.

The shell reports an outcome only while nothing of an answer has reached the client; after that there is
nothing left to decide. It never asks the same endpoint twice, except for the one replay on a fresh
connection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from sidecar.core.answers import Answer, Refusal, Verdict, judge
from sidecar.core.backoff import full_jitter_s, retry_after_s
from sidecar.core.retry_after import hold_s
from swarmplane.errors import Code

MOST_FULL: Final = 3
"""Owners that may answer "full" before the client is told so."""
MOST_ATTEMPTS: Final = 16
"""Endpoints asked for one request, whatever they answer."""
LOADING_RETRY_S: Final = 5.0
"""Retry-After of a model that loads where nobody estimates how long."""
NO_REPLICA_RETRY_S: Final = 5.0


class Outcome(Enum):
    """How an attempt ended before the client got anything."""

    CONNECT_FAILED = auto()
    """The connection was never made; nothing was written."""
    REUSED_CONNECTION_LOST = auto()
    """A pooled connection ended before any byte of an answer."""
    RESET_BEFORE_FIRST_BYTE = auto()
    """A fresh connection ended, or spoke no HTTP, before the first byte of a body."""
    FIRST_BYTE_TIMEOUT = auto()
    TRUNCATED = auto()
    """A collected answer ended early; its head was held back."""
    STATUS = auto()
    """A whole head of an answer is there."""


class Act(Enum):
    """What the shell does next."""

    ANSWER = auto()
    """Relay this answer."""
    NEXT = auto()
    """Ask the next candidate; costs no budget."""
    RETRY = auto()
    """Ask the next candidate after ``delay_s``, holding a unit of retry budget while it runs."""
    REPLAY = auto()
    """Send again to the same endpoint on a fresh connection."""
    FAIL = auto()
    """Answer the client with ``code``."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a request went through so far. The shell keeps it and passes it back unchanged."""

    stateless: bool = True
    """Whether it may be sent again once written: generation that leaves nothing behind."""
    attempts: int = 0
    """Endpoints asked, replays not counted; for ``x-swarm-attempts`` add the one that answers."""
    failures: int = 0
    full: int = 0
    loading: int = 0
    draining: int = 0
    unreachable: int = 0
    """Of ``failures``: those where no connection was made."""
    timed_out: int = 0
    replayed: bool = False
    """Whether the present attempt has had its replay."""
    wait_s: float = 0.0
    """Least wait that a full owner named."""
    eta_s: float = 0.0
    """Least estimate that a loading owner named; 0: none did."""


@dataclass(frozen=True, slots=True)
class Decision:
    """``act``, and what the shell records besides. ``progress`` replaces the request's own."""

    act: Act
    progress: Progress
    delay_s: float = 0.0
    code: Code | None = None
    """Set with FAIL only."""
    retry_after_s: int = 0
    """Value of ``Retry-After`` with FAIL; 0: none."""
    learn_gone: bool = False
    """The endpoint does not have the model: drop it until a newer table, and inventory again."""
    unreachable: bool = False
    """The endpoint could not be connected to: eject it for a while."""
    full_hold_s: float = 0.0
    """Do not ask this endpoint again, for any request, for this long."""


@dataclass(frozen=True, slots=True)
class Context:
    """What holds at the moment of a decision."""

    candidates_left: int
    """Permitted candidates that were not asked yet."""
    budget_free: bool
    """See :func:`budget_free`."""
    draw: float
    """Uniform in [0, 1)."""
    written: bool = True
    """Whether any byte of the request was written to the connection that ended."""
    full_before: int = 0
    """How often in a row the endpoint answered "full" before this answer, whomever it answered."""


def budget_free(retrying: int, active: int, *, least: int = 3, ratio: float = 0.2) -> bool:
    """Whether one more retry may run: at most ``least``, or ``ratio`` of the ``active`` requests if more."""
    return retrying < max(least, int(active * ratio))


def decide(progress: Progress, outcome: Outcome, context: Context, answer: Answer | None = None) -> Decision:
    """What to do after an attempt ended with ``outcome``.

    Args:
        progress: From the last decision, or a new one.
        outcome: How it ended.
        context: Candidates, budget and draw.
        answer: The head that came; needed with STATUS, ignored otherwise.
    """
    if outcome is Outcome.STATUS:
        return _after_answer(progress, answer or Answer(502), context)
    if outcome is Outcome.REUSED_CONNECTION_LOST and not progress.replayed:
        if progress.stateless or not context.written:
            return Decision(Act.REPLAY, replace(progress, replayed=True))
        return _failed(progress, context)
    if outcome is Outcome.CONNECT_FAILED:
        decision = _failed(replace(progress, unreachable=progress.unreachable + 1), context, sent=False)
        return replace(decision, unreachable=True)
    if outcome is Outcome.FIRST_BYTE_TIMEOUT:
        return _failed(replace(progress, timed_out=progress.timed_out + 1), context)
    return _failed(progress, context, sent=context.written)


def _after_answer(progress: Progress, answer: Answer, context: Context) -> Decision:
    verdict, refusal = judge(answer)
    if verdict is Verdict.RELAY:
        return Decision(Act.ANSWER, progress)
    if verdict is Verdict.FAILURE:
        return _failed(progress, context)
    asked = _asked(progress)
    if verdict is Verdict.EXPIRED:
        return _fail(asked, Code.UPSTREAM_TIMEOUT)
    if verdict is Verdict.FULL:
        return _after_full(asked, answer, context, owner_said=refusal is Refusal.FULL)
    if verdict is Verdict.GONE:
        return replace(_moved(asked, context), learn_gone=True)
    if verdict is Verdict.DRAINING:
        asked = replace(asked, draining=asked.draining + 1)
    else:
        eta_s = _least(asked.eta_s, answer.retry_after_s)
        asked = replace(asked, loading=asked.loading + 1, eta_s=eta_s)
    return _moved(asked, context)


def _after_full(asked: Progress, answer: Answer, context: Context, *, owner_said: bool) -> Decision:
    hold = hold_s(answer.retry_after_s, owner_said=owner_said, times=context.full_before, draw=context.draw)
    # The client is told what the endpoint said; of one that said nothing, how long we leave it alone.
    wait_s = answer.retry_after_s or max(hold, 1.0)
    after = replace(asked, full=asked.full + 1, wait_s=_least(asked.wait_s, wait_s))
    return replace(_moved(after, context), full_hold_s=hold)


def _moved(progress: Progress, context: Context) -> Decision:
    if progress.full >= MOST_FULL or not context.candidates_left or progress.attempts >= MOST_ATTEMPTS:
        return exhausted(progress, context.draw)
    return Decision(Act.NEXT, progress)


def _failed(progress: Progress, context: Context, *, sent: bool = True) -> Decision:
    after = replace(_asked(progress), failures=progress.failures + 1)
    repeatable = progress.stateless or not sent
    # The first-byte clock fires once: a second silence is the model's pace, not the node's fault.
    once = after.timed_out <= 1
    room = context.candidates_left > 0 and after.attempts < MOST_ATTEMPTS
    if repeatable and once and room and context.budget_free:
        return Decision(Act.RETRY, after, delay_s=full_jitter_s(after.failures, context.draw))
    return exhausted(after, context.draw)


def _asked(progress: Progress) -> Progress:
    return replace(progress, attempts=progress.attempts + 1, replayed=False)


def _least(known: float, new: float) -> float:
    return min(known, new) if known and new else known or new


def exhausted(progress: Progress, draw: float) -> Decision:
    """The refusal that tells the client most about what the asked endpoints answered.

    Full before loading before broken: each says more about when to come again than the next. Where no
    endpoint could even be connected to, or none has the model any more, there is no replica: nothing failed
    while serving.
    """
    if progress.full:
        return _fail(progress, Code.SATURATED, retry_after_s(progress.wait_s, draw))
    if progress.loading:
        return _fail(progress, Code.MODEL_LOADING, retry_after_s(progress.eta_s or LOADING_RETRY_S, draw))
    if progress.timed_out:
        return _fail(progress, Code.UPSTREAM_TIMEOUT)
    if progress.failures > progress.unreachable:
        return _fail(progress, Code.UPSTREAM_FAILED)
    if progress.draining:
        return _fail(progress, Code.DRAINING, retry_after_s(NO_REPLICA_RETRY_S, draw))
    return _fail(progress, Code.NO_REPLICA, retry_after_s(NO_REPLICA_RETRY_S, draw))


def _fail(progress: Progress, code: Code, retry_s: int = 0) -> Decision:
    return Decision(Act.FAIL, progress, code=code, retry_after_s=retry_s)
