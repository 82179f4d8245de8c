"""Rules that change what candidates cost once all of them are priced."""

from __future__ import annotations

from typing import Final

from sidecar.core import cost
from sidecar.core.candidate import ASSUMED_SLOTS, Candidate, Warmth
from sidecar.core.choosing_picks import NEAR_S, NEAR_SHARE
from sidecar.core.estimates_history import ModelHistory
from sidecar.core.session import Session

WAITING_FACTOR: Final = 4.0
"""A request waits at a full endpoint only if that is so many times cheaper than one with a free slot."""
FORGIVEN_S: Final = 1.0
"""What is left of a failure's penalty when a free slot there counts as one again."""
STACKED_FACTOR: Final = 2.0
STACKED_S: Final = 0.03
"""How much more a second request of a session costs at the endpoint that runs the first, beside an idle one:
beyond any tie."""

Row = tuple[float, Candidate, list[float]]
"""Cost, whose, and its terms."""


def unstack(rows: list[Row], session: Session) -> None:
    """No affinity draws two requests of one session to one endpoint while another is idle."""
    for place, (_, candidate, terms) in enumerate(rows):
        if session.running.get(candidate.endpoint.id):
            terms[cost.PREFIX] = 0.0
            terms[cost.SESSION] = abs(sum(terms)) * (STACKED_FACTOR - 1.0) + STACKED_S
            rows[place] = (sum(terms), candidate, terms)


def drop_credits(rows: list[Row]) -> None:
    """A cached prefix counts nothing where the endpoint's excess load costs more."""
    least_s = min(row[2][cost.QUEUE] for row in rows)
    for place, (_, candidate, terms) in enumerate(rows):
        if terms[cost.PREFIX] < 0.0 and terms[cost.QUEUE] - least_s > -terms[cost.PREFIX]:
            terms[cost.PREFIX] = 0.0
            rows[place] = (sum(terms), candidate, terms)


def charge_waiting(rows: list[Row], free_s: float) -> None:
    """Nobody waits beside a free slot, which costs ``free_s``, unless that is many times slower.

    The charge, part of ``queue``, puts who is full beyond a tie. Waiting for a cached prompt is not charged:
    its queue is weighed against its credit already, and reading the prompt again elsewhere would keep a slot
    from others for longer than it waits.
    """
    for place, (total_s, candidate, terms) in enumerate(rows):
        full = 0 < candidate.slots <= candidate.in_flight + candidate.queued
        if full and not terms[cost.PREFIX] and total_s * WAITING_FACTOR >= free_s:
            terms[cost.QUEUE] += abs(free_s) * (1.0 + NEAR_SHARE) + NEAR_S
            rows[place] = (sum(terms), candidate, terms)


def free(rows: list[Row], models: ModelHistory, now_s: float) -> list[Row]:
    """Those which are loaded, trusted, have not failed just now, and have a free slot."""
    found = []
    for row in rows:
        candidate = row[1]
        if (
            candidate.in_flight + candidate.queued < (candidate.slots or ASSUMED_SLOTS)
            and not candidate.suspect
            and candidate.facts.warmth is Warmth.LOADED
        ):
            latency = models.by_endpoint.get(candidate.endpoint.id)
            if latency is None or not latency.penalty_s or latency.penalty(now_s) < FORGIVEN_S:
                found.append(row)
    return found
