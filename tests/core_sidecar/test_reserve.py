"""Models of providers: found by the names that they have there, and kept from who must not go there.

Mutants that were tried and are killed: own models taken for a provider's, one of several names lost, upper
case kept, any provider a reserve, one that wants to be named asked unasked, local ones sent to a provider.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.candidate import Candidate
from sidecar.core.lookup import RouteIndex
from sidecar.core.reserve import allowed, clouds, is_reserve
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId
from swarmplane.providers import kind_of
from swarmplane.routes import Endpoint, ModelRoute

OWN = "ollama"
LAST, NAMED = kind_of("openai", "last"), kind_of("openai", "named")


def _endpoint(name: str, kind: str) -> Endpoint:
    return Endpoint(EndpointId(f"n/b/{name}/{kind}"), NodeId("n"), BackendName("b"), name, kind=kind)


def _route(name: str, *kinds: str) -> ModelRoute:
    return ModelRoute(ModelName(name), tuple(_endpoint(name, kind) for kind in kinds))


ROUTES = {
    one.name: one
    for one in (
        _route("gpt", OWN),
        _route("a:GPT", LAST),
        _route("b:gpt", NAMED, LAST),
        _route("c:other", NAMED),
        _route("llama:gpt", OWN),
        _route("gone"),
    )
}


def test_providers_models_are_found_by_what_they_are_called_there() -> None:
    assert clouds(ROUTES) == {"gpt": ("a:GPT", "b:gpt"), "other": ("c:other",)}
    index = RouteIndex(ROUTES)
    assert [index.clouds(asked) for asked in ("gpt", "Gpt", "b:gpt", "llama")] == [
        ("a:GPT", "b:gpt"), ("a:GPT", "b:gpt"), (), ()
    ]  # fmt: skip


def test_a_reserve_is_what_somebody_offers_as_one() -> None:
    assert [name for name, route in ROUTES.items() if is_reserve(route)] == ["a:GPT", "b:gpt"]


@pytest.mark.parametrize(
    ("local_only", "unasked", "left"),
    [
        pytest.param(False, False, [OWN, LAST, NAMED], id="who-names-it-may-ask-any"),
        pytest.param(False, True, [OWN, LAST], id="who-does-not-may-ask-the-reserve"),
        pytest.param(True, False, [OWN], id="what-stays-here-goes-to-no-provider"),
        pytest.param(True, True, [OWN], id="whoever-names-it"),
    ],
)
def test_who_may_be_asked(local_only: bool, unasked: bool, left: list[str]) -> None:
    there = [Candidate(_endpoint("m", kind), local=True) for kind in (OWN, LAST, NAMED)]
    found = allowed(there, local_only=local_only, unasked=unasked)
    assert [one.endpoint.kind for one in found] == left
    own = there[:1]
    assert allowed(own, local_only=local_only, unasked=unasked) is own


uses = st.sampled_from(("", "last", "named", "never"))


@given(st.lists(uses, max_size=8), st.booleans(), st.booleans())
def test_who_is_left_is_who_was_there_less_the_barred(
    found: list[str], local_only: bool, unasked: bool
) -> None:
    there = [
        Candidate(_endpoint(f"m{n}", kind_of("openai", use) if use else OWN), local=True)
        for n, use in enumerate(found)
    ]
    barred = {"last", "named", "never"} if local_only else {"named", "never"} if unasked else set()
    left = allowed(there, local_only=local_only, unasked=unasked)
    assert list(left) == [one for one, use in zip(there, found, strict=True) if use not in barred]


@given(st.lists(st.tuples(st.sampled_from(("p:M", "q:m", "q:n", "r:m")), uses), unique_by=lambda one: one[0]))
def test_every_model_of_a_provider_is_found_once_by_its_name_there(found: list[tuple[str, str]]) -> None:
    kinds = {name: kind_of("openai", use) if use else OWN for name, use in found}
    routes = {ModelName(name): _route(name, kind) for name, kind in kinds.items()}
    theirs = [name for name, use in found if use]
    assert sorted(name for names in clouds(routes).values() for name in names) == sorted(theirs)
    for asked, names in clouds(routes).items():
        assert {name.partition(":")[2].casefold() for name in names} == {asked}
    assert [is_reserve(route) for route in routes.values()] == [use == "last" for _, use in found]
