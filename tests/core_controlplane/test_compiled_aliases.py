"""Aliases in compiled routes.

Mutants that were tried and are killed: those of the first test, one that hides another model's name, own
aliases lost, an order that depends on the store, a model that is known by another name not found.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.aliases import with_aliases
from swarmplane.ids import ModelName
from swarmplane.routes import ModelRoute

M, N = ModelName("m"), ModelName("n")


def test_aliases_stand_in_the_routes_of_their_models() -> None:
    """Kills: not sorted, those of other models, one of a model nobody has, further names lost or doubled."""
    routes = {M: ModelRoute(M, aliases=("m-q8",)), N: ModelRoute(N)}
    aliases = {"z": M, "a-*": M, "gone": ModelName("gone"), "m-q8": N, "by": ModelName("m-q8")}
    wanted = {M: ModelRoute(M, aliases=("m-q8", "a-*", "by", "z")), N: ModelRoute(N)}
    found = with_aliases(routes, aliases)
    assert found == wanted
    assert found[N] is routes[N]


names = st.sampled_from(("m", "n", "x", "m-q8", "a-*", "b"))


@given(st.dictionaries(names, names), st.lists(st.sampled_from(("m-q8", "a-*", "b")), unique=True))
def test_an_alias_leads_to_one_model_and_hides_nothing(aliases: dict[str, str], further: list[str]) -> None:
    own = tuple(further)
    routes = {M: ModelRoute(M, aliases=own), N: ModelRoute(N)}
    found = with_aliases(routes, {alias: ModelName(model) for alias, model in aliases.items()})
    assert found.keys() == routes.keys()
    assert found[M].aliases[: len(own)] == own
    laid = {M: found[M].aliases[len(own) :], N: found[N].aliases}
    assert all(list(one) == sorted(one) for one in laid.values())
    holder = {"m": M, "n": N, **dict.fromkeys(further, M)}
    expected = {
        alias: holder[model] for alias, model in aliases.items() if model in holder and alias not in own
    }
    assert {alias: model for model, held in laid.items() for alias in held} == expected
