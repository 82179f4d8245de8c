"""Slots that nobody names are learned, and then requests wait here, by class and share, not at the backend.

Mutants seen to be killed: told slots overruled, quick backends limited, samples of failures, every request
sampled, whole answers sampled, learning that cannot be turned off.
"""

from __future__ import annotations

import contextlib
import itertools

import pytest

from sidecar.core.load import format_load
from sidecar.dataplane.learned_slots import LearnedSlots
from swarmplane.ids import EndpointId
from tests.fakes.backend import Behaviour, FakeBackend
from tests.fakes.dataplane import CHAT, STREAM, Node, Served, client, running_node

E, F = EndpointId("n/one/m"), EndpointId("n/two/m")


def in_turns(waits: float, rounds: int = 40) -> LearnedSlots:
    """One request alone, then eight at a time at a backend that serves one after the other."""
    learned = LearnedSlots()
    learned.know([E], learn=True)
    learned.sample(E, waits, in_flight=1, size_bytes=100, now_s=0.0)
    for _, ahead in zip(range(rounds), itertools.cycle(range(8)), strict=False):
        learned.sample(E, waits * (ahead + 1), in_flight=8, size_bytes=100, now_s=1.0)
    return learned


def test_a_backend_that_serves_in_turns_gets_a_limit() -> None:
    learned = in_turns(2.0)
    assert 1 <= learned.limit(E) < 8
    assert learned.limit(F) == 0


def test_quick_backends_are_never_limited() -> None:
    """Waits that nobody notices are cheaper at the backend than here."""
    assert in_turns(0.05).limit(E) == 0


def test_long_prompts_are_no_queue() -> None:
    learned = LearnedSlots()
    learned.know([E], learn=True)
    for tokens in (10, 10_000) * 20:
        learned.sample(E, 0.5 + tokens / 1000, in_flight=3, size_bytes=4 * tokens, now_s=0.0)
    assert learned.limit(E) == 0


def test_one_sample_for_each_endpoint_and_tick() -> None:
    learned = LearnedSlots()
    learned.know([E, F], learn=True)
    learned.refill()
    assert learned.wanted == {E, F}
    learned.wanted.discard(E)
    learned.refill()
    assert learned.wanted == {E, F}
    learned.know([F], learn=True)
    assert learned.wanted == {F}
    assert not learned.sample(E, 9.0, in_flight=1, size_bytes=0, now_s=0.0)


def test_without_learning_only_who_refused_is_watched() -> None:
    learned = LearnedSlots()
    learned.know([E, F], learn=False)
    learned.refill()
    assert not learned.wanted
    learned.refused(E, 5, 0.0, 0.0)
    learned.refill()
    assert (learned.wanted, learned.limit(E)) == ({E}, 4)
    learned.know([F], learn=False)
    learned.know([E, F], learn=False)
    assert learned.limit(E) == 0, "what has gone is forgotten"


def key(node: Node) -> EndpointId:
    return EndpointId(f"{node.id}/one/m1")


async def test_what_was_learned_makes_requests_wait_here_and_is_told_to_others(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend)}) as node, contextlib.AsyncExitStack() as stack:
        endpoint, owner = key(node), node.plane.owner
        assert endpoint not in owner.lines
        for _ in range(12):
            owner.learn(endpoint, 2.0, in_flight=1, size_bytes=10)
        for _ in range(12):
            owner.learn(endpoint, 30.0, in_flight=4, size_bytes=10)
        slots = owner.lines[endpoint].limits[endpoint]
        assert 1 <= slots <= 3
        load = node.routes.load_of(endpoint)
        assert load is not None
        assert load.slots == slots
        assert node.routes.load_text(endpoint) == format_load(load), "answers say it as reports do"
        backend.default = Behaviour(delay_s=0.3)
        many = [await stack.enter_async_context(client(node)) for _ in range(5)]
        for one in many:
            one.post(CHAT)
        assert [(await one.answer()).status for one in many] == [200] * 5
        assert backend.most_running < 5, "some waited here, though the limit grows with every quick answer"


@pytest.mark.parametrize("slots", [0, 3])
async def test_first_tokens_of_requests_are_the_samples(backend: FakeBackend, slots: int) -> None:
    async with running_node(served={"one": Served(backend, slots=slots)}) as node, client(node) as http:
        learned = node.plane.owner.learned
        learned.refill()
        assert bool(learned.wanted) is not bool(slots)
        backend.script.append(Behaviour(status=400))
        assert (await http.ask(CHAT)).status == 400
        assert not learned._limits, "an error is no first token"
        learned.refill()
        assert (await http.ask(STREAM)).status == 200
        assert (key(node) in learned._limits) is not bool(slots)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_how_long_a_whole_answer_takes_says_nothing(backend: FakeBackend, framing: str) -> None:
    """Its length is its own: long answers beside short ones were taken for a queue, down to one slot."""
    async with running_node(served={"one": Served(backend)}) as node, client(node) as http:
        learned = node.plane.owner.learned
        for _ in range(3):
            learned.refill()
            backend.script.append(Behaviour(framing=framing))
            assert (await http.ask(CHAT)).status == 200
        assert not learned._limits
