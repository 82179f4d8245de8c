"""What it would cost to send a request to a candidate: expected seconds to the first token, term by term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sidecar.core.candidate import ASSUMED_SLOTS, UNKNOWN_FACTS, Candidate, Facts, Warmth
from sidecar.core.estimates import DEFAULT_TOKENS_PER_S, REVISIT_S, Latency
from sidecar.core.estimates_history import NodeHistory
from sidecar.core.prefix import BLOCK_TOKENS
from sidecar.core.session import Session

TERMS: Final = (
    "thermal",
    "memory_fit",
    "queue",
    "latency",
    "affinity",
    "trend",
    "context",
    "prefix",
    "session",
    "hop",
)
THERMAL, MEMORY_FIT, QUEUE, LATENCY, AFFINITY, TREND, CONTEXT, PREFIX, SESSION, HOP = range(len(TERMS))

RESERVED_TOKENS: Final = 256
"""Room for an answer that a context must have besides the prompt."""
CONTEXT_S: Final = 2.0
"""What it costs if the context would cut the answer off, for the whole of it."""
UNKNOWN_LOAD_S: Final = 10.0
"""Load time of a model of unknown size."""
CACHED_LOAD: Final = 0.3
"""Share of the load time that is left while the file is in the page cache."""
FIT_FACTOR: Final = 1.1
"""Memory that a model takes, in sizes of it: context and buffers come on top."""
PRESSURE_LIMIT: Final = 0.8
PRESSURE_S: Final = 5.0
"""At full memory pressure; below the limit nothing."""
AFFINITY_SHARE: Final = 0.1
"""Of the mean service time: what a node of quite the wrong size costs."""
KV_LIMIT: Final = 0.9
KV_S: Final = 2.0
"""With all of the context memory in use, beyond the limit: a new prompt waits, or drives another one out."""
OVERHEATED_S: Final = 1.0
"""A host that is too hot slows down soon, whatever it was measured to do."""
MOST_UNLIKE: Final = 8.0
"""So many times faster or slower at most is an endpoint believed to be for what its owner tells of it."""
SUSPECT_S: Final = 5.0
FLAP_S: Final = 1.0
OWNER_ACTIVE_S: Final = 1.0
SESSION_LEAST_S: Final = 0.03
SESSION_MOST_S: Final = 0.5
SESSION_SHARE: Final = 0.5
"""Of the time to the first token: the bonus of the endpoint that served the session, within the bounds."""
SHARING: Final = 0.5
"""What a request that runs beside ours, in a slot of its own, costs of one that we must wait for."""
UNKNOWN_BUSY: Final = 0.5
"""Share of its slots that an endpoint without a fresh report is taken to use: unknown is not idle."""


class Excluded(Enum):
    """Why a candidate is not asked. :func:`exclusion` finds the first two; resolving finds the others."""

    MEMORY_FIT = "memory_fit"
    CONTEXT = "context"
    NOT_READY = "not_ready"
    LOADING = "loading"
    DRAINING = "draining"
    GONE = "gone"
    FULL = "full"
    EJECTED = "ejected"
    PINNED_ELSEWHERE = "pinned_elsewhere"
    NOT_LOCAL = "not_local"
    CLOUD_LAST = "cloud_last"
    """A provider's: asked when nobody else can serve the model."""
    CLOUD_NAMED = "cloud_named"
    """A provider's: asked for models that are called by its name."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What choosing needs of a request."""

    model: str
    """Canonical name."""
    prompt_tokens: int = 0
    """Estimated."""
    max_tokens: int = 0
    """As asked for; 0: not said."""
    blocks: tuple[bytes, ...] = ()
    """Of :func:`sidecar.core.prefix.block_hashes`."""
    session: bytes = b""
    """Of :func:`sidecar.core.session.session_key`; empty: none."""
    shard: int = -1
    """Index within its batch; -1: none. For ``batch_shard``."""
    batch: str = ""
    """For ``batch_shard``."""
    turn: int = 0
    """Counts up with every request of the model at this host. For ``round_robin``."""
    preferred: tuple[str, ...] = ()
    """Node names or ids, best first. For ``failover``."""

    @property
    def needed_tokens(self) -> int:
        """What a context must hold: the prompt, and a short answer at least."""
        return self.prompt_tokens + min(self.max_tokens or RESERVED_TOKENS, RESERVED_TOKENS)


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A candidate's cost with its parts, for people: headers, traces, ``swarmctl explain``."""

    candidate: Candidate
    terms: Mapping[str, float]
    """Seconds by the names of :data:`TERMS`, in that order; their sum is the cost."""
    excluded: Excluded | None = None

    @property
    def cost_s(self) -> float:
        """The cost by which it was ranked."""
        return sum(self.terms.values())

    def header(self) -> str:
        """``total;term=seconds,…`` with the terms that are not 0, or ``excluded;reason``."""
        if self.excluded is not None:
            return f"excluded;{self.excluded.value}"
        parts = ",".join(f"{name}={value:.3f}" for name, value in self.terms.items() if value)
        return f"{self.cost_s:.3f};{parts}"


