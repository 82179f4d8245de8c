"""Which node pulls. Mutants that were tried and are killed: named in the tests."""

from __future__ import annotations

import pytest

from controlplane.core.fallbacks import check_fallbacks
from controlplane.core.happenings import PullRow, pull_happening
from controlplane.core.pulling import AGAIN_S, SILENT_S, Place, best_place, may_begin
from swarmplane.errors import InvalidRequestError
from swarmplane.fallbacks import MOST_MODELS, MOST_RULES, FallbackPolicy, FallbackRule
from swarmplane.ids import BackendName, NodeId
from swarmplane.inventory import Backend, BackendModel, Inventory, ModelState
from swarmplane.pulls import DONE, FAILED, RUNNING


def place(
    name: str, *, memory: int = 100, loaded: int = 0, cold: int = 0, kind: str = "ollama", pulls: int = 0,
    healthy: bool = True,
) -> Place:  # fmt: skip
    models = (
        BackendModel("a", size_bytes=loaded),
        BackendModel("b", size_bytes=cold, state=ModelState.COLD),
    )
    backends = (
        Backend(BackendName("x"), "vllm"),
        Backend(BackendName("o"), kind, healthy=healthy, models=models),
    )
    return Place(NodeId(name), Inventory(backends, memory), pulls)


@pytest.mark.parametrize(
    ("places", "best"),
    [
        ([place("a", memory=10), place("b", memory=20)], "b"),
        ([place("a", memory=30, loaded=25), place("b", memory=20)], "b"),
        ([place("a", memory=30, cold=25), place("b", memory=20)], "a"),
        ([place("a", memory=99, pulls=1), place("b", memory=20)], "b"),
        ([place("b"), place("a")], "a"),
        (
            [place("a", kind="vllm"), place("b", healthy=False), place("c", memory=1)],
            "c",
        ),
    ],
    ids=["memory", "loaded", "cold", "busy", "tie", "kind"],
)
def test_the_best_place(places: list[Place], best: str) -> None:
    """Kills: least memory, cold models counted, busy nodes first, backends that can't pull."""
    assert best_place(places) == (best, "o")


def test_no_place() -> None:
    assert best_place([place("a", kind="openai")]) is None


@pytest.mark.parametrize(
    ("state", "silent_s", "there", "may"),
    [
        (RUNNING, 0, True, False),
        (RUNNING, SILENT_S, True, True),
        (RUNNING, 0, False, True),
        (FAILED, AGAIN_S - 1, True, False),
        (FAILED, AGAIN_S, True, True),
        (DONE, 0, True, True),
    ],
)
def test_when_a_pull_begins_again(state: str, silent_s: float, there: bool, may: bool) -> None:
    """Kills: two at a time, a dead node waited for, a failure repeated at once, a deleted model gone."""
    assert may_begin(state, silent_s, there=there) is may


def test_what_is_told_of_a_pull() -> None:
    """Kills: ends told as progress, progress without a total, a record that was deleted."""
    begun = PullRow(RUNNING, "ada")
    half, failed = PullRow(RUNNING, "ada", 5, 10), PullRow(FAILED, "ada", 5, 10, "no space")
    rows = [
        (None, begun, ("model.pulling", "ada pulls m")),
        (begun, half, ("model.pulling", "ada pulls m, 50 %")),
        (half, PullRow(DONE, "ada", 10, 10), ("model.pulled", "ada has pulled m")),
        (half, failed, ("model.pull_failed", "ada could not pull m: no space")),
    ]
    for before, after, told in rows:
        found = pull_happening("m", before, after)
        assert found is not None
        assert (found.kind, found.message) == told
    assert pull_happening("m", half, half) is None
    assert pull_happening("m", half, None) is None


def test_fallbacks_that_make_sense_may_be_set() -> None:
    """Each refusal stands in the tests of the service."""
    rules = (FallbackRule(("n",), "gpt-*", "chat", 1, 2), FallbackRule(("n",)))
    check_fallbacks("", (), FallbackPolicy(rules, substitute_loaded=True, auto_pull=("*",)))
    check_fallbacks("m", ("n",), FallbackPolicy())
    check_fallbacks("", (), FallbackPolicy((FallbackRule(("n",)),) * MOST_RULES, auto_pull=("*",) * 64))
    check_fallbacks("m", ("n",) * MOST_MODELS, FallbackPolicy())


@pytest.mark.parametrize(
    ("model", "chain", "policy"),
    [
        pytest.param("", (), FallbackPolicy(auto_pull=("*",) * 65), id="too-many-to-pull"),
        pytest.param("m", (), FallbackPolicy(substitute_loaded=True), id="of-the-swarm-only"),
        pytest.param("", ("n",), FallbackPolicy(), id="of-a-model-only"),
        pytest.param("", (), FallbackPolicy((FallbackRule(("n",)),) * (MOST_RULES + 1)), id="too-many-rules"),
        pytest.param("m", ("n",) * (MOST_MODELS + 1), FallbackPolicy(), id="too-long-a-chain"),
        pytest.param("", (), FallbackPolicy((FallbackRule(()),)), id="nobody"),
        pytest.param("", (), FallbackPolicy((FallbackRule(("n",), category="poem"),)), id="no-category"),
        pytest.param("", (), FallbackPolicy((FallbackRule(("n",), "", "", 2, 2),)), id="no-size"),
        pytest.param("", (), FallbackPolicy((FallbackRule(("",)),)), id="no-name"),
        pytest.param("", (), FallbackPolicy(auto_pull=("*" * 200,)), id="too-many-stars"),
    ],
)
def test_fallbacks_that_make_none_are_refused(
    model: str, chain: tuple[str, ...], policy: FallbackPolicy
) -> None:
    """Kills: a bound off by one, any of the looks left out."""
    with pytest.raises(InvalidRequestError):
        check_fallbacks(model, chain, policy)
