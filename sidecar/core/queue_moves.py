"""Which queued attempts are withdrawn, to go to a node that became free (PROTOCOL section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sidecar.core.candidate import Candidate
from sidecar.core.queue_values import Priority
from swarmplane.ids import EndpointId

MOST_MOVES: Final = 2
LEAST_GAIN_S: Final = 0.25
"""Below this a move costs more than it brings."""


@dataclass(frozen=True, slots=True)
class QueuedAttempt:
    """An attempt whose owner last reported ``queued`` (never ``running``, nor silence)."""

    request: int
    """The shell's number for it."""
    endpoint: EndpointId
    """Where it waits."""
    since_s: float
    """When the request began to wait anywhere: goes along as ``x-swarm-queued-ms``."""
    expected_wait_s: float
    """Requests ahead and itself, times the mean service time, over the slots there."""
    moves: int = 0
    priority: Priority = Priority.DEFAULT
    permitted: frozenset[EndpointId] | None = None
    """Endpoints that the request may go to (pins, filters, those not asked yet); None: any."""


@dataclass(frozen=True, slots=True)
class Move:
    """The shell closes the queued attempt, and only then sends the request to ``to``, with its age.

    Should ``to`` refuse, the request goes on as after any "full", and may return to where it waited: its age
    gives it its place.
    """

    request: int
    to: Candidate


def free_slots(candidate: Candidate) -> int:
    """Slots known to be free; 0 where the owner's report is old, slots are unknown, or it is suspect."""
    if not candidate.load_known or candidate.suspect or not candidate.endpoint.ready:
        return 0
    return max(candidate.slots - candidate.in_flight - candidate.queued, 0)


def moves(queued: Sequence[QueuedAttempt], candidates: Sequence[Candidate], draw: float) -> tuple[Move, ...]:
    """Whom to move, given all our queued attempts for a model. Call it when a load report shows a free slot.

    The most urgent go first, then those that waited longest; each free slot is given once. All senders of
    the swarm see the same slot: each takes it with the share that its queued attempts have of all that are
    queued, so that one of them comes, not all. O(queued * candidates), and 0.2 µs for each candidate where
    nothing is free.

    Args:
        queued: Of this node; the attempts themselves are counted in their candidates' ``queued``.
        candidates: Admitted ones of the model.
        draw: Uniform in [0, 1).
    """
    free = {c.endpoint.id: n for c in candidates if (n := free_slots(c))}
    if not free or not queued:
        return ()
    by_id = {c.endpoint.id: c for c in candidates}
    everybody = max(sum(c.queued for c in candidates), len(queued))
    # The expected number, rounded up or down by the draw: over all senders it adds up to the free slots.
    allowed = int(sum(free.values()) * len(queued) / everybody + draw)
    taken: list[Move] = []
    for attempt in sorted(queued, key=lambda q: (q.priority, q.since_s, q.request)):
        if len(taken) >= allowed:
            break
        if attempt.moves >= MOST_MOVES or attempt.expected_wait_s < LEAST_GAIN_S:
            continue
        fit = [
            key
            for key, left in free.items()
            if left and key != attempt.endpoint and (attempt.permitted is None or key in attempt.permitted)
        ]
        if fit:
            best = max(fit, key=lambda key: (by_id[key].local, free[key]))
            free[best] -= 1
            taken.append(Move(attempt.request, by_id[best]))
    return tuple(taken)
