"""Of many candidates few are made. Docstrings name the mutants seen to be killed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from sidecar.core.candidate import Candidate
from sidecar.core.candidates import Candidates, ids_of, places_of
from sidecar.core.choosing import FULL_SCAN, Chooser
from sidecar.core.cost import Ask
from sidecar.core.estimates_history import History
from sidecar.core.prefix_index import PrefixIndex
from sidecar.core.session import Sessions
from swarmplane.ids import BackendName, EndpointId, NodeId
from swarmplane.routes import Endpoint

HOME = NodeId("n050")
ASK = Ask("m", prompt_tokens=100)


def swarm(count: int, busy: frozenset[str] = frozenset()) -> Candidates:
    endpoints = [
        Endpoint(EndpointId(f"n{n:03}/b/m"), NodeId(f"n{n:03}"), BackendName("b"), "m", slots=2)
        for n in range(count)
    ]

    def make(endpoint: Endpoint) -> Candidate:
        load = 2 if endpoint.node in busy else 0
        local = endpoint.node == HOME
        return Candidate(endpoint, local, in_flight=load, slots=2, load_known=True)

    return Candidates(endpoints, HOME, make)


def chooser() -> Chooser:
    return Chooser(History(), PrefixIndex(), Sessions())


def test_each_is_made_once_and_only_when_it_is_looked_at() -> None:
    """Kills: all made at once, made anew each time, places off by one."""
    found = swarm(100)
    assert len(found) == 100
    assert found.made == 0
    assert ids_of(found)[7] == "n007/b/m"
    assert ids_of(found) is ids_of(found)
    assert found.known.by_id is found.known.by_id
    assert places_of(found, local=True) == found.places(local=True) == [50]
    assert len(found.places(local=False)) == 99
    assert found.made == 0
    assert found[7] is found[7]
    assert [c.endpoint.node for c in found[98:]] == ["n098", "n099"]
    assert found.made == 3
    made = tuple(found)
    assert ids_of(made) == ids_of(found)
    assert places_of(made, local=True) == [50]


@pytest.mark.parametrize(
    "strategy", ["least_cost", "latency", "least_load", "local_spillover", "local_first"]
)
@pytest.mark.parametrize("draw", [0.0, 0.3, 0.999])
def test_a_pick_among_a_hundred_makes_a_few(strategy: str, draw: float) -> None:
    """Kills: ids read off candidates, the others ordered before they are asked for."""
    found = swarm(100)
    choice = chooser().choose(found, ASK, strategy=strategy, draw=draw, now_s=0.0)
    first = next(choice)
    assert found.made <= 4
    if strategy.startswith("local"):
        assert first.local
    given = [first, *choice]
    assert Counter(c.endpoint.id for c in given) == Counter(ids_of(found)), "all of them, each once"


@pytest.mark.parametrize("strategy", ["least_cost", "least_load", "local_spillover"])
def test_nobody_waits_beside_a_free_slot_that_was_not_drawn(strategy: str) -> None:
    """Kills: the sample alone, a free one given twice."""
    all_but_one = frozenset(f"n{n:03}" for n in range(100)) - {"n033"}
    for count in (1, 2):
        busy = all_but_one if count == 1 else all_but_one - {"n077"}
        for step in range(10):
            found = swarm(100, busy)
            choice = chooser().choose(found, ASK, strategy=strategy, draw=step / 10, now_s=0.0)
            given = list(choice)
            assert given[0].endpoint.node not in busy
            assert len({c.endpoint.id for c in given}) == len(given) == 100


def test_few_are_all_compared() -> None:
    found = swarm(FULL_SCAN)
    next(chooser().choose(found, ASK, strategy="least_load", draw=0.5, now_s=0.0))
    assert found.made == FULL_SCAN


@pytest.mark.parametrize("strategy", ["local_spillover", "local_first"])
def test_of_many_own_endpoints_two_are_compared(strategy: str) -> None:
    """Kills: all of them compared because they are at home."""
    everywhere = Candidates(
        [replace(endpoint, node=NodeId("")) for endpoint in swarm(100).endpoints],
        NodeId(""),
        lambda endpoint: Candidate(endpoint, local=True, slots=2, load_known=True),
    )
    choice = chooser().choose(everywhere, ASK, strategy=strategy, draw=0.4, now_s=0.0)
    assert next(choice).local
    assert everywhere.made <= 4
