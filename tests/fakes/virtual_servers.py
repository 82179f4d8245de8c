"""Servers in virtual time behind one chooser: seeded, no waiting, no clock but the count of events."""

from __future__ import annotations

import heapq
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sidecar.core.candidate import Candidate
from sidecar.core.choosing import Chooser
from sidecar.core.cost import Ask
from sidecar.core.estimates_history import History
from sidecar.core.prefix_index import PrefixIndex
from sidecar.core.session import Sessions
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId
from swarmplane.routes import Endpoint

MODEL = ModelName("m")


@dataclass
class VirtualServer:
    """``slots`` requests at a time, first come first served; caches whole blocks, least recently used out.

    ``reported_slots`` is what it tells; ``tell_load`` whether others hear of its load at all.
    """

    name: str
    first_s: float = 0.0
    """Before the first token, besides the prompt."""
    block_s: float = 0.0
    """For each block that is not cached."""
    rest_s: float = 0.1
    """From the first token to the last."""
    slots: int = 1
    reported_slots: int | None = None
    cache_blocks: int = 0
    tell_load: bool = True
    tell_cached: bool = True
    """Whether its answers tell how much of the prompt was cached."""
    local: bool = False
    refuses: bool = False
    """Answers 429 in a millisecond."""
    running: int = 0
    waiting: list[Request] = field(default_factory=list)
    cache: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    served: int = 0

    @property
    def endpoint(self) -> EndpointId:
        return EndpointId(f"{self.name}/b/m")

    def candidate(self) -> Candidate:
        slots = self.slots if self.reported_slots is None else self.reported_slots
        endpoint = Endpoint(self.endpoint, NodeId(self.name), BackendName("b"), "m", slots=slots)
        return Candidate(
            endpoint,
            self.local,
            node_name=self.name,
            in_flight=self.running if self.tell_load else 0,
            queued=len(self.waiting) if self.tell_load else 0,
            slots=slots,
            load_known=self.tell_load,
        )

    def cached(self, blocks: Sequence[bytes]) -> int:
        """Leading blocks in the cache; afterwards all of them are."""
        hits = next((i for i, block in enumerate(blocks) if block not in self.cache), len(blocks))
        for block in reversed(blocks):
            self.cache[block] = None
            self.cache.move_to_end(block)
        while len(self.cache) > self.cache_blocks:
            self.cache.popitem(last=False)
        return hits


@dataclass
class Request:
    """One request on its way. ``began_s`` is when it got its slot."""

    ask: Ask
    server: VirtualServer
    sent_s: float
    believed: int
    """Blocks that the index took for cached when it was sent."""
    began_s: float = 0.0
    ttft_s: float = 0.0


@dataclass
class Outcome:
    """What a run showed."""

    took_s: float
    sent: Counter[str]
    hit_blocks: int
    asked_blocks: int
    refused: int
    latencies_s: list[float]

    @property
    def hit_rate(self) -> float:
        return self.hit_blocks / max(self.asked_blocks, 1)


class VirtualSwarm:
    """Closed loop: ``concurrency`` clients, each sending its next request when the last was answered."""

    def __init__(
        self, servers: Sequence[VirtualServer], *, strategy: str = "least_cost", seed: int = 1
    ) -> None:
        self.servers = servers
        self.strategy = strategy
        self.history, self.prefixes, self.sessions = History(), PrefixIndex(), Sessions()
        self.chooser = Chooser(self.history, self.prefixes, self.sessions)
        self.now_s = 0.0
        self.random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._turn = 0
        self.outcome = Outcome(0.0, Counter(), 0, 0, 0, [])

    def at(self, at_s: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_s, self._count, act))

    def run(self, asks: Iterator[Ask], *, concurrency: int) -> Outcome:
        started_s = self.now_s
        self.outcome = Outcome(0.0, Counter(), 0, 0, 0, [])
        for _ in range(concurrency):
            self._next(asks)
        while self._events:
            self.now_s, _, act = heapq.heappop(self._events)
            act()
        self.outcome.took_s = self.now_s - started_s
        return self.outcome

    def choose(self, ask: Ask) -> VirtualServer:
        self._turn += 1
        choice = self.chooser.choose(
            [server.candidate() for server in self.servers],
            Ask(ask.model, ask.prompt_tokens, ask.max_tokens, ask.blocks, ask.session, turn=self._turn),
            strategy=self.strategy,
            draw=self.random.random(),
            now_s=self.now_s,
        )
        chosen = next(choice)
        return next(s for s in self.servers if s.endpoint == chosen.endpoint.id)

    def _next(self, asks: Iterator[Ask]) -> None:
        ask = next(asks, None)
        if ask is not None:
            self._send(ask, asks)

    def _send(self, ask: Ask, asks: Iterator[Ask]) -> None:
        server = self.choose(ask)
        self.outcome.sent[server.name] += 1
        if server.refuses:
            self.outcome.refused += 1
            self.history.failed(MODEL, server.endpoint, 0.001, now_s=self.now_s)
            self.at(self.now_s + 0.001, lambda: self._send(ask, asks))
            return
        believed = self.prefixes.match(MODEL, server.endpoint, ask.blocks)
        self.prefixes.insert(MODEL, server.endpoint, ask.blocks)
        self.sessions.begin(ask.session, server.endpoint, self.now_s)
        request = Request(ask, server, self.now_s, believed)
        if server.running < server.slots:
            self._begin(request, asks)
        else:
            server.waiting.append(request)

    def _begin(self, request: Request, asks: Iterator[Ask]) -> None:
        server, blocks = request.server, request.ask.blocks
        server.running += 1
        request.began_s = self.now_s
        hits = server.cached(blocks)
        if server.tell_cached:
            self.prefixes.observed(MODEL, server.endpoint, request.believed, hits)
        self.outcome.hit_blocks += hits
        self.outcome.asked_blocks += len(blocks)
        request.ttft_s = server.first_s + server.block_s * (len(blocks) - hits)
        cached_tokens = min(hits * 256, request.ask.prompt_tokens)
        total_s = (request.ttft_s + server.rest_s) * self.random.uniform(0.95, 1.05)
        self.at(self.now_s + total_s, lambda: self._end(request, cached_tokens, asks))

    def _end(self, request: Request, cached_tokens: int, asks: Iterator[Ask]) -> None:
        server, ask = request.server, request.ask
        if server.reported_slots == 0:
            # Who does not tell its slots hides its queue in the time to the first token.
            request.ttft_s += request.began_s - request.sent_s
            request.began_s = request.sent_s
        server.running -= 1
        server.served += 1
        self.outcome.latencies_s.append(self.now_s - request.sent_s)
        self.history.first_token(
            MODEL,
            server.endpoint,
            request.ttft_s,
            prompt_tokens=ask.prompt_tokens,
            cached_tokens=cached_tokens,
            now_s=self.now_s,
        )
        service_s = self.now_s - request.began_s
        self.history.finished(
            MODEL, server.endpoint, service_s, output_tokens=50, decode_s=1.0, now_s=self.now_s
        )
        self.sessions.end(ask.session, server.endpoint, self.now_s)
        if server.waiting:
            self._begin(server.waiting.pop(0), asks)
        self._next(asks)
