from __future__ import annotations

from types import MappingProxyType

from hypothesis import example, given
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
aliases = names | st.builds(lambda a, b: f"{a}*{b}", names, st.text("aAb", max_size=1)) | st.just("a*b*")
routes = st.lists(
    st.builds(lambda n, a: ModelRoute(ModelName(n), aliases=tuple(a)), names, st.lists(aliases, max_size=3)),
    max_size=5,
    unique_by=lambda r: r.name,
)


def table(*of: ModelRoute) -> RouteTable:
    return RouteTable(SwarmId("s"), models=MappingProxyType({r.name: r for r in of}))


# Rare among what is drawn, and what mutants live by: names that differ in case, and another one's alias.
@example([ModelRoute(ModelName("ab")), ModelRoute(ModelName("AB"))], "Ab")
@example([ModelRoute(ModelName("b"), aliases=("a",)), ModelRoute(ModelName("A"))], "a")
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


def test_a_name_without_a_tag_stands_for_the_only_one_there_is() -> None:
    """Kills: the first of several tags, a tag taken for a path, a tag asked for taken away."""
    index = RouteIndex(
        table(
            *(ModelRoute(ModelName(n)) for n in ("Qwen3:8b", "llama3:8b", "llama3:70b", "host:80/m"))
        ).models
    )
    assert index.find("qwen3") == ModelRoute(ModelName("Qwen3:8b"))
    for asked in ("llama3", "host", "qwen3:14b"):
        assert index.find(asked) is None


def test_of_patterns_the_one_with_the_most_letters_is_meant() -> None:
    """Kills: the first pattern, the shortest, a pattern before a plain alias."""
    small = ModelRoute(ModelName("small"), aliases=("claude-*", "*"))
    large = ModelRoute(ModelName("large"), aliases=("claude-*-opus*", "claude-haiku"))
    index = RouteIndex(table(small, large).models)
    wanted = {"claude-3-opus": large, "claude-haiku": large, "claude-haiku-2": small, "gpt-4": small}
    assert {asked: index.find(asked) for asked in wanted} == wanted
    assert index.find("gpt-4") == small  # remembered


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
