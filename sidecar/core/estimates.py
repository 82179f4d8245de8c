"""What one endpoint was measured to do with one model: how long the first token takes, and how long the rest.

The first token is taken to need ``unit_s * (offset + prompt tokens)`` seconds: ``unit_s`` is the time for one
prompt token, ``offset`` what every request costs besides, told in tokens. Both are learned; a machine that
becomes slower changes ``unit_s`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf, isfinite, log
from typing import Final

from sidecar.core.estimates_sketch import Sketch, SketchState

DEFAULT_UNIT_S: Final = 1e-3
"""Per prompt token where nothing of the model is known: a prefill of 1,000 tokens/s."""
DEFAULT_OFFSET: Final = 64.0
"""Tokens: what a request costs besides its prompt, until it is learned."""
LARGEST_OFFSET: Final = 8192.0
DEFAULT_SERVICE_S: Final = 2.0
DEFAULT_TOKENS_PER_S: Final = 30.0
DECAY_S: Final = 10.0
"""Time constant of the peak EWMA and of penalties (Linkerd)."""
PENALTY_S: Final = 5.0
"""A fast failure counts as an answer that took so long: else it would attract traffic."""
LONGEST_PENALTY_S: Final = 300.0
REVISIT_S: Final = 60.0
"""After this time without a sample, slowness is believed less and less, or it would never be checked."""
DOUBT_HALF_LIFE_S: Final = 300.0
LEAST_EVIDENCE: Final = 4.0
"""Old slowness with less weight than so many samples is forgotten when a new one comes."""

_KEEP: Final = 0.98
"""Weight of the regression's past at each sample: the last fifty decide."""
_PRIOR: Final = 2.0
"""Samples that the default offset is worth."""
_SMOOTHING: Final = 0.1
_LEAST_DECODE_S: Final = 1e-6
_LN2: Final = log(2.0)
_SPACING_S: Final = 0.05
"""About one sample in this time is enough for an endpoint that answers more often."""
_ALL_OF: Final = 64.0
"""Every one of so many first samples is taken."""
_MOST_PASSED: Final = 255
_OFTEN: Final = 8
"""Up to so many samples quantiles are read after each, then after each so many."""


@dataclass(frozen=True, slots=True)
class LatencyState:
    """A :class:`Latency` as plain values, so that it can be kept on disk. Ages, not times: clocks differ."""

    age_s: float
    """Since the last sample."""
    offset: float
    peak_unit_s: float
    service_s: float
    services: float
    """How many finished requests ``service_s`` stands for."""
    tokens_per_s: float
    sums: tuple[float, float, float, float, float]
    sketch: SketchState


