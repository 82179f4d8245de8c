"""The data plane's counters as metrics; names as in INTERFACE "Metrics"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sidecar.dataplane.counters import Counters
from swarmplane.exposition import Family, family


def counter_families(counters: Counters) -> list[Family]:
    """Families of everything that ``counters`` hold now."""
    first = counters.attempts - counters.retries - counters.moves - counters.replays
    reasons = {
        "first": max(first, 0),
        "retry": counters.retries,
        "move": counters.moves,
        "replay": counters.replays,
    }
    return [
        family(
            "swarmplane_requests_total",
            "counter",
            "Requests whose answer ended, by outcome.",
            _outcomes(counters),
        ),
        family(
            "swarmplane_attempts_total",
            "counter",
            "Attempts: first, retry of a failure, move from a full endpoint, or replay.",
            [({"reason": reason}, count) for reason, count in reasons.items()],
        ),
        family(
            "swarmplane_rejected_total",
            "counter",
            "Requests this sidecar answered with an error of its own, by code.",
            [({"code": code.slug}, n) for code, n in counters.rejected.items() if n],
        ),
        family(
            "swarmplane_cancelled_total",
            "counter",
            "Requests whose client left before the answer was whole.",
            counters.cancelled,
        ),
    ]


def _outcomes(counters: Counters) -> Sequence[tuple[Mapping[str, str], float]]:
    outcomes = {
        "completed": counters.completed,
        "cancelled": counters.cancelled,
        "broken": counters.broken,
        "rejected": sum(counters.rejected.values()),
    }
    return [({"outcome": outcome}, count) for outcome, count in outcomes.items()]
