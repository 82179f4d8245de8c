"""Aliases in compiled routes."""

from __future__ import annotations

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
