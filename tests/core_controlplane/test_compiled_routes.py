"""Routes from what stands in the store. Docstrings name the mutants seen to be killed."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.names import is_backend_name, is_model_name, is_spelling
from controlplane.core.routes import (
    MOST_ALIKE,
    MOST_OF_A_NODE,
    NodeFacts,
    compile_routes,
    route_changes,
    takes_away,
)
from swarmplane.ids import BackendName, ModelName, NodeId
from swarmplane.inventory import Backend, BackendModel, Inventory, ModelState
from swarmplane.routes import ModelRoute


def node(number: int, *models: BackendModel, healthy: bool = True, **facts: bool) -> NodeFacts:
    backend = Backend(BackendName("b"), "openai", healthy, models=models, slots=4)
    return NodeFacts(NodeId(f"n{number}"), Inventory((backend,)), **facts)


def model(
    name: str = "m", state: ModelState = ModelState.LOADED, canonical: str | None = None
) -> BackendModel:
    return BackendModel(name, ModelName(canonical) if canonical else None, state, context_length=2048)


def ids(route: ModelRoute) -> list[str]:
    return [endpoint.id for endpoint in route.endpoints]


@pytest.mark.parametrize(
    ("facts", "endpoints"),
    [
        pytest.param(node(1, model()), [("n1/b/m", True, False)], id="loaded"),
        pytest.param(node(1, model(state=ModelState.COLD)), [("n1/b/m", True, False)], id="loads-when-asked"),
        pytest.param(node(1, model(state=ModelState.LOADING)), [("n1/b/m", False, False)], id="loading"),
        pytest.param(node(1, model(state=ModelState.FAILED)), [], id="failed"),
        pytest.param(node(1, model(), healthy=False), [], id="backend-does-not-answer"),
        pytest.param(node(1, model(), routable=False), [], id="gone-but-known"),
        pytest.param(node(1, model(), cordoned=True), [("n1/b/m", True, True)], id="cordoned"),
    ],
)
def test_what_of_a_node_is_routable(facts: NodeFacts, endpoints: list[tuple[str, bool, bool]]) -> None:
    """Kills: each condition dropped, names dropped with the endpoints."""
    routes = compile_routes([facts])
    assert list(routes) == ["m"]
    assert [(e.id, e.ready, e.draining) for e in routes[ModelName("m")].endpoints] == endpoints


def test_an_endpoint_has_the_figures_of_its_backend() -> None:
    (endpoint,) = compile_routes([node(1, model("file.gguf", canonical="m"))])[ModelName("m")].endpoints
    assert (endpoint.node, endpoint.backend, endpoint.model) == ("n1", "b", "file.gguf")
    assert (endpoint.slots, endpoint.context_length) == (4, 2048)


def test_names_are_forgotten_with_their_last_node() -> None:
    """Kills: forgotten ignored, forgetting a name that another node has."""
    assert compile_routes([node(1, model(), routable=False, forgotten=True)]) == {}
    routes = compile_routes([node(1, model(), routable=False, forgotten=True), node(2, model())])
    assert ids(routes[ModelName("m")]) == ["n2/b/m"]


def test_names_that_the_store_can_not_hold_are_left_out() -> None:
    assert list(compile_routes([node(1, model("\x00"), model("ok"))])) == ["ok"]


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("llama-3:8b", True),
        ("org/model name", True),
        ("", False),
        ("a\nb", False),
        ("x" * 256, True),
        ("x" * 257, False),
        ("\N{GRINNING FACE}" * 251, False),
    ],
)
def test_model_names(name: str, good: bool) -> None:
    assert is_model_name(name) is good


facts = st.builds(
    node,
    st.integers(0, 5),
    st.builds(model, st.sampled_from(["a", "b", "c"]), st.sampled_from(ModelState)),
    healthy=st.booleans(),
    routable=st.booleans(),
    cordoned=st.booleans(),
)


@given(st.lists(facts, max_size=6, unique_by=lambda found: found.id), st.randoms(use_true_random=False))
def test_the_order_of_nodes_does_not_matter(found: list[NodeFacts], shuffle: random.Random) -> None:
    """Kills: unsorted endpoints, unsorted names."""
    shuffled = list(found)
    shuffle.shuffle(shuffled)
    assert list(compile_routes(found).items()) == list(compile_routes(shuffled).items())


@given(
    st.lists(facts, max_size=6, unique_by=lambda f: f.id),
    st.lists(facts, max_size=6, unique_by=lambda f: f.id),
)
def test_changes_lead_from_what_stands_to_what_should(
    before: list[NodeFacts], after: list[NodeFacts]
) -> None:
    """Kills: nothing removed, revisions compared, everything put."""
    standing = {name: replace(route, revision=9) for name, route in compile_routes(before).items()}
    wanted = compile_routes(after)
    changes = route_changes(standing, wanted)
    result = {name: route for name, route in standing.items() if name not in changes.removed}
    result.update({route.name: route for route in changes.put})
    assert {name: replace(route, revision=0) for name, route in result.items()} == dict(wanted)
    assert not any(
        route == replace(standing[route.name], revision=0) for route in changes.put if route.name in standing
    )


def test_what_takes_away_goes_at_once() -> None:
    """Kills: additions counted, cordon and loading not counted, deletion not counted."""
    one = compile_routes([node(1, model())])[ModelName("m")]
    two = compile_routes([node(1, model()), node(2, model())])[ModelName("m")]
    cordoned = compile_routes([node(1, model(), cordoned=True)])[ModelName("m")]
    loading = compile_routes([node(1, model(state=ModelState.LOADING))])[ModelName("m")]
    assert not takes_away(None, one)
    assert not takes_away(one, two)
    assert takes_away(two, one)
    assert takes_away(one, None)
    assert takes_away(one, cordoned)
    assert takes_away(one, loading)
    assert not takes_away(loading, one)


def test_one_node_fills_nobodys_table() -> None:
    """Kills: each of both limits dropped; what is left out counted; the limits shared by all nodes."""
    many = node(1, *(model(f"m{n}") for n in range(MOST_OF_A_NODE + 10)))
    alike = tuple(
        Backend(BackendName(f"b{n}"), "openai", healthy=True, models=(model(),))
        for n in range(2 * MOST_ALIKE)
    )
    twins = [
        NodeFacts(
            NodeId(f"n{n}"),
            Inventory((*alike, Backend(BackendName("c"), "openai", True, models=(model("o"),)))),
        )
        for n in (2, 3)
    ]
    assert len(compile_routes([many])) == MOST_OF_A_NODE
    routes = compile_routes(twins)
    assert len(routes[ModelName("m")].endpoints) == 2 * MOST_ALIKE
    assert len(routes[ModelName("o")].endpoints) == 2


@pytest.mark.parametrize("name", ["", "b" * 129, "a\nb"])
def test_an_impossible_backend_is_left_out(name: str) -> None:
    """Kills: the check dropped, an end of the range dropped."""
    backend = Backend(BackendName(name), "openai", healthy=True, models=(model("a"),))
    assert not is_backend_name(name)
    assert is_backend_name("b" * 128)
    assert list(compile_routes([NodeFacts(NodeId("n1"), Inventory((backend,))), node(2, model("b"))])) == [
        "b"
    ]


def test_a_model_with_an_absurd_spelling_is_left_out() -> None:
    """Kills: the check dropped, either end moved."""
    assert [is_spelling(text) for text in ("", "a", "/" * 512, "/" * 513)] == [False, True, True, False]
    assert not compile_routes([node(1, model("f" * 513, canonical="m"))])
