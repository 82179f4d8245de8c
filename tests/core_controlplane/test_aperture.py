"""Apertures: bounded, the same everywhere, and hardly moved by a change.

Mutants that were tried and are killed: a run that does not wrap around the ring; the bound of WHOLE off by
one, on models and on the swarm; rings kept when endpoints changed; the version left alone by a change, or
moved by none; models that nobody uses told as well; the ring ordered by id; the node left out of the start.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.aperture import SIZE, WHOLE, Apertures
from swarmplane.ids import EndpointId, ModelName, NodeId

BIG, SMALL = ModelName("big"), ModelName("small")


def endpoints(count: int, model: str = "big") -> tuple[EndpointId, ...]:
    return tuple(EndpointId(f"node{n}/engine/{model}") for n in range(count))


def heard(found: Apertures, node: str) -> frozenset[EndpointId]:
    """What one that uses the big model hears."""
    told = found.heard(NodeId(node), (BIG,))
    assert told is not None
    return told


def apertures(**models: tuple[EndpointId, ...]) -> Apertures:
    found = Apertures()
    found.replace({ModelName(name): each for name, each in models.items()})
    return found


def test_a_small_swarm_is_heard_of_whole() -> None:
    found = apertures(big=endpoints(40), small=endpoints(WHOLE - 40, "small"))
    assert found.heard(NodeId("a"), ()) is None


def test_in_a_larger_one_only_models_in_use() -> None:
    found = apertures(big=endpoints(40), small=endpoints(WHOLE - 39, "small"))
    assert found.heard(NodeId("a"), ()) == frozenset()
    assert found.heard(NodeId("a"), (SMALL,)) == frozenset(endpoints(WHOLE - 39, "small"))
    assert found.heard(NodeId("a"), (SMALL, ModelName("unknown"))) == frozenset(
        endpoints(WHOLE - 39, "small")
    )
    assert found.heard(NodeId("a"), None) == frozenset((*endpoints(40), *endpoints(WHOLE - 39, "small")))


def test_a_model_is_whole_up_to_the_bound() -> None:
    found = apertures(big=endpoints(WHOLE), small=endpoints(1, "small"))
    assert len(heard(found, "a")) == WHOLE
    found = apertures(big=endpoints(WHOLE + 1), small=endpoints(1, "small"))
    assert len(heard(found, "a")) == SIZE


@given(st.integers(WHOLE + 1, 300), st.text("abcdefgh", min_size=1, max_size=6))
def test_one_endpoint_more_or_less_moves_one(count: int, node: str) -> None:
    before = apertures(big=endpoints(count))
    after = apertures(big=endpoints(count + 1))
    old, new = heard(before, node), heard(after, node)
    assert len(old) == len(new) == SIZE
    assert len(new - old) == len(old - new) <= 1


@given(st.permutations(endpoints(80)))
def test_the_order_in_which_endpoints_come_does_not_matter(shuffled: list[EndpointId]) -> None:
    assert heard(apertures(big=tuple(shuffled)), "n") == heard(apertures(big=endpoints(80)), "n")


def test_every_endpoint_is_heard_by_some_and_by_about_as_many() -> None:
    found = apertures(big=endpoints(300))
    told = Counter(e for n in range(600) for e in heard(found, f"sidecar{n}"))
    mean = 600 * SIZE / 300
    assert len(told) == 300
    assert max(told.values()) < 2 * mean
    assert min(told.values()) > mean / 2.5


def test_a_change_is_told_by_the_version() -> None:
    found = apertures(big=endpoints(100))
    version = found.version
    found.replace({BIG: endpoints(100)})
    assert found.version == version
    before = heard(found, "a")
    found.replace({BIG: endpoints(100)[50:], SMALL: endpoints(40, "small")})
    assert found.version == version + 1
    assert heard(found, "a") == {*endpoints(100)[50:]} != before
    found.replace({SMALL: endpoints(40, "small")})
    assert found.heard(NodeId("a"), (BIG,)) is None
