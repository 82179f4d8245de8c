"""Records added up: what ``/metrics`` shows of requests. No input or output; names as in INTERFACE "Metrics".

A request is counted where it entered the swarm, once. What comes from a peer is counted apart, as a hop: sums
over all nodes count no request and no LLM token twice.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final

from sidecar.telemetry import record as records
from sidecar.telemetry.limits import LONGEST_TEXT, OTHER, Capped
from sidecar.telemetry.record import Record
from sidecar.telemetry.usage import Usage
from swarmplane.exposition import Family, family, histogram

DURATION_S: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68,
)  # fmt: skip
"""Buckets of OpenTelemetry's ``gen_ai`` conventions, and two more for long streams."""
FIRST_TOKEN_S: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
)  # fmt: skip
PER_TOKEN_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
)  # fmt: skip
MOST_MODELS: Final = 200
MOST_NODES: Final = 1000
MOST_ROWS: Final = 5000
"""Combinations of labels per family; more are counted with ``other`` for model and node."""

_DIALECTS: Final = ((b"/v1/messages", "anthropic"), (b"/api/", "ollama"))


def dialect_of(path: bytes) -> str:
    """The dialect that a client speaks at ``path``."""
    for start, dialect in _DIALECTS:
        if path.startswith(start):
            return dialect
    return "openai"


