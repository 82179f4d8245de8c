"""The latency history of every (model, endpoint) in use, and what is known of the nodes they stand on."""

from __future__ import annotations

from math import exp, inf, log
from typing import Final

from sidecar.core.estimates import Latency, States
from swarmplane.ids import EndpointId, ModelName, NodeId

MOST_ENDPOINTS: Final = 1024
"""Of one model; the one measured longest ago is forgotten first."""
MOST_MODELS: Final = 512
MOST_RATES: Final = 4096
FLAP_HALF_LIFE_S: Final = 300.0
DEFAULT_ROUND_TRIP_S: Final = 0.002
DEFAULT_LOAD_BYTES_PER_S: Final = 0.5e9
"""A model read from an ordinary disk and put into GPU memory."""
_SMOOTHING: Final = 0.2


class ModelHistory:
    """One model's estimates: by endpoint, and over all of them for endpoints not measured yet."""

    __slots__ = ("by_endpoint", "pool")

    def __init__(self) -> None:
        self.pool = Latency()
        self.by_endpoint: dict[EndpointId, Latency] = {}

    def of(self, endpoint: EndpointId) -> Latency:
        """What is known of ``endpoint``; the pool's figures where it was not measured. Read only."""
        return self.by_endpoint.get(endpoint, self.pool)


class NodeHistory:
    """What was measured of one node."""

    __slots__ = ("_flap_at_s", "_flaps", "has_flapped", "load_bytes_per_s", "round_trip_s")

    def __init__(self) -> None:
        self.round_trip_s = DEFAULT_ROUND_TRIP_S
        self.load_bytes_per_s = DEFAULT_LOAD_BYTES_PER_S
        """How fast it loads models."""
        self.has_flapped = False
        """Whether it ever did: if not, :meth:`flaps` need not be asked."""
        self._flaps = 0.0
        self._flap_at_s = -inf

    def answered_after(self, round_trip_s: float) -> None:
        """A round trip to its sidecar was measured (smoothed; the backend's time not included)."""
        if 0.0 <= round_trip_s < inf:
            self.round_trip_s += (round_trip_s - self.round_trip_s) * _SMOOTHING

    def loaded(self, size_bytes: int, took_s: float) -> None:
        """It loaded a model."""
        if size_bytes > 0 and 0.0 < took_s < inf:
            self.load_bytes_per_s += (size_bytes / took_s - self.load_bytes_per_s) * 0.5

    def flapped(self, now_s: float) -> None:
        """It became suspect, was ejected, or left and came back."""
        self._flaps = self.flaps(now_s) + 1.0
        self._flap_at_s = now_s
        self.has_flapped = True

    def flaps(self, now_s: float) -> float:
        """How often lately; one counts half after five minutes."""
        return self._flaps * exp(min(self._flap_at_s - now_s, 0.0) / FLAP_HALF_LIFE_S * log(2.0))


