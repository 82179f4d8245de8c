from __future__ import annotations

from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.lookup import RouteIndex
from swarmplane.ids import ModelName, SwarmId
from swarmplane.routes import ModelRoute, RouteTable

# Few letters, both cases, and the suffix: clashes of every kind are common.
names = st.builds(
    lambda stem, tag: stem + tag,
    st.text("aAbß", max_size=2),
    st.sampled_from(["", ":latest", ":LATEST", ":q8"]),
)
routes = st.lists(
    st.builds(lambda n, a: ModelRoute(ModelName(n), aliases=tuple(a)), names, st.lists(names, max_size=2)),
    max_size=5,
    unique_by=lambda r: r.name,
)


def table(*of: ModelRoute) -> RouteTable:
    return RouteTable(SwarmId("s"), models=MappingProxyType({r.name: r for r in of}))


@given(routes, names)
def test_the_index_agrees_with_a_scan_of_the_table(of: list[ModelRoute], asked: str) -> None:
    """Kills: no casefold on either side, aliases before names, last instead of first, no `:latest`."""
    whole = table(*of)
    assert RouteIndex(whole.models).find(asked) == whole.find(asked)


def test_spellings() -> None:
    """Kills: casefolding aliases, `:latest` taken away instead of added."""
    llama = ModelRoute(ModelName("Llama3:latest"), aliases=("gpt-4o",))
    index = RouteIndex(table(llama, ModelRoute(ModelName("qwen"))).models)
    for asked in ("Llama3:latest", "Llama3", "llama3", "LLAMA3:LATEST", "gpt-4o"):
        assert index.find(asked) == llama
    for asked in ("GPT-4o", "qwen:latest", "llama", "", "llama3:8b"):
        assert index.find(asked) is None


def test_the_same_case_wins_with_the_suffix_too() -> None:
    """Kills: `:latest` looked up in the folded index only."""
    of = [ModelRoute(ModelName(name)) for name in ("foo:latest", "Foo:latest")]
    assert RouteIndex(table(*of).models).find("Foo") == of[1]


def test_an_exact_name_needs_no_folded_index() -> None:
    """Kills: building the folded index for every table."""
    index = RouteIndex(table(ModelRoute(ModelName("m"))).models)
    index.find("m")
    assert index._folded is None  # the point of building it late is that it is not built
    index.find("other")
    folded = index._folded
    index.find("another")
    assert folded is not None
    assert index._folded is folded