class Histogram:
    """Observations by bucket, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count ``value``."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Timings:
    """What a dialect and a model have in common: times and LLM tokens."""

    __slots__ = ("duration", "first_token", "input_tokens", "output_tokens", "per_token")

    def __init__(self) -> None:
        self.duration = Histogram(DURATION_S)
        self.first_token = Histogram(FIRST_TOKEN_S)
        self.per_token = Histogram(PER_TOKEN_S)
        self.input_tokens = 0
        self.output_tokens = 0

    def add(self, record: Record, usage: Usage) -> None:
        """Count a request that was not rejected."""
        took_s = record.ended_s - record.started_s
        duration = self.duration
        duration.counts[bisect_left(DURATION_S, took_s)] += 1
        duration.total += took_s
        taken, made, _ = usage
        if taken:
            self.input_tokens += taken
        if made:
            self.output_tokens += made
        if not record.streamed or not record.first_byte_s:
            return
        first_byte_s = record.first_byte_s
        self.first_token.observe(first_byte_s - record.started_s)
        if made and made > 1 and record.outcome == records.COMPLETED:
            self.per_token.observe((record.ended_s - first_byte_s) / (made - 1))


class Kind:
    """Requests that are told apart by nothing."""

    __slots__ = ("count", "timings")

    def __init__(self, timings: Timings) -> None:
        self.count = 0
        self.timings = timings


class Figures:
    """Everything that is counted per request, from the start of the process on."""

    def __init__(self) -> None:
        self._models = Capped(MOST_MODELS)
        self._nodes = Capped(MOST_NODES)
        self._seen: dict[tuple[bytes, str, str, str], Kind] = {}
        """What :attr:`_kinds` holds, by the values that come in; forgotten when it grows too long."""
        self._kinds: dict[tuple[str, str, str, str], Kind] = {}
        self._timings: dict[tuple[str, str], Timings] = {}
        self._hops: dict[tuple[str, ...], int] = {}
        self._rejected: dict[str, int] = {}
        self._attempts = dict.fromkeys(("first", "retry", "move", "hedge", "replay"), 0)
        self._cancelled = 0

    def add(self, record: Record, usage: Usage) -> None:
        """Count one request and what its answer says it used; costs about 1.5 microseconds."""
        if record.attempts == 1 and not record.replays:
            self._attempts["first"] += 1
        elif record.attempts:
            self._add_attempts(record)
        if record.origin:
            self._add_hop(record)
            return
        outcome = record.outcome
        key = (record.path, record.model, record.node, outcome)
        kind = self._seen.get(key) or self._kind(key)
        kind.count += 1
        if outcome is not records.COMPLETED:
            if outcome == records.REJECTED:
                self._rejected[record.code] = self._rejected.get(record.code, 0) + 1
                return
            if outcome == records.CANCELLED:
                self._cancelled += 1
        kind.timings.add(record, usage)

    def _kind(self, key: tuple[bytes, str, str, str]) -> Kind:
        path, model, node, outcome = key
        dialect = dialect_of(path)
        model = self._models.of(model) if model else ""
        node = self._nodes.of(node) if node else ""
        labels = (dialect, model, node, outcome)
        if labels not in self._kinds and len(self._kinds) >= MOST_ROWS:
            labels = (dialect, OTHER, OTHER, outcome)
        kind = self._kinds.get(labels)
        if kind is None:
            timings = self._timings.setdefault((dialect, labels[1]), Timings())
            kind = self._kinds[labels] = Kind(timings)
        if len(path) <= LONGEST_TEXT:  # Five thousand of those that nobody serves would take 300 MB.
            if len(self._seen) >= MOST_ROWS:
                self._seen.clear()
            self._seen[key] = kind
        return kind

    def _add_attempts(self, record: Record) -> None:
        attempts = self._attempts
        attempts["first"] += 1
        if record.attempts > 1:
            attempts["retry"] += record.retries
            attempts["move"] += record.moves
            attempts["hedge"] += record.hedges
        attempts["replay"] += record.replays

    def _add_hop(self, record: Record) -> None:
        model = self._models.of(record.model) if record.model else ""
        key = (model, self._nodes.of(record.origin), record.outcome, record.code)
        if key not in self._hops and len(self._hops) >= MOST_ROWS:
            key = (OTHER, OTHER, record.outcome, record.code)
        self._hops[key] = self._hops.get(key, 0) + 1

    def families(self, dropped: Mapping[str, int]) -> list[Family]:
        """All of it; ``dropped`` are pieces of telemetry that were lost, by kind."""
        return [
            family(
                "swarmplane_requests_total",
                "counter",
                "Requests of clients that ended, where they entered; node is who served.",
                _rows(
                    {labels: kind.count for labels, kind in self._kinds.items()},
                    ("dialect", "model", "node", "outcome"),
                ),
            ),
            self._histogram(
                "swarmplane_request_duration_seconds",
                "From a whole request to the last byte of its answer; without rejected ones.",
                DURATION_S,
                lambda timings: timings.duration,
            ),
            self._histogram(
                "swarmplane_time_to_first_token_seconds",
                "From a whole request to the first byte of a streamed answer.",
                FIRST_TOKEN_S,
                lambda timings: timings.first_token,
            ),
            self._histogram(
                "swarmplane_time_per_output_token_seconds",
                "Time per LLM token of a streamed answer, after its first.",
                PER_TOKEN_S,
                lambda timings: timings.per_token,
            ),
            family(
                "swarmplane_attempts_total",
                "counter",
                "Attempts: first, retry of a failure, move from a full one, hedge of a late one, or replay.",
                [({"reason": reason}, count) for reason, count in self._attempts.items()],
            ),
            family(
                "swarmplane_tokens_total",
                "counter",
                "LLM tokens that answers state, where their requests entered.",
                _rows(self._tokens(), ("direction", "model")),
            ),
            *self._refusals(),
            family(
                "swarmplane_telemetry_dropped_total",
                "counter",
                "Pieces of telemetry that were lost rather than waited for.",
                [({"kind": kind}, count) for kind, count in dropped.items()],
            ),
        ]

    def _histogram(
        self, name: str, help_text: str, bounds: Sequence[float], pick: Callable[[Timings], Histogram]
    ) -> Family:
        rows = (
            ({"dialect": dialect, "model": model}, found.counts, found.total)
            for (dialect, model), timings in sorted(self._timings.items(), key=itemgetter(0))
            if any((found := pick(timings)).counts)
        )
        return histogram(name, help_text, bounds, rows)

    def _tokens(self) -> Mapping[tuple[str, ...], int]:
        tokens: dict[tuple[str, ...], int] = {}
        for (_, model), timings in self._timings.items():
            for direction, count in (("input", timings.input_tokens), ("output", timings.output_tokens)):
                if count:
                    tokens[direction, model] = tokens.get((direction, model), 0) + count
        return tokens

    def _refusals(self) -> list[Family]:
        return [
            family(
                "swarmplane_rejected_total",
                "counter",
                "Requests of clients that this sidecar answered with an error of its own, by code.",
                _rows({(code,): count for code, count in self._rejected.items()}, ("code",)),
            ),
            family(
                "swarmplane_cancelled_total",
                "counter",
                "Requests whose client left before the answer was whole.",
                self._cancelled,
            ),
            family(
                "swarmplane_hop_requests_total",
                "counter",
                "Requests that peers sent here and that ended; no part of requests_total.",
                _rows(self._hops, ("model", "origin", "outcome", "code")),
            ),
        ]


def _rows(
    rows: Mapping[tuple[str, ...], int], labels: Sequence[str]
) -> Iterable[tuple[Mapping[str, str], float]]:
    return [(dict(zip(labels, key, strict=True)), count) for key, count in sorted(rows.items())]