def exclusion(candidate: Candidate, ask: Ask) -> Excluded | None:
    """Why ``candidate`` can't serve the request, as far as is known; None if it can."""
    if ask.needed_tokens > candidate.endpoint.context_length > 0:
        return Excluded.CONTEXT
    facts = candidate.facts
    if (
        facts.warmth in _TO_LOAD
        and facts.free_bytes >= 0
        and facts.size_bytes * FIT_FACTOR > facts.free_bytes
    ):
        return Excluded.MEMORY_FIT
    return None


_TO_LOAD: Final = frozenset({Warmth.RECENT, Warmth.COLD})


def price(
    candidate: Candidate,
    ask: Ask,
    latency: Latency,
    pool: Latency,
    node: NodeHistory,
    matched_blocks: int,
    session: Session | None,
    now_s: float,
) -> list[float]:
    """The terms of ``candidate``'s cost, in seconds, in the order of :data:`TERMS`. Costs 0.7 µs.

    ``latency`` is of this model at this endpoint, ``pool`` of the model anywhere, ``node`` of the owner;
    ``matched_blocks`` leading blocks of the prompt are cached there. Whether it is excluded does not matter.
    """
    endpoint, facts, tokens = candidate.endpoint, candidate.facts, ask.prompt_tokens
    unit_s = latency.unit_s
    if now_s - latency.at_s > REVISIT_S:
        unit_s = latency.doubted(pool, now_s)
    first_s = unit_s * (latency.offset + tokens)
    cached_s = unit_s * min(matched_blocks * BLOCK_TOKENS, tokens) if matched_blocks else 0.0
    slots = candidate.slots or ASSUMED_SLOTS
    ahead: float = candidate.in_flight + candidate.queued
    if not candidate.load_known and not candidate.local:
        ahead += slots * UNKNOWN_BUSY
    bonus_s = 0.0
    if session is not None and session.endpoint == endpoint.id and not session.running.get(endpoint.id):
        bonus_s = -min(max((first_s - cached_s) * SESSION_SHARE, SESSION_LEAST_S), SESSION_MOST_S)
    trend_s = SUSPECT_S if candidate.suspect else 0.0
    if node.has_flapped:
        trend_s += FLAP_S * node.flaps(now_s)
    terms = [
        0.0,
        0.0,
        (SHARING * ahead / slots if ahead < slots else _turns(ahead, slots)) * latency.service_s,
        first_s + latency.penalty(now_s) if latency.penalty_s else first_s,
        0.0,
        trend_s,
        _context_s(endpoint.context_length, ask) if endpoint.context_length else 0.0,
        -cached_s,
        bonus_s,
        0.0 if candidate.local else node.round_trip_s,
    ]
    if facts is not UNKNOWN_FACTS:
        if latency is pool and facts.tokens_per_s:
            _scale(terms, facts.tokens_per_s, pool)
        _add_facts(terms, facts, node, latency.service_s)
    return terms


def _turns(ahead: float, slots: int) -> float:
    """How many mean service times those ``ahead`` cost where they hold the slot that is needed."""
    return (ahead + 1 - slots + SHARING * (slots - 1)) / slots


def _context_s(context_length: int, ask: Ask) -> float:
    """What it costs that the answer may be cut off before ``max_tokens``."""
    cut = ask.prompt_tokens + ask.max_tokens - context_length
    return CONTEXT_S * min(cut / ask.max_tokens, 1.0) if cut > 0 < ask.max_tokens else 0.0


def _scale(terms: list[float], tokens_per_s: float, pool: Latency) -> None:
    """What was never measured here takes as much longer as its owner says it writes slower."""
    if pool.tokens_per_s == DEFAULT_TOKENS_PER_S:
        return
    ratio = min(max(pool.tokens_per_s / tokens_per_s, 1.0 / MOST_UNLIKE), MOST_UNLIKE)
    terms[QUEUE] *= ratio
    terms[LATENCY] *= ratio
    terms[PREFIX] *= ratio


def _add_facts(terms: list[float], facts: Facts, node: NodeHistory, service_s: float) -> None:
    if facts.warmth is not Warmth.LOADED:
        terms[THERMAL] = _thermal_s(facts, node)
    if facts.overheated:
        terms[THERMAL] += OVERHEATED_S
    if facts.pressure > PRESSURE_LIMIT:
        terms[MEMORY_FIT] = (facts.pressure - PRESSURE_LIMIT) / (1.0 - PRESSURE_LIMIT) * PRESSURE_S
    if facts.kv_used > KV_LIMIT:
        terms[MEMORY_FIT] += (facts.kv_used - KV_LIMIT) / (1.0 - KV_LIMIT) * KV_S
    if facts.misfit:
        terms[AFFINITY] = facts.misfit * AFFINITY_SHARE * service_s
    if facts.owner_active:
        terms[TREND] += OWNER_ACTIVE_S


def _thermal_s(facts: Facts, node: NodeHistory) -> float:
    """Seconds until a model that is not loaded is."""
    load_s = facts.size_bytes / node.load_bytes_per_s if facts.size_bytes else UNKNOWN_LOAD_S
    if facts.warmth is Warmth.LOADING:
        return facts.load_left_s or load_s / 2.0
    return load_s * CACHED_LOAD if facts.warmth is Warmth.RECENT else load_s


def breakdown(candidate: Candidate, terms: Sequence[float], excluded: Excluded | None) -> Breakdown:
    """The value that people see of what :func:`price` gave."""
    return Breakdown(candidate, dict(zip(TERMS, terms, strict=True)), excluded)
