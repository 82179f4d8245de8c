"""Who is asked first, by what requests taught: estimates, cached prompts, sessions and breakers.

Lives on the event loop; nothing here waits. Only requests with a choice come here: where a model has one
endpoint there is nothing to weigh and nothing is recorded.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from sidecar.core.breaker import Phase, Policy, Signal
from sidecar.core.breaker_group import Admission, Breakers
from sidecar.core.candidate import ASSUMED_SLOTS, Candidate
from sidecar.core.choice import Choice
from sidecar.core.choosing import Chooser
from sidecar.core.cost import Ask, Breakdown
from sidecar.core.estimates_history import History
from sidecar.core.prefix import BLOCK_TOKENS
from sidecar.core.prefix_index import REPLICA_BLOCKS, PrefixIndex
from sidecar.core.session import Sessions
from sidecar.core.slow_start import SlowStart, usable_slots, weight
from sidecar.core.stalls import Gaps
from sidecar.routing.prompts import Prompts
from swarmplane.ids import EndpointId, ModelName
from swarmplane.routes import Endpoint

_NEARLY: Final = 0.8
_MOST_TURNS: Final = 4096
"""Models whose turns and last choices are remembered."""


class Balancer:
    """Everything a sidecar knows about how well endpoints serve, and the choice that follows from it.

    Args:
        policy: Of the breakers.
        slow_start: How endpoints that return take up load.
    """

    __slots__ = (
        "_chooser",
        "_slow",
        "_tells",
        "_turns",
        "agreed",
        "breakers",
        "gaps",
        "history",
        "key",
        "last",
        "prefixes",
        "prompts",
        "returned",
        "sessions",
    )

    def __init__(self, policy: Policy | None = None, slow_start: SlowStart | None = None) -> None:
        self.history = History()
        self.gaps = Gaps()
        """How often streamed answers come: what is a stall."""
        self.prefixes = PrefixIndex()
        self.prompts = Prompts()
        self.sessions = Sessions()
        self.breakers = Breakers(policy or Policy())
        self.key = secrets.token_bytes(32)
        """Of the hashes of prompts: our own until the swarm's is known."""
        self.agreed = False
        """Whether it is the swarm's, so that hashes mean something to others."""
        self.last: dict[str, Choice] = {}
        """The last choice for each model, with the terms as they were then."""
        self.returned: dict[str, float] = {}
        """Endpoints that start slowly, and since when."""
        self._slow = slow_start or SlowStart()
        self._chooser = Chooser(self.history, self.prefixes, self.sessions)
        self._turns: dict[str, int] = {}
        self._tells: set[EndpointId] = set()

    def agree(self, key: bytes) -> None:
        """Hash prompts with the swarm's ``key`` from now on; what was hashed with another is forgotten."""
        if key and key != self.key:
            self.key, self.agreed = key, True
            self.prefixes.clear()

    def adopt(self, policy: Policy, slow_start: SlowStart) -> None:
        """Go by these from now on."""
        self.breakers.adopt(policy)
        self._slow = slow_start

    def read_prompts(self) -> None:
        """Learn from prompts that were served without a choice; at most 2 ms."""
        self.prompts.read(self.prefixes, self.key, cache_blocks)

    # -- choosing -----------------------------------------------------------------------------------------

    def admitted(self, endpoints: Sequence[Endpoint], now_s: float) -> Admission:
        """Which of ``endpoints`` take a request; see :func:`sidecar.core.breaker_group.admitted`."""
        return self.breakers.admitted(endpoints, now_s)

    def started(self, candidate: Candidate, now_s: float) -> Candidate:
        """``candidate`` with as many slots as it may use by now, if it came back a short time ago."""
        since_s = self.returned.get(candidate.endpoint.id)
        if since_s is None:
            return candidate
        share = weight(since_s, now_s, self._slow)
        if share >= 1.0:
            return candidate
        return replace(candidate, slots=usable_slots(candidate.slots or ASSUMED_SLOTS, share))

    def choose(
        self,
        candidates: Sequence[Candidate],
        ask: Ask,
        *,
        strategy: str,
        draw: float,
        now_s: float,
        front: Sequence[Candidate] | None = None,
    ) -> Choice:
        """The order in which ``candidates`` are asked; kept for ``explain``. See :meth:`Chooser.choose`."""
        if strategy == "round_robin":
            ask = replace(ask, turn=self._turn(ask.model))
        choice = self._chooser.choose(candidates, ask, strategy=strategy, draw=draw, now_s=now_s, front=front)
        last = self.last
        if ask.model in last or len(last) < _MOST_TURNS:
            last[ask.model] = choice
        return choice

    def _turn(self, model: str) -> int:
        turn = self._turns.get(model, -1) + 1
        if len(self._turns) < _MOST_TURNS or model in self._turns:
            self._turns[model] = turn
        return turn

    def explain(self, candidates: Sequence[Candidate], ask: Ask, now_s: float) -> tuple[Breakdown, ...]:
        """What each of ``candidates`` would cost now, cheapest first."""
        return self._chooser.explain(candidates, ask, now_s=now_s)

    # -- recording ----------------------------------------------------------------------------------------

    def begin(self, ask: Ask, endpoint: Endpoint, now_s: float, draw: Callable[[], float]) -> Stake:
        """A request goes to ``endpoint`` now: report to the stake how that ends. About 2 µs."""
        return Stake(self, ask, endpoint, now_s, draw)

    def appeared(self, endpoint: EndpointId, now_s: float, *, own: bool = False) -> None:
        """``endpoint`` is new, or begins a new life: it starts slowly, unblamed, with empty caches.

        An ``own`` one may have served before the swarm told of it: what it has cached since stays.
        """
        self.breakers.reset(endpoint, now_s)
        self.returned[endpoint] = now_s
        if not own:
            self.prefixes.forget(endpoint)

    def cache_told(self, model: str, endpoint: EndpointId, believed: int, blocks: float) -> None:
        """An answer told that so many leading ``blocks`` of its prompt were cached, of ``believed`` ones.

        Nearly all of them is all: a block is a number of bytes, and as many tokens as there happen to be.
        """
        if blocks:
            self._tells.add(endpoint)
        if endpoint in self._tells:
            # Who never told of any has no figures for it, and says 0 nevertheless.
            found = believed if blocks >= believed * _NEARLY else int(blocks)
            self.prefixes.observed(model, endpoint, believed, found)

    def phase_changed(self, endpoint: EndpointId, now_s: float) -> None:
        """The breaker of ``endpoint`` came into another phase."""
        if self.breakers.of(endpoint).phase is Phase.ADMITTING:
            self.returned[endpoint] = now_s
        else:
            self.returned.pop(endpoint, None)

    def housekeep(self, now_s: float, listed: Callable[[str], bool]) -> None:
        """Forget what is over, and endpoints that are not ``listed`` any more; call every few seconds."""
        self.sessions.housekeep(now_s)
        self.returned = {k: s for k, s in self.returned.items() if now_s - s < self._slow.window_s}
        self.breakers.keep(listed)
        self.gaps.keep(listed)
        self._tells = set(filter(listed, self._tells))


