"""What the ends of attempts mean to the endpoint asked: see :class:`sidecar.routing.balancing.Stake`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.core.attempts import Act, Decision, Outcome, Progress
from sidecar.dataplane.event_relay import is_silence

if TYPE_CHECKING:
    from sidecar.core.answers import Answer
    from sidecar.core.candidate import Candidate
    from sidecar.dataplane.relay import Relay
    from sidecar.dataplane.upstream import Upstream
    from sidecar.routing.balancing import Stake

_ERRORS_FROM: Final = 400


def ended(
    stake: Stake,
    candidate: Candidate,
    outcome: Outcome,
    answer: Answer | None,
    before: Progress,
    decision: Decision,
    now_s: float,
) -> None:
    """Report how an attempt ended, as far as ``decision`` ends it. ``before``: progress until then."""
    if decision.act is Act.REPLAY:
        return
    if decision.act is Act.ANSWER:
        stake.alive(now_s)
    elif outcome is Outcome.CONNECT_FAILED:
        stake.unconnected(now_s, node=not candidate.local)
    elif outcome is not Outcome.STATUS:
        stake.broke(now_s)
    elif decision.progress.failures > before.failures:
        stake.failed(now_s)
    else:
        stake.busy(now_s, answer.retry_after_s if answer is not None else 0.0)


def begins_answer(upstream: Upstream | None, relay: Relay, data: bytes) -> bool:
    """Whether ``data`` is the first of the answer that was asked for: no error, no comment of a stream."""
    return (
        upstream is not None and upstream.status < _ERRORS_FROM and (relay.committed or not is_silence(data))
    )