class Latency:
    """Estimates for one (model, endpoint), or for a model everywhere. About 5 KB; recording costs 2 µs.

    Attributes are read directly where requests are priced. They always hold usable numbers.
    """

    __slots__ = (
        "_left",
        "_passed",
        "_sketch",
        "_sums",
        "_waited",
        "at_s",
        "offset",
        "p99_unit_s",
        "peak_unit_s",
        "penalty_at_s",
        "penalty_s",
        "service_s",
        "services",
        "tokens_per_s",
        "unit_s",
    )

    def __init__(self, now_s: float = -inf) -> None:
        self.at_s = now_s
        """When the last sample came."""
        self.offset = DEFAULT_OFFSET
        self.unit_s = DEFAULT_UNIT_S
        """Seconds per prompt token, 75th percentile."""
        self.p99_unit_s = DEFAULT_UNIT_S
        self.peak_unit_s = DEFAULT_UNIT_S
        """Peak EWMA: up at once, down within seconds."""
        self.service_s = DEFAULT_SERVICE_S
        """Mean time a request holds its slot."""
        self.services = 0.0
        self.tokens_per_s = DEFAULT_TOKENS_PER_S
        """Of one answer, after its first token."""
        self.penalty_s = 0.0
        self.penalty_at_s = now_s
        self._sketch = Sketch()
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._waited = 0
        self._passed = self._left = 0
        """Samples to pass over between two that are taken, and how many of them are still to come."""

    @property
    def samples(self) -> float:
        """Weight of the first tokens measured; 0: everything about them is a guess."""
        return self._sketch.total

    def wants(self, took_s: float, prompt_tokens: float, now_s: float) -> bool:
        """Whether a first token is worth :meth:`first_token`; 0.2 µs. Every one while there are 20 a second.

        Of more, one in every so many is: by number, not by time, so that the first of a burst count no more
        than its last. What was slower than lately always is.
        """
        since_s = now_s - self.at_s
        if self._left and since_s < 1.0 and took_s <= self.peak_unit_s * (self.offset + prompt_tokens):
            self._left -= 1
            return False
        if self._sketch.total >= _ALL_OF:
            came = self._passed - self._left + 1
            self._passed = self._left = min(int(_SPACING_S * came / max(since_s, 1e-6)), _MOST_PASSED)
        return True

    def first_token(self, took_s: float, prompt_tokens: float, now_s: float) -> None:
        """The first token came ``took_s`` after the backend began with ``prompt_tokens`` uncached ones."""
        if not (0.0 <= took_s < inf and 0.0 <= prompt_tokens < inf):
            return
        self._fit(prompt_tokens, took_s)
        unit_s = max(took_s / (self.offset + prompt_tokens), 1e-9)
        fresh = self._sketch.total == 0.0
        if fresh or unit_s > self.peak_unit_s:
            self.peak_unit_s = unit_s
        else:
            kept = exp(min(self.at_s - now_s, 0.0) / DECAY_S)
            self.peak_unit_s = self.peak_unit_s * kept + unit_s * (1.0 - kept)
        self.at_s = now_s
        self._sketch.add(unit_s)
        self._waited += 1
        if self._waited >= _OFTEN or self._sketch.total <= _OFTEN:
            self._read()

    def _read(self) -> None:
        self._waited = 0
        self.unit_s, self.p99_unit_s = self._sketch.quantiles(0.75, 0.99)

    def _fit(self, tokens: float, took_s: float) -> None:
        """Decayed least squares of seconds over tokens; a few imagined samples hold the offset in bounds."""
        n, x, y, xx, xy = self._sums
        n = n * _KEEP + 1.0
        x = x * _KEEP + tokens
        y = y * _KEEP + took_s
        xx = xx * _KEEP + tokens * tokens
        xy = xy * _KEEP + tokens * took_s
        self._sums = (n, x, y, xx, xy)
        # Minimises sum (y - base - slope x)^2 + PRIOR (base - DEFAULT_OFFSET slope)^2.
        a, b, c = n + _PRIOR, x - _PRIOR * DEFAULT_OFFSET, xx + _PRIOR * DEFAULT_OFFSET * DEFAULT_OFFSET
        base, slope = y * c - xy * b, a * xy - b * y
        if base <= 0.0:
            offset = 1.0
        elif base >= slope * LARGEST_OFFSET:
            offset = LARGEST_OFFSET
        else:
            offset = max(base / slope, 1.0)
        self.offset += (offset - self.offset) * _SMOOTHING

    def finished(self, service_s: float, output_tokens: int, decode_s: float) -> None:
        """A request held its slot for ``service_s``; ``decode_s`` of them after the first token."""
        if not 0.0 <= service_s < inf:
            return
        self.services += 1.0
        share = max(_SMOOTHING, 1.0 / self.services)
        self.service_s += (service_s - self.service_s) * share
        if output_tokens > 1 and _LEAST_DECODE_S < decode_s < inf:
            self.tokens_per_s += ((output_tokens - 1) / decode_s - self.tokens_per_s) * share

    def decoded(self, tokens_per_s: float) -> None:
        """An answer was written at this pace after its first token."""
        if 0.0 < tokens_per_s < inf:
            known = self.tokens_per_s != DEFAULT_TOKENS_PER_S
            share = _SMOOTHING if known else 1.0
            self.tokens_per_s += (tokens_per_s - self.tokens_per_s) * share

    def failed(self, took_s: float, retry_after_s: float, now_s: float) -> None:
        """It answered 429, 503 or another 5xx, or nothing: counts as max(``took_s``, 5 s or Retry-After).

        The penalty fades with time, so that an endpoint without traffic comes back.
        """
        asked_s = retry_after_s if 0.0 < retry_after_s < inf else PENALTY_S
        penalty_s = min(max(took_s, asked_s), LONGEST_PENALTY_S)
        self.penalty_s = max(self.penalty(now_s), penalty_s)
        self.penalty_at_s = now_s

    def penalty(self, now_s: float) -> float:
        """Seconds that past failures still add."""
        if not self.penalty_s:
            return 0.0
        return self.penalty_s * exp(min(self.penalty_at_s - now_s, 0.0) / DECAY_S)

    def revisited(self, pool: Latency, now_s: float) -> None:
        """A sample is about to come: let old slowness count as little as it is still believed.

        What is left of it, if it is next to nothing, must not outvote the new sample.
        """
        idle_s = now_s - self.at_s - REVISIT_S
        if idle_s > 0.0 and self.unit_s > pool.unit_s and self._sketch.total:
            share = exp(-min(idle_s / DOUBT_HALF_LIFE_S, 64.0) * _LN2)
            self._sketch.fade(share if share * self._sketch.total >= LEAST_EVIDENCE else 0.0)

    def doubted(self, pool: Latency, now_s: float) -> float:
        """``unit_s``, nearer to the pool's the longer there was no sample; only where it is slower."""
        unit_s, usual_s = self.unit_s, pool.unit_s
        idle_s = now_s - self.at_s - REVISIT_S
        if idle_s <= 0.0 or unit_s <= usual_s:
            return unit_s
        return usual_s + (unit_s - usual_s) * exp(-min(idle_s / DOUBT_HALF_LIFE_S, 64.0) * _LN2)

    def typical_s(self, prompt_tokens: float) -> float:
        """Time to the first token that three of four requests keep."""
        return self.unit_s * (self.offset + prompt_tokens)

    def p99_s(self, prompt_tokens: float) -> float:
        """Time to the first token that 99 of 100 requests keep: deadlines are multiples of it."""
        return self.p99_unit_s * (self.offset + prompt_tokens)

    def p95_s(self, prompt_tokens: float) -> float:
        """The same of 95 of 100, read anew: 10 µs."""
        return self._sketch.quantile(0.95) * (self.offset + prompt_tokens)

    def peak_s(self, prompt_tokens: float, now_s: float) -> float:
        """Peak-EWMA time to the first token, failures included; without samples it comes down to the p75."""
        unit_s = self.peak_unit_s
        if unit_s > self.unit_s:
            unit_s = self.unit_s + (unit_s - self.unit_s) * exp(min(self.at_s - now_s, 0.0) / DECAY_S)
        return max(unit_s * (self.offset + prompt_tokens), self.penalty(now_s))

    def export(self, now_s: float) -> LatencyState:
        """Plain values for :meth:`restored`. Penalties are not kept."""
        return LatencyState(
            max(now_s - self.at_s, 0.0) if self.at_s > -inf else 0.0,
            self.offset,
            self.peak_unit_s,
            self.service_s,
            self.services,
            self.tokens_per_s,
            self._sums,
            self._sketch.export(),
        )

    @classmethod
    def restored(cls, state: LatencyState, now_s: float) -> Latency:
        """The estimates that were exported; figures that make no sense are replaced by the defaults."""
        latency = cls(now_s - _sane(state.age_s, 0.0, zero=True))
        latency.offset = min(_sane(state.offset, DEFAULT_OFFSET), LARGEST_OFFSET)
        latency.service_s = _sane(state.service_s, DEFAULT_SERVICE_S, zero=True)
        latency.services = _sane(state.services, 0.0, zero=True)
        latency.tokens_per_s = _sane(state.tokens_per_s, DEFAULT_TOKENS_PER_S)
        if all(isfinite(part) and part >= 0.0 for part in state.sums):
            latency._sums = state.sums
        latency._sketch = Sketch.restored(state.sketch)
        if latency._sketch.total:
            latency._read()
            latency.peak_unit_s = _sane(state.peak_unit_s, latency.unit_s)
        return latency


def _sane(value: float, default: float, *, zero: bool = False) -> float:
    return value if isfinite(value) and (value > 0.0 or (zero and value == 0.0)) else default


States = Mapping[tuple[str, str], LatencyState]
"""By (model, endpoint id)."""