class Stake:
    """One attempt at one endpoint of several. However it ends is reported; :meth:`over` comes last."""

    __slots__ = (
        "_ask",
        "_balancer",
        "_draw",
        "_era",
        "_judged",
        "_learns",
        "answered",
        "cached",
        "endpoint",
        "latency",
        "sent_s",
    )

    def __init__(
        self, balancer: Balancer, ask: Ask, served_by: Endpoint, now_s: float, draw: Callable[[], float]
    ) -> None:
        self._balancer = balancer
        self._ask = ask
        self.endpoint = endpoint = served_by.id
        self._draw = draw
        self.sent_s = now_s
        """Since when it runs."""
        self._judged = self._learns = False
        self.answered = False
        """Whether the first byte of an answer came."""
        self.latency = balancer.history.known(ask.model, endpoint)
        """What was measured of it before; None: nothing."""
        self._era = balancer.breakers.sent(endpoint, now_s)
        self.cached = 0
        """Leading blocks of the prompt that it is believed to have cached."""
        if ask.blocks:
            # Believed from now on, not when the answer came: the next request of the prompt comes sooner.
            self.cached = balancer.prefixes.match(ask.model, endpoint, ask.blocks)
            balancer.prefixes.insert(ask.model, endpoint, ask.blocks, cache_blocks(served_by))
        if ask.session:
            balancer.sessions.begin(ask.session, endpoint, now_s)

    def runs(self, now_s: float) -> None:
        """It is sent, or the owner said that it runs from now on: time before this was no work on it."""
        self.sent_s = now_s

    def first_byte(self, now_s: float) -> None:
        """The answer begins, and it is the one that was asked for."""
        self.answered = self._judged = True
        balancer, latency, took_s = self._balancer, self.latency, now_s - self.sent_s
        tokens = self._ask.prompt_tokens
        cached_tokens = min(self.cached * BLOCK_TOKENS, tokens) if self.cached else 0
        if latency is None or latency.wants(took_s, tokens - cached_tokens, now_s):
            self._learns = True
            balancer.history.first_token(
                ModelName(self._ask.model),
                self.endpoint,
                took_s,
                prompt_tokens=tokens,
                cached_tokens=cached_tokens,
                now_s=now_s,
            )
        if balancer.breakers.succeeded(self.endpoint, self._era, now_s):
            balancer.phase_changed(self.endpoint, now_s)

    def finished(self, now_s: float) -> None:
        """The answer is whole."""
        if self._learns:
            self._balancer.history.finished(
                ModelName(self._ask.model), self.endpoint, now_s - self.sent_s, now_s=now_s
            )

    def alive(self, now_s: float) -> None:
        """It answered with an error that is the client's."""
        self._end(Signal.SUCCEEDED, now_s)

    def busy(self, now_s: float, retry_after_s: float = 0.0) -> None:
        """It has no room, loads, drains, or does not have the model: no failure, but no haven either."""
        self._penalize(now_s, retry_after_s)
        self._end(Signal.BUSY, now_s)

    def failed(self, now_s: float) -> None:
        """It answered with a failing status."""
        self._penalize(now_s)
        self._end(Signal.FAILED, now_s)

    def broke(self, now_s: float) -> None:
        """Its connection ended, or it was silent for too long; also in the middle of an answer."""
        self._penalize(now_s)
        self._end(Signal.BROKEN, now_s)

    def unconnected(self, now_s: float, *, node: bool) -> None:
        """No connection could be made. ``node``: to its node, which is ejected as a whole."""
        self._penalize(now_s)
        self._end(Signal.ABANDONED if node else Signal.UNCONNECTED, now_s)

    def over(self, now_s: float) -> None:
        """It is not with the endpoint any more; if nothing was learned, it was given up."""
        if not self._judged:
            self._end(Signal.ABANDONED, now_s)
        if self._ask.session:
            self._balancer.sessions.end(self._ask.session, self.endpoint, now_s)

    def _penalize(self, now_s: float, retry_after_s: float = 0.0) -> None:
        self._balancer.history.failed(
            ModelName(self._ask.model),
            self.endpoint,
            now_s - self.sent_s,
            retry_after_s=retry_after_s,
            now_s=now_s,
        )

    def _end(self, signal: Signal, now_s: float) -> None:
        self._judged = True
        if self._balancer.breakers.ended(self.endpoint, signal, self._era, now_s, self._draw()):
            self._balancer.phase_changed(self.endpoint, now_s)


def cache_blocks(endpoint: Endpoint) -> int:
    """Blocks of prompts that ``endpoint`` is believed to keep: a context for each slot, where it is known."""
    if not endpoint.context_length:
        return REPLICA_BLOCKS
    return min((endpoint.slots or ASSUMED_SLOTS) * endpoint.context_length // BLOCK_TOKENS, REPLICA_BLOCKS)