class History:
    """All estimates of one sidecar. Not thread-safe; nothing here waits. Recording costs 5 µs."""

    __slots__ = ("_models", "_unknown", "by_node", "rates", "unknown_node")

    def __init__(self) -> None:
        self._models: dict[str, ModelHistory] = {}
        self._unknown = ModelHistory()
        self.by_node: dict[NodeId, NodeHistory] = {}
        """Nodes that were measured. Read only; :meth:`node` adds."""
        self.unknown_node = NodeHistory()
        """Defaults, for all others. Read only."""
        self.rates: dict[EndpointId, float] = {}
        """Tokens per second of one answer, for every endpoint whose answers were read. Read only."""

    def of(self, model: str) -> ModelHistory:
        """The estimates of ``model``; defaults where nothing was measured. Read only."""
        return self._models.get(model, self._unknown)

    def of_node(self, node: NodeId) -> NodeHistory:
        """What is known of ``node``; defaults where nothing is. Read only."""
        return self.by_node.get(node, self.unknown_node)

    def node(self, node: NodeId) -> NodeHistory:
        """The same, to record what was measured."""
        return self.by_node.setdefault(node, NodeHistory())

    def known(self, model: str, endpoint: EndpointId) -> Latency | None:
        """What was measured of ``model`` at ``endpoint``; None: nothing. Read only."""
        history = self._models.get(model)
        return history.by_endpoint.get(endpoint) if history is not None else None

    def first_token(
        self,
        model: ModelName,
        endpoint: EndpointId,
        took_s: float,
        *,
        prompt_tokens: int,
        cached_tokens: int = 0,
        now_s: float,
    ) -> None:
        """An answer's first token came.

        Args:
            model: Canonical name.
            endpoint: Who answered.
            took_s: Since the request ran: without the owner's queue, loading and the way there.
            prompt_tokens: Of the whole prompt.
            cached_tokens: Of them, known or believed to have been cached.
            now_s: Monotonic time.
        """
        fresh_tokens = max(prompt_tokens - cached_tokens, 0)
        history, latency = self._measured(model, endpoint, now_s)
        latency.revisited(history.pool, now_s)
        latency.first_token(took_s, fresh_tokens, now_s)
        history.pool.first_token(took_s, fresh_tokens, now_s)

    def finished(
        self,
        model: ModelName,
        endpoint: EndpointId,
        service_s: float,
        *,
        output_tokens: int = 0,
        decode_s: float = 0.0,
        now_s: float,
    ) -> None:
        """A request was answered to its end; it held a slot for ``service_s``."""
        history, latency = self._measured(model, endpoint, now_s)
        latency.finished(service_s, output_tokens, decode_s)
        history.pool.finished(service_s, output_tokens, decode_s)

    def decoded(self, model: str, endpoint: EndpointId, tokens_per_s: float) -> None:
        """An answer of ``endpoint`` was written at this pace. Adds no estimate where nothing was measured."""
        if not 0.0 < tokens_per_s < inf:
            return
        before = self.rates.pop(endpoint, tokens_per_s)
        # Last of all: the one read longest ago stands first, and is forgotten first.
        self.rates[endpoint] = before + (tokens_per_s - before) * _SMOOTHING
        if len(self.rates) > MOST_RATES:
            del self.rates[next(iter(self.rates))]
        history = self._models.get(model)
        if history is not None:
            history.pool.decoded(tokens_per_s)
            if endpoint in history.by_endpoint:
                history.by_endpoint[endpoint].decoded(tokens_per_s)

    def failed(
        self,
        model: ModelName,
        endpoint: EndpointId,
        took_s: float,
        *,
        retry_after_s: float = 0.0,
        now_s: float,
    ) -> None:
        """``endpoint`` failed or refused (429, 5xx, no answer). A client that left is no failure."""
        self._measured(model, endpoint, now_s)[1].failed(took_s, retry_after_s, now_s)

    def _measured(self, model: str, endpoint: EndpointId, now_s: float) -> tuple[ModelHistory, Latency]:
        history = self._models.get(model) or self._added(model)
        latency = history.by_endpoint.get(endpoint)
        if latency is None:
            latency = _like(history.pool, now_s)
            _keep(history, endpoint, latency)
        return history, latency

    def _added(self, model: str) -> ModelHistory:
        models = self._models
        if len(models) >= MOST_MODELS:
            del models[min(models, key=lambda name: models[name].pool.at_s)]
        history = models[model] = ModelHistory()
        return history

    def measured(self) -> list[tuple[str, str, Latency]]:
        """Every estimate by model and endpoint; models' pools stand under the endpoint ``""``. O(entries)."""
        return [
            (model, endpoint, latency)
            for model, history in self._models.items()
            for endpoint, latency in (("", history.pool), *history.by_endpoint.items())
        ]

    def export(self, now_s: float) -> States:
        """Plain values of all that was measured; models' pools stand under the endpoint ``""``."""
        return {(model, endpoint): found.export(now_s) for model, endpoint, found in self.measured()}

    def restore(self, states: States, now_s: float) -> None:
        """Take over what was exported, before anything is measured; what was measured already stays."""
        for (model, endpoint), state in states.items():
            history = self._models.get(model) or self._added(model)
            latency = Latency.restored(state, now_s)
            if endpoint:
                if endpoint not in history.by_endpoint:
                    _keep(history, EndpointId(endpoint), latency)
            elif not history.pool.samples and not history.pool.services:
                history.pool = latency


def _keep(history: ModelHistory, endpoint: EndpointId, latency: Latency) -> None:
    known = history.by_endpoint
    if len(known) >= MOST_ENDPOINTS:
        del known[min(known, key=lambda key: known[key].at_s)]
    known[endpoint] = latency


def _like(pool: Latency, now_s: float) -> Latency:
    """A new entry that starts from the pool's figures: no endpoint looks good, or bad, by being new."""
    latency = Latency(now_s)
    latency.offset, latency.unit_s, latency.p99_unit_s = pool.offset, pool.unit_s, pool.p99_unit_s
    latency.peak_unit_s, latency.service_s = pool.unit_s, pool.service_s
    latency.tokens_per_s = pool.tokens_per_s
    return latency
